// The RWKV-7 recurrence and its gradient, token by token: one thread a head, states in registers and the nearest cache.
//
//     u_t = S_{t-1}^T a_t,    S_t = diag(w_t) S_{t-1} + b_t u_t^T + k_t v_t^T,    y_t = S_t^T r_t
//
// with the decays w_t = exp(log_decay_t). With x_t the gradient at S_t, of all that reads it, and dy_t that at y_t:
//
//     x_t = diag(w_{t+1}) x_{t+1} + a_{t+1} du_{t+1}^T + r_t dy_t^T,    du_t = x_t^T b_t,    dv_t = x_t^T k_t,
//     dr_t = S_t dy_t,    da_t = S_{t-1} du_t,    dk_t = x_t v_t,    db_t = x_t u_t,
//     dlog_decay_t = w_t times the sums of the rows of x_t * S_{t-1}, entry by entry.
//
// Sums over K run down rows of S and x (lanes are columns), sums over V down rows of their transposes (lanes are keys),
// so that nothing is ever summed across lanes. Kept for the gradient are u and the state before every CHUNK tokens.
//
// B rows of a batch, T tokens, H heads, K key width, V value width; in staged rows both are filled up to 16 with zeros.
// v and y are of type T, float or BFloat16, all else in float.
#include <algorithm>

#include "products.h"

namespace assay {
namespace {

constexpr int64_t CHUNK = 16;
constexpr int64_t TILE = 16 * 16;

struct Place {  // where the entries of a [B, T, H, width] tensor stand, those of a head side by side
  int64_t batch, token, head;
};

struct Sizes {
  int64_t B, T, H, K, V, threads;
  Place r, log_decay, k, v, a, b;

