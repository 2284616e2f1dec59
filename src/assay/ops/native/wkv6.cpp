// The RWKV-6 recurrence and its gradient, token by token with tiles of the state in registers.
//
//     y_t = r_t^T (S_{t-1} + diag(u) k_t v_t^T),   S_t = diag(w_t) S_{t-1} + k_t v_t^T,   w_t = exp(log_decay_t)
//
// Nothing is divided by a decay, and no two sums are subtracted: every decay is exact. With chunks half as long as
// heads are wide, products over chunks would take as many operations as this does. Before each segment of tokens the
// state is kept; the gradient walks the segments backwards and forms the states in between anew.
//
// B rows of a batch, T tokens, H heads, K and V widths, `Kp` and `Vp` those filled up to whole tiles with zeros.
#include <algorithm>

#include "products.h"

namespace assay {
namespace {

constexpr int64_t SEGMENT = 32;  // tokens
constexpr int64_t SIDE = 16;     // of a tile

struct Place {  // where the entries of a [B, T, H, width] tensor stand, those of a head side by side
  int64_t batch, token, head;
};

struct Sizes {
  int64_t B, T, H, K, V, threads;
  Place r, k, v, log;
  int64_t Kp, Vp, segments;
};

Sizes sizes_of(const int64_t* n) {
  return {n[0], n[1], n[2], n[3], n[4], n[5], {n[6], n[7], n[8]}, {n[9], n[10], n[11]}, {n[12], n[13], n[14]},
          {n[15], n[16], n[17]}, up_to(n[3], SIDE), up_to(n[4], SIDE), up_to(n[1], SEGMENT) / SEGMENT};
}

// Rows [count][width] as floats, [count][padded].
template <typename T>
void stage(const T* from, int64_t stride, int64_t count, int64_t width, int64_t padded, float* to) {
  for (int64_t t = 0; t < count; ++t) {
    for (int64_t j = 0; j < padded; j += 16) store(to + t * padded + j, load(from + t * stride + j, lanes(width - j)));
  }
}

// Ask for rows early: those of a head stand far apart.
template <typename T>
void ask_for(const T* from, int64_t stride, int64_t count, int64_t width) {
  for (int64_t t = 0; t < count; ++t) {
    const char* row = reinterpret_cast<const char*>(from + t * stride);
    for (int64_t at = 0; at < width * static_cast<int64_t>(sizeof(T)); at += 64) _mm_prefetch(row + at, _MM_HINT_T0);
  }
}

// Rows [count][padded] of floats in T, [count][width].
template <typename T>
void put(const float* from, int64_t padded, int64_t count, int64_t width, T* to, int64_t stride) {
  for (int64_t t = 0; t < count; ++t) {
    for (int64_t j = 0; j < width; j += 16) store(to + t * stride + j, load(from + t * padded + j), lanes(width - j));
  }
}

void exponentials(float* x, int64_t count) {
  for (int64_t j = 0; j < count; j += 16) store(x + j, exp(load(x + j)));
}

float dot(const float* a, const float* b, int64_t width) {
  __m512 sum = _mm512_setzero_ps();
  for (int64_t j = 0; j < width; j += 16) sum = _mm512_fmadd_ps(load(a + j), load(b + j), sum);
  return _mm512_reduce_add_ps(sum);
}

float dot(const float* a, const float* b, const float* c, int64_t width) {
  __m512 sum = _mm512_setzero_ps();
  for (int64_t j = 0; j < width; j += 16) {
    sum = _mm512_fmadd_ps(_mm512_mul_ps(load(a + j), load(b + j)), load(c + j), sum);
  }
  return _mm512_reduce_add_ps(sum);
}

// to [width][ld_to] = the transpose of from [rows][ld]; zeros up to whole tiles, which `to` has room for.
void turn_filled(const float* from, int64_t ld, int64_t rows, int64_t width, float* to, int64_t ld_to) {
  for (int64_t i = 0; i < rows; i += SIDE) {
    for (int64_t j = 0; j < width; j += SIDE) {
      __m512i tile[SIDE];
      for (int64_t s = 0; s < SIDE; ++s) {
        const __mmask16 some = i + s < rows ? lanes(width - j) : 0;
        tile[s] = load_bits(from + (i + s) * ld + j, some);
      }
      turn(tile);
      for (int64_t s = 0; s < SIDE; ++s) _mm512_storeu_si512(to + (j + s) * ld_to + i, tile[s]);
    }
  }
}

// A tile of 16 keys and 16 values through `count` tokens: adds r^T S to `out` and leaves the state after the last.
void walk(float* state, const float* r, const float* k, const float* w, const float* v, float* out, int64_t count,
          int64_t Kp, int64_t Vp) {
  __m512 s[SIDE];
#pragma GCC unroll 16
  for (int i = 0; i < SIDE; ++i) s[i] = load(state + i * Vp);
  for (int64_t t = 0; t < count; ++t, r += Kp, k += Kp, w += Kp, v += Vp, out += Vp) {
    const __m512 value = load(v);
    __m512 sum[4] = {load(out), _mm512_setzero_ps(), _mm512_setzero_ps(), _mm512_setzero_ps()};
#pragma GCC unroll 16
    for (int i = 0; i < SIDE; ++i) {
      sum[i % 4] = _mm512_fmadd_ps(s[i], _mm512_set1_ps(r[i]), sum[i % 4]);
      s[i] = _mm512_fmadd_ps(value, _mm512_set1_ps(k[i]), _mm512_mul_ps(s[i], _mm512_set1_ps(w[i])));
    }
    store(out, _mm512_add_ps(_mm512_add_ps(sum[0], sum[1]), _mm512_add_ps(sum[2], sum[3])));
  }
#pragma GCC unroll 16
  for (int i = 0; i < SIDE; ++i) store(state + i * Vp, s[i]);
}

// Of each of four rows four sums, each of the 16-byte parts [a b c d], over its quarter of the products with k.
struct Doubled {
  __m512 low, high;
};
inline __m512 two_sums(__m512 a, __m512 b, Doubled k) {
  return _mm512_fmadd_ps(_mm512_unpackhi_ps(a, b), k.high, _mm512_mul_ps(_mm512_unpacklo_ps(a, b), k.low));
}
inline __m512 four_sums(const __m512* rows, Doubled k) {
  const __m512d ab = _mm512_castps_pd(two_sums(rows[0], rows[1], k));
  const __m512d cd = _mm512_castps_pd(two_sums(rows[2], rows[3], k));
  return _mm512_add_ps(_mm512_castpd_ps(_mm512_unpacklo_pd(ab, cd)), _mm512_castpd_ps(_mm512_unpackhi_pd(ab, cd)));
}
inline __m512 joined(__m512 a, __m512 b) {
  return _mm512_add_ps(_mm512_shuffle_f32x4(a, b, 0x88), _mm512_shuffle_f32x4(a, b, 0xdd));
}

struct Rows {  // of a segment, from the first key or value of a tile on
  const float *r, *k, *w, *v, *dy;
  float *dr, *dk, *dw, *dv;
};

// A tile of 16 values (rows) and 16 keys through `count` tokens, forwards from `state`, keeping each token's state in
// `states`, and backwards: `slope`, the gradient at the state after the last, becomes that at the one before the first.
void walk_back(const float* state, float* slope, float* states, const Rows& x, int64_t count, int64_t Kp, int64_t Vp) {
  __m512 s[SIDE];
#pragma GCC unroll 16
  for (int i = 0; i < SIDE; ++i) s[i] = load(state + i * Kp);
  for (int64_t t = 0; t < count; ++t) {
    const __m512 k = load(x.k + t * Kp), w = load(x.w + t * Kp);
    const float *v = x.v + t * Vp, *dy = x.dy + t * Vp;
    float* at = states + t * SIDE * SIDE;
    __m512 sum[4] = {load(x.dr + t * Kp), _mm512_setzero_ps(), _mm512_setzero_ps(), _mm512_setzero_ps()};
#pragma GCC unroll 16
    for (int i = 0; i < SIDE; ++i) {
      _mm512_store_ps(at + i * SIDE, s[i]);
      sum[i % 4] = _mm512_fmadd_ps(s[i], _mm512_set1_ps(dy[i]), sum[i % 4]);
      s[i] = _mm512_fmadd_ps(k, _mm512_set1_ps(v[i]), _mm512_mul_ps(s[i], w));
    }
    store(x.dr + t * Kp, _mm512_add_ps(_mm512_add_ps(sum[0], sum[1]), _mm512_add_ps(sum[2], sum[3])));
  }
#pragma GCC unroll 16
  for (int i = 0; i < SIDE; ++i) s[i] = load(slope + i * Kp);
  for (int64_t t = count - 1; t >= 0; --t) {
    const __m512 r = load(x.r + t * Kp), k = load(x.k + t * Kp), w = load(x.w + t * Kp);
    const float *v = x.v + t * Vp, *dy = x.dy + t * Vp, *at = states + t * SIDE * SIDE;
    const Doubled keys{_mm512_unpacklo_ps(k, k), _mm512_unpackhi_ps(k, k)};
    const __m512 first = joined(four_sums(s, keys), four_sums(s + 4, keys));
    const __m512 second = joined(four_sums(s + 8, keys), four_sums(s + 12, keys));
    store(x.dv + t * Vp, _mm512_add_ps(load(x.dv + t * Vp), joined(first, second)));
    __m512 dk[2] = {load(x.dk + t * Kp), _mm512_setzero_ps()}, dw[2] = {load(x.dw + t * Kp), _mm512_setzero_ps()};
#pragma GCC unroll 16
    for (int i = 0; i < SIDE; ++i) {
      dk[i % 2] = _mm512_fmadd_ps(s[i], _mm512_set1_ps(v[i]), dk[i % 2]);
      dw[i % 2] = _mm512_fmadd_ps(s[i], _mm512_load_ps(at + i * SIDE), dw[i % 2]);
      s[i] = _mm512_fmadd_ps(r, _mm512_set1_ps(dy[i]), _mm512_mul_ps(s[i], w));
    }
    store(x.dk + t * Kp, _mm512_add_ps(dk[0], dk[1]));
    store(x.dw + t * Kp, _mm512_add_ps(dw[0], dw[1]));
  }
#pragma GCC unroll 16
  for (int i = 0; i < SIDE; ++i) store(slope + i * Kp, s[i]);
}

template <typename T>
void forward(const T* r, const T* k, const T* v, const float* log, const float* bonus, const float* initial, T* y,
             float* final, float* kept, const Sizes& n) {
  const int64_t Kp = n.Kp, Vp = n.Vp;
  using W = Workspace;
#pragma omp parallel for num_threads(n.threads) schedule(static) if (n.threads > 1)
  for (int64_t task = 0; task < n.B * n.H; ++task) {
    const int64_t b = task / n.H, h = task % n.H;
    W space(W::bytes_of<float>(Kp * Vp) + 3 * W::bytes_of<float>(SEGMENT * Kp) + 2 * W::bytes_of<float>(SEGMENT * Vp) +
            W::bytes_of<float>(Kp));
    float* state = space.take<float>(Kp * Vp);
    float* rows = space.take<float>(SEGMENT * Kp);
    float* keys = space.take<float>(SEGMENT * Kp);
    float* decays = space.take<float>(SEGMENT * Kp);
    float* values = space.take<float>(SEGMENT * Vp);
    float* out = space.take<float>(SEGMENT * Vp);
    float* u = space.take<float>(Kp);

    stage(bonus + h * n.K, 0, 1, n.K, Kp, u);
    std::memset(state, 0, Kp * Vp * sizeof(float));
    stage(initial + task * n.K * n.V, n.V, n.K, n.V, Vp, state);
    for (int64_t segment = 0; segment < n.segments; ++segment) {
      const int64_t start = segment * SEGMENT, count = std::min(SEGMENT, n.T - start);
      std::memcpy(kept + (task * n.segments + segment) * Kp * Vp, state, Kp * Vp * sizeof(float));
      stage(r + b * n.r.batch + start * n.r.token + h * n.r.head, n.r.token, count, n.K, Kp, rows);
      stage(k + b * n.k.batch + start * n.k.token + h * n.k.head, n.k.token, count, n.K, Kp, keys);
      stage(v + b * n.v.batch + start * n.v.token + h * n.v.head, n.v.token, count, n.V, Vp, values);
      stage(log + b * n.log.batch + start * n.log.token + h * n.log.head, n.log.token, count, n.K, Kp, decays);
      exponentials(decays, count * Kp);
      const int64_t next = start + SEGMENT, others = std::clamp<int64_t>(n.T - next, 0, SEGMENT);
      ask_for(r + b * n.r.batch + next * n.r.token + h * n.r.head, n.r.token, others, n.K);
      ask_for(k + b * n.k.batch + next * n.k.token + h * n.k.head, n.k.token, others, n.K);
      ask_for(v + b * n.v.batch + next * n.v.token + h * n.v.head, n.v.token, others, n.V);
      ask_for(log + b * n.log.batch + next * n.log.token + h * n.log.head, n.log.token, others, n.K);
      for (int64_t t = 0; t < count; ++t) {
        const __m512 own = _mm512_set1_ps(dot(rows + t * Kp, u, keys + t * Kp, Kp));
        for (int64_t j = 0; j < Vp; j += 16) store(out + t * Vp + j, _mm512_mul_ps(own, load(values + t * Vp + j)));
      }
      for (int64_t j = 0; j < Vp; j += SIDE) {
        for (int64_t i = 0; i < Kp; i += SIDE) {
          walk(state + i * Vp + j, rows + i, keys + i, decays + i, values + j, out + j, count, Kp, Vp);
        }
      }
      put(out, Vp, count, n.V, y + ((b * n.T + start) * n.H + h) * n.V, n.H * n.V);
    }
    put(state, Vp, n.K, n.V, final + task * n.K * n.V, n.V);
  }
}

template <typename T>
void gradient(const T* dy, const float* dfinal, const T* r, const T* k, const T* v, const float* log,
              const float* bonus, const float* kept, T* dr, T* dk, T* dv, float* dlog, float* dbonus, float* dinitial,
              float* dbonus_of, const Sizes& n) {
  const int64_t Kp = n.Kp, Vp = n.Vp;
  using W = Workspace;
#pragma omp parallel for num_threads(n.threads) schedule(static) if (n.threads > 1)
  for (int64_t task = 0; task < n.B * n.H; ++task) {
    const int64_t b = task / n.H, h = task % n.H;
    W space(3 * W::bytes_of<float>(Kp * Vp) + 6 * W::bytes_of<float>(SEGMENT * Kp) +
            3 * W::bytes_of<float>(SEGMENT * Vp) + W::bytes_of<float>(SEGMENT * SIDE * SIDE) +
            2 * W::bytes_of<float>(Kp));
    float* state = space.take<float>(Kp * Vp);
    float* slope = space.take<float>(Kp * Vp);
    float* turned_slope = space.take<float>(Kp * Vp);
    float* rows = space.take<float>(SEGMENT * Kp);
    float* keys = space.take<float>(SEGMENT * Kp);
    float* decays = space.take<float>(SEGMENT * Kp);
    float* d_rows = space.take<float>(SEGMENT * Kp);
    float* d_keys = space.take<float>(SEGMENT * Kp);
    float* d_decays = space.take<float>(SEGMENT * Kp);
    float* values = space.take<float>(SEGMENT * Vp);
    float* slopes = space.take<float>(SEGMENT * Vp);
    float* d_values = space.take<float>(SEGMENT * Vp);
    float* states = space.take<float>(SEGMENT * SIDE * SIDE);
    float* u = space.take<float>(Kp);
    float* du = space.take<float>(Kp);

    stage(bonus + h * n.K, 0, 1, n.K, Kp, u);
    std::memset(du, 0, Kp * sizeof(float));
    turn_filled(dfinal + task * n.K * n.V, n.V, n.K, n.V, slope, Kp);
    for (int64_t segment = n.segments - 1; segment >= 0; --segment) {
      const int64_t start = segment * SEGMENT, count = std::min(SEGMENT, n.T - start);
      turn_filled(kept + (task * n.segments + segment) * Kp * Vp, Vp, Kp, Vp, state, Kp);
      stage(r + b * n.r.batch + start * n.r.token + h * n.r.head, n.r.token, count, n.K, Kp, rows);
      stage(k + b * n.k.batch + start * n.k.token + h * n.k.head, n.k.token, count, n.K, Kp, keys);
      stage(v + b * n.v.batch + start * n.v.token + h * n.v.head, n.v.token, count, n.V, Vp, values);
      stage(log + b * n.log.batch + start * n.log.token + h * n.log.head, n.log.token, count, n.K, Kp, decays);
      exponentials(decays, count * Kp);
      const int64_t at = (b * n.T + start) * n.H + h;
      stage(dy + at * n.V, n.H * n.V, count, n.V, Vp, slopes);
      const int64_t next = start - SEGMENT, others = next < 0 ? 0 : SEGMENT;
      ask_for(r + b * n.r.batch + next * n.r.token + h * n.r.head, n.r.token, others, n.K);
      ask_for(k + b * n.k.batch + next * n.k.token + h * n.k.head, n.k.token, others, n.K);
      ask_for(v + b * n.v.batch + next * n.v.token + h * n.v.head, n.v.token, others, n.V);
      ask_for(log + b * n.log.batch + next * n.log.token + h * n.log.head, n.log.token, others, n.K);
      ask_for(dy + at * n.V - SEGMENT * n.H * n.V, n.H * n.V, others, n.V);
      for (int64_t t = 0; t < count; ++t) {
        const __m512 own = _mm512_set1_ps(dot(rows + t * Kp, u, keys + t * Kp, Kp));
        const __m512 d_own = _mm512_set1_ps(dot(values + t * Vp, slopes + t * Vp, Vp));
        for (int64_t j = 0; j < Vp; j += 16) {
          store(d_values + t * Vp + j, _mm512_mul_ps(own, load(slopes + t * Vp + j)));
        }
        for (int64_t j = 0; j < Kp; j += 16) {
          const __m512 row = load(rows + t * Kp + j), key = load(keys + t * Kp + j);
          const __m512 share = _mm512_mul_ps(d_own, load(u + j));
          store(d_rows + t * Kp + j, _mm512_mul_ps(share, key));
          store(d_keys + t * Kp + j, _mm512_mul_ps(share, row));
          store(du + j, _mm512_fmadd_ps(_mm512_mul_ps(d_own, row), key, load(du + j)));
        }
      }
      std::memset(d_decays, 0, count * Kp * sizeof(float));
      for (int64_t i = 0; i < Kp; i += SIDE) {
        for (int64_t j = 0; j < Vp; j += SIDE) {
          const Rows x{rows + i, keys + i, decays + i, values + j, slopes + j,
                       d_rows + i, d_keys + i, d_decays + i, d_values + j};
          walk_back(state + j * Kp + i, slope + j * Kp + i, states, x, count, Kp, Vp);
        }
      }
      for (int64_t j = 0; j < count * Kp; j += 16) {
        store(d_decays + j, _mm512_mul_ps(load(d_decays + j), load(decays + j)));
      }
      put(d_rows, Kp, count, n.K, dr + at * n.K, n.H * n.K);
      put(d_keys, Kp, count, n.K, dk + at * n.K, n.H * n.K);
      put(d_values, Vp, count, n.V, dv + at * n.V, n.H * n.V);
      put(d_decays, Kp, count, n.K, dlog + at * n.K, n.H * n.K);
    }
    turn_filled(slope, Kp, Vp, Kp, turned_slope, Vp);
    put(turned_slope, Vp, n.K, n.V, dinitial + task * n.K * n.V, n.V);
    put(du, Kp, 1, n.K, dbonus_of + task * n.K, 0);
  }
  // The rows of the batch in order, whatever the threads.
  for (int64_t j = 0; j < n.H * n.K; ++j) {
    dbonus[j] = dbonus_of[j];
    for (int64_t b = 1; b < n.B; ++b) dbonus[j] += dbonus_of[b * n.H * n.K + j];
  }
}

template <typename T>
void run_forward(void* const* x, const int64_t* n) {
  const auto wide = [x](int i) { return static_cast<float*>(x[i]); };
  const auto given = [x](int i) { return static_cast<T*>(x[i]); };
  forward<T>(given(0), given(1), given(2), wide(3), wide(4), wide(5), given(6), wide(7), wide(8), sizes_of(n));
}

template <typename T>
void run_gradient(void* const* x, const int64_t* n) {
  const auto wide = [x](int i) { return static_cast<float*>(x[i]); };
  const auto given = [x](int i) { return static_cast<T*>(x[i]); };
  gradient<T>(given(0), wide(1), given(2), given(3), given(4), wide(5), wide(6), wide(7), given(8), given(9), given(10),
              wide(11), wide(12), wide(13), wide(14), sizes_of(n));
}

}  // namespace
}  // namespace assay

extern "C" {
void wkv6_float32(void* const* x, const int64_t* n) { assay::run_forward<float>(x, n); }
void wkv6_bfloat16(void* const* x, const int64_t* n) { assay::run_forward<assay::BFloat16>(x, n); }
void wkv6_gradient_float32(void* const* x, const int64_t* n) { assay::run_gradient<float>(x, n); }
void wkv6_gradient_bfloat16(void* const* x, const int64_t* n) { assay::run_gradient<assay::BFloat16>(x, n); }
}