  int64_t keys() const { return up_to(K, 16); }
  int64_t values() const { return up_to(V, 16); }
  int64_t chunks() const { return (T + CHUNK - 1) / CHUNK; }
};

Sizes sizes_of(const int64_t* n) {
  const auto place = [n](int64_t i) { return Place{n[i], n[i + 1], n[i + 2]}; };
  return {n[0], n[1], n[2], n[3], n[4], n[5], place(6), place(9), place(12), place(15), place(18), place(21)};
}

inline __m512 all(const float* x) { return _mm512_set1_ps(*x); }

struct Same {
  __m512 operator()(__m512 x) const { return x; }
};
struct Exponential {
  __m512 operator()(__m512 x) const { return exp(x); }
};

// Rows [count][width] as [count][up_to(width, 16)]. The rows of a head stand far from each other: those of the chunk to
// come, AHEAD tokens on, are asked for now.
template <int64_t AHEAD, typename F = Same, typename T>
void stage(const T* from, int64_t stride, int64_t count, int64_t width, float* to) {
  const int64_t wide = up_to(width, 16);
  for (int64_t t = 0; t < count; ++t) {
    for (int64_t j = 0; j < width * int64_t(sizeof(T)); j += 64) {
      __builtin_prefetch(reinterpret_cast<const char*>(from + (t + AHEAD) * stride) + j);
    }
    for (int64_t j = 0; j < wide; j += 16) store(to + t * wide + j, F()(load(from + t * stride + j, lanes(width - j))));
  }
}

template <typename T>
void unstage(const float* from, int64_t count, int64_t width, T* to, int64_t stride) {
  const int64_t wide = up_to(width, 16);
  for (int64_t t = 0; t < count; ++t) {
    for (int64_t j = 0; j < width; j += 16) store(to + t * stride + j, load(from + t * wide + j), lanes(width - j));
  }
}

// A state [K][V] as tiles by columns, [values / 16][keys][16], and back.
void to_columns(const float* from, const Sizes& n, float* to) {
  for (int64_t j = 0; j < n.values(); j += 16) {
    for (int64_t i = 0; i < n.keys(); ++i, to += 16) {
      store(to, i < n.K ? load(from + i * n.V + j, lanes(n.V - j)) : _mm512_setzero_ps());
    }
  }
}
void from_columns(const float* from, const Sizes& n, float* to) {
  for (int64_t j = 0; j < n.V; j += 16, from += 16 * n.keys()) {
    for (int64_t i = 0; i < n.K; ++i) store(to + i * n.V + j, load(from + i * 16), lanes(n.V - j));
  }
}

// What one token does to rows m [rows][16] of a state or of its gradient, and the two sums over the rows it becomes:
//     m <- diag(decay) m + left1 right1^T + left2 right2^T,    sum1 = m^T read1,    sum2 = m^T read2
struct Step {
  const float *decay, *left1, *right1, *left2, *right2, *read1, *read2;
  float *sum1, *sum2;
};

// `count` steps on the tile at `column`, and on the next one too where N is 2, which stands `apart` behind it. ROWS is
// the number of rows where they fit into registers, else 0.
template <int ROWS, int N, typename At>
void walk(int64_t count, int64_t rows, float* tile, int64_t apart, int64_t column, At at) {
  __m512 held[ROWS > 0 ? ROWS : 1];
#pragma GCC unroll 16
  for (int i = 0; i < ROWS; ++i) held[i] = load(tile + 16 * i);
  for (int64_t step = 0; step < count; ++step) {
    const Step c = at(step);
    __m512 right1[N], right2[N], sum1[N][4], sum2[N][4];
    for (int s = 0; s < N; ++s) {
      right1[s] = load(c.right1 + column + 16 * s);
      right2[s] = load(c.right2 + column + 16 * s);
      for (int q = 0; q < 4; ++q) sum1[s][q] = sum2[s][q] = _mm512_setzero_ps();
    }
    const auto row = [&](int64_t i, int q) __attribute__((always_inline)) {
      const __m512 decay = all(c.decay + i), left1 = all(c.left1 + i), left2 = all(c.left2 + i);
      const __m512 read1 = all(c.read1 + i), read2 = all(c.read2 + i);
#pragma GCC unroll 2
      for (int s = 0; s < N; ++s) {
        float* place = tile + s * apart + 16 * i;
        __m512 m = ROWS > 0 ? held[ROWS > 0 ? i : 0] : load(place);
        m = _mm512_fmadd_ps(left1, right1[s], _mm512_fmadd_ps(decay, m, _mm512_mul_ps(left2, right2[s])));
        sum1[s][q] = _mm512_fmadd_ps(read1, m, sum1[s][q]);
        sum2[s][q] = _mm512_fmadd_ps(read2, m, sum2[s][q]);
        if (ROWS > 0) {
          held[ROWS > 0 ? i : 0] = m;
        } else {
          store(place, m);
        }
      }
    };
    if constexpr (ROWS > 0) {
#pragma GCC unroll 16
      for (int i = 0; i < ROWS; ++i) row(i, i % 4);
    } else {
      for (int64_t i = 0; i < rows; i += 4) {
#pragma GCC unroll 4
        for (int q = 0; q < 4; ++q) row(i + q, q);
      }
    }
    for (int s = 0; s < N; ++s) {
      const auto total = [](const __m512* x) {
        return _mm512_add_ps(_mm512_add_ps(x[0], x[1]), _mm512_add_ps(x[2], x[3]));
      };
      store(c.sum1 + column + 16 * s, total(sum1[s]));
      store(c.sum2 + column + 16 * s, total(sum2[s]));
    }
  }
#pragma GCC unroll 16
  for (int i = 0; i < ROWS; ++i) store(tile + 16 * i, held[i]);
}

// The same on all tiles of a matrix by columns.
template <typename At>
void walk_all(int64_t count, int64_t keys, int64_t values, float* m, At at) {
  const int64_t apart = 16 * keys;
  int64_t j = 0;
  for (; keys > 16 && j + 32 <= values; j += 32) walk<0, 2>(count, keys, m + j * keys, apart, j, at);
  for (; j < values; j += 16) {
    if (keys == 16) {
      walk<16, 1>(count, keys, m + j * keys, apart, j, at);
    } else {
      walk<0, 1>(count, keys, m + j * keys, apart, j, at);
    }
  }
}

template <typename T>
void forward(const float* r, const float* log_decay, const float* k, const T* v, const float* a, const float* b,
             const float* state, T* y, float* final_state, float* states, float* removed, const Sizes& n) {
  const int64_t keys = n.keys(), values = n.values();
  using W = Workspace;
#pragma omp parallel for num_threads(n.threads) schedule(static) if (n.threads > 1)
  for (int64_t task = 0; task < n.B * n.H; ++task) {
    const int64_t batch = task / n.H, head = task % n.H;
    W space(6 * W::bytes_of<float>((CHUNK + 1) * keys) + 3 * W::bytes_of<float>((CHUNK + 1) * values) +
            W::bytes_of<float>(keys * values));
    const auto of_keys = [&] { return space.take<float>((CHUNK + 1) * keys); };
    const auto of_values = [&] { return space.take<float>((CHUNK + 1) * values); };
    float *rs = of_keys(), *ws = of_keys(), *ks = of_keys(), *as = of_keys(), *bs = of_keys(), *none = of_keys();
    float *vs = of_values(), *us = of_values(), *ys = of_values();
    float* m = space.take<float>(keys * values);
    std::fill(none, none + keys, 0.0f);
    to_columns(state + task * n.K * n.V, n, m);

    for (int64_t start = 0; start < n.T; start += CHUNK) {
      const int64_t count = std::min(CHUNK, n.T - start), ahead = std::min(count + 1, n.T - start);
      const auto from = [&](const auto* x, Place p) { return x + batch * p.batch + start * p.token + head * p.head; };
      stage<CHUNK>(from(r, n.r), n.r.token, count, n.K, rs);
      stage<CHUNK, Exponential>(from(log_decay, n.log_decay), n.log_decay.token, count, n.K, ws);
      stage<CHUNK>(from(k, n.k), n.k.token, count, n.K, ks);
      stage<CHUNK>(from(a, n.a), n.a.token, ahead, n.K, as);
      stage<CHUNK>(from(b, n.b), n.b.token, count, n.K, bs);
      stage<CHUNK>(from(v, n.v), n.v.token, count, n.V, vs);
      std::memcpy(states + (task * n.chunks() + start / CHUNK) * keys * values, m, keys * values * sizeof(float));
      if (start == 0) {
        // Nothing but the first u: no decay, nothing added.
        std::fill(ws + keys * CHUNK, ws + keys * (CHUNK + 1), 1.0f);
        walk_all(1, keys, values, m, [&](int64_t) {
          return Step{ws + keys * CHUNK, none, vs, none, vs, as, none, us, ys};
        });
      } else {
        std::memcpy(us, us + CHUNK * values, values * sizeof(float));
      }
      walk_all(count, keys, values, m, [&](int64_t t) {
        const int64_t i = t * keys, j = t * values;
        const float* next = t + 1 < ahead ? as + i + keys : none;
        return Step{ws + i, bs + i, us + j, ks + i, vs + j, next, rs + i, us + j + values, ys + j};
      });
      const int64_t at = ((batch * n.T + start) * n.H + head) * n.V;
      unstage(ys, count, n.V, y + at, n.H * n.V);
      unstage(us, count, n.V, removed + at, n.H * n.V);
    }
    from_columns(m, n, final_state + task * n.K * n.V);
  }
}

// Rows of 16 keys of one tile of the transposed state, from the one before a chunk on through its tokens; what each
// token began with is kept in `history` [count][16][16].
struct Again {
  const float *w, *b, *k;            // [count][keys], at the tile's keys
  const float *u, *v, *dy, *du;      // [count][values], at the tile's columns
  float *dr, *da;                    // [count][keys], added to
  int64_t keys, values;
};

void run_again(int64_t count, const float* tile, const Again& c, float* history) {
  __m512i turned_rows[16];
  for (int j = 0; j < 16; ++j) turned_rows[j] = _mm512_castps_si512(load(tile + 16 * j));
  turn(turned_rows);
  __m512 m[16];
#pragma GCC unroll 16
  for (int j = 0; j < 16; ++j) m[j] = _mm512_castsi512_ps(turned_rows[j]);
  for (int64_t t = 0; t < count; ++t) {
    const int64_t i = t * c.keys;
    const float *u = c.u + t * c.values, *v = c.v + t * c.values, *dy = c.dy + t * c.values, *du = c.du + t * c.values;
    const __m512 w = load(c.w + i), b = load(c.b + i), k = load(c.k + i);
    __m512 dr[2] = {load(c.dr + i), _mm512_setzero_ps()}, da[2] = {load(c.da + i), _mm512_setzero_ps()};
#pragma GCC unroll 16
    for (int j = 0; j < 16; ++j) {
      store(history + t * TILE + 16 * j, m[j]);
      da[j % 2] = _mm512_fmadd_ps(m[j], all(du + j), da[j % 2]);
      m[j] = _mm512_fmadd_ps(b, all(u + j), _mm512_fmadd_ps(w, m[j], _mm512_mul_ps(k, all(v + j))));
      dr[j % 2] = _mm512_fmadd_ps(m[j], all(dy + j), dr[j % 2]);
    }
    store(c.dr + i, _mm512_add_ps(dr[0], dr[1]));
    store(c.da + i, _mm512_add_ps(da[0], da[1]));
  }
}

// The same tile of the transposed gradient back through the chunk; rows `count` of w, a and du are the token after it.
struct Back {
  const float *w, *a, *r;            // [count + 1][keys]
  const float *u, *v, *dy, *du;      // [count + 1][values]
  float *dk, *db, *dw;               // [count][keys], added to
  int64_t keys, values;
};

void run_back(int64_t count, float* tile, const Back& c, const float* history) {
  __m512 x[16];
#pragma GCC unroll 16
  for (int j = 0; j < 16; ++j) x[j] = load(tile + 16 * j);
  for (int64_t t = count - 1; t >= 0; --t) {
    const int64_t i = t * c.keys, later = i + c.keys;
    const float *u = c.u + t * c.values, *v = c.v + t * c.values, *dy = c.dy + t * c.values;
    const float* du = c.du + (t + 1) * c.values;
    const __m512 w = load(c.w + later), a = load(c.a + later), r = load(c.r + i);
    __m512 dk[2] = {load(c.dk + i), _mm512_setzero_ps()}, db[2] = {load(c.db + i), _mm512_setzero_ps()};
    __m512 dw[2] = {load(c.dw + i), _mm512_setzero_ps()};
#pragma GCC unroll 16
    for (int j = 0; j < 16; ++j) {
      x[j] = _mm512_fmadd_ps(a, all(du + j), _mm512_fmadd_ps(w, x[j], _mm512_mul_ps(r, all(dy + j))));
      dk[j % 2] = _mm512_fmadd_ps(x[j], all(v + j), dk[j % 2]);
      db[j % 2] = _mm512_fmadd_ps(x[j], all(u + j), db[j % 2]);
      dw[j % 2] = _mm512_fmadd_ps(x[j], load(history + t * TILE + 16 * j), dw[j % 2]);
    }
    store(c.dk + i, _mm512_add_ps(dk[0], dk[1]));
    store(c.db + i, _mm512_add_ps(db[0], db[1]));
    store(c.dw + i, _mm512_add_ps(dw[0], dw[1]));
  }
#pragma GCC unroll 16
  for (int j = 0; j < 16; ++j) store(tile + 16 * j, x[j]);
}

template <typename T>
struct Gradients {
  float *r, *log_decay, *k;
  T* v;
  float *a, *b, *state;
};

template <typename T>
void gradient(const T* dy, const float* dfinal, const float* r, const float* log_decay, const float* k, const T* v,
              const float* a, const float* b, const float* states, const float* removed, const Gradients<T>& d,
              const Sizes& n) {
  const int64_t keys = n.keys(), values = n.values();
  using W = Workspace;
#pragma omp parallel for num_threads(n.threads) schedule(static) if (n.threads > 1)
  for (int64_t task = 0; task < n.B * n.H; ++task) {
    const int64_t batch = task / n.H, head = task % n.H;
    W space(12 * W::bytes_of<float>((CHUNK + 1) * keys) + 5 * W::bytes_of<float>((CHUNK + 1) * values) +
            2 * W::bytes_of<float>(keys * values) + W::bytes_of<float>(CHUNK * TILE));
    const auto of_keys = [&] { return space.take<float>((CHUNK + 1) * keys); };
    const auto of_values = [&] { return space.take<float>((CHUNK + 1) * values); };
    float *rs = of_keys(), *ws = of_keys(), *ks = of_keys(), *as = of_keys(), *bs = of_keys(), *none = of_keys();
    float *dr = of_keys(), *dw = of_keys(), *dk = of_keys(), *da = of_keys(), *db = of_keys();
    float *vs = of_values(), *us = of_values(), *dys = of_values(), *dus = of_values(), *dvs = of_values();
    float* x = space.take<float>(keys * values);          // by columns
    float* x_turned = space.take<float>(keys * values);   // [values / 16][keys / 16][16 columns][16 keys]
    float* history = space.take<float>(CHUNK * TILE);
    std::fill(none, none + keys, 0.0f);
    to_columns(dfinal + task * n.K * n.V, n, x);
    for (int64_t i = 0; i < keys * values; i += TILE) turned(x + i, 16, 16, 16, x_turned + i, 16);

    for (int64_t chunk = n.chunks() - 1; chunk >= 0; --chunk) {
      const int64_t start = chunk * CHUNK, count = std::min(CHUNK, n.T - start);
      const auto from = [&](const auto* t, Place p) { return t + batch * p.batch + start * p.token + head * p.head; };
      const int64_t at = ((batch * n.T + start) * n.H + head) * n.V;
      if (chunk == n.chunks() - 1) {
        std::fill(ws + count * keys, ws + (count + 1) * keys, 1.0f);
        std::fill(as + count * keys, as + (count + 1) * keys, 0.0f);
        std::fill(dus + count * values, dus + (count + 1) * values, 0.0f);
      } else {
        std::memcpy(ws + count * keys, ws, keys * sizeof(float));
        std::memcpy(as + count * keys, as, keys * sizeof(float));
        std::memcpy(dus + count * values, dus, values * sizeof(float));
      }
      stage<-CHUNK>(from(r, n.r), n.r.token, count, n.K, rs);
      stage<-CHUNK, Exponential>(from(log_decay, n.log_decay), n.log_decay.token, count, n.K, ws);
      stage<-CHUNK>(from(k, n.k), n.k.token, count, n.K, ks);
      stage<-CHUNK>(from(a, n.a), n.a.token, count, n.K, as);
      stage<-CHUNK>(from(b, n.b), n.b.token, count, n.K, bs);
      stage<-CHUNK>(from(v, n.v), n.v.token, count, n.V, vs);
      stage<-CHUNK>(dy + at, n.H * n.V, count, n.V, dys);
      stage<-CHUNK>(removed + at, n.H * n.V, count, n.V, us);
      walk_all(count, keys, values, x, [&](int64_t step) {
        const int64_t t = count - 1 - step, i = t * keys, j = t * values;
        return Step{ws + i + keys, as + i + keys, dus + j + values, rs + i, dys + j, bs + i, ks + i, dus + j, dvs + j};
      });
      for (float* sums : {dr, dw, dk, da, db}) std::fill(sums, sums + count * keys, 0.0f);
      const float* before = states + (task * n.chunks() + chunk) * keys * values;
      for (int64_t j = 0; j < values; j += 16) {
        for (int64_t i = 0; i < keys; i += 16) {
          const int64_t tile = j * keys + 16 * i;
          run_again(count, before + tile,
                    {ws + i, bs + i, ks + i, us + j, vs + j, dys + j, dus + j, dr + i, da + i, keys, values}, history);
          run_back(count, x_turned + tile,
                   {ws + i, as + i, rs + i, us + j, vs + j, dys + j, dus + j, dk + i, db + i, dw + i, keys, values},
                   history);
        }
      }
      for (int64_t i = 0; i < count * keys; i += 16) store(dw + i, _mm512_mul_ps(load(dw + i), load(ws + i)));
      const int64_t to = ((batch * n.T + start) * n.H + head) * n.K;
      unstage(dr, count, n.K, d.r + to, n.H * n.K);
      unstage(dw, count, n.K, d.log_decay + to, n.H * n.K);
      unstage(dk, count, n.K, d.k + to, n.H * n.K);
      unstage(da, count, n.K, d.a + to, n.H * n.K);
      unstage(db, count, n.K, d.b + to, n.H * n.K);
      unstage(dvs, count, n.V, d.v + at, n.H * n.V);
    }
    // What the first token leaves of it for the state before: nothing more added, nothing read.
    walk_all(1, keys, values, x, [&](int64_t) { return Step{ws, as, dus, none, dys, none, none, dvs, dvs}; });
    from_columns(x, n, d.state + task * n.K * n.V);
  }
}

template <typename T>
T* at(void* const* x, int64_t i) {
  return static_cast<T*>(x[i]);
}

template <typename T>
void run_forward(void* const* x, const int64_t* n) {
  using In = const float;
  forward(at<In>(x, 0), at<In>(x, 1), at<In>(x, 2), at<const T>(x, 3), at<In>(x, 4), at<In>(x, 5), at<In>(x, 6),
          at<T>(x, 7), at<float>(x, 8), at<float>(x, 9), at<float>(x, 10), sizes_of(n));
}

template <typename T>
void run_gradient(void* const* x, const int64_t* n) {
  using In = const float;
  const Gradients<T> d{at<float>(x, 10), at<float>(x, 11), at<float>(x, 12), at<T>(x, 13),
                       at<float>(x, 14), at<float>(x, 15), at<float>(x, 16)};
  gradient(at<const T>(x, 0), at<In>(x, 1), at<In>(x, 2), at<In>(x, 3), at<In>(x, 4), at<const T>(x, 5), at<In>(x, 6),
           at<In>(x, 7), at<In>(x, 8), at<In>(x, 9), d, sizes_of(n));
}

}  // namespace
}  // namespace assay

extern "C" {
void wkv7_float32(void* const* x, const int64_t* n) { assay::run_forward<float>(x, n); }
void wkv7_bfloat16(void* const* x, const int64_t* n) { assay::run_forward<assay::BFloat16>(x, n); }
void wkv7_gradient_float32(void* const* x, const int64_t* n) { assay::run_gradient<float>(x, n); }
void wkv7_gradient_bfloat16(void* const* x, const int64_t* n) { assay::run_gradient<assay::BFloat16>(x, n); }
}
