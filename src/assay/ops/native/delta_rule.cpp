// The chunked delta rule and its gradient: one task a head of one row, which walks its chunks with the state in cache.
//
// The equations are those of ops/delta_rule_chunks.py. As chunks go one after the other here, the errors are formed
// from the state at once, N = A^-1 (V - e(., 0) k S), and A^-1 k is never needed. The gradient walks back; the states
// before the chunks and the errors are kept for it, all else is formed anew. States, decays, the inverse and all sums
// are in float32, sums of log decays in float64, what is multiplied in T.
//
// B rows of a batch, T tokens, H heads, K and V widths. Within a task widths are filled up to multiples of 16 with
// zeros (Kp, Vp), and chunks to 32 tokens that neither write nor decay. Halves of [2 C]: what queries read, what keys
// erase.
#include <algorithm>

#include "products.h"

namespace assay {
namespace {

constexpr int64_t C = 32;       // tokens of a chunk, filled up
constexpr int64_t SOLVED = 16;  // tokens whose triangle is solved directly

struct Place {  // where the entries of a [B, T, H, ...] tensor stand
  int64_t batch, token, head;
  int64_t of(int64_t b, int64_t t, int64_t h) const { return b * batch + t * token + h * head; }
};

struct Sizes {
  int64_t B, T, H, K, V, length, before, constant, threads;
  Place q, k, v, beta, log_decay;  // in the gradient v is that of y
  int64_t Kp, Vp, chunks;
};

Sizes sizes_of(const int64_t* n) {
  const auto place = [n](int64_t i) { return Place{n[9 + 3 * i], n[10 + 3 * i], n[11 + 3 * i]}; };
  return {n[0], n[1], n[2], n[3], n[4], n[5], n[6], n[7], n[8], place(0), place(1), place(2), place(3), place(4),
          up_to(n[3], 16), up_to(n[4], 16), (n[1] + n[5] - 1) / n[5]};
}

// 16 entries, zeros where `some` are not.
inline void move(const float* from, float* to, __mmask16 some) {
  _mm512_storeu_si512(to, load_bits(from, some));
}
inline void move(const BFloat16* from, BFloat16* to, __mmask16 some) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), load_bits(from, some));
}

// `count` rows [width] to [C][wide], zeros behind and below.
template <typename T>
void stage(const T* from, int64_t stride, int64_t count, int64_t width, T* to, int64_t wide) {
  for (int64_t t = 0; t < C; ++t) {
    const bool there = t < count;
    const T* row = from + (there ? t * stride : 0);
    for (int64_t j = 0; j < wide; j += 16) move(row + j, to + t * wide + j, there ? lanes(width - j) : 0);
  }
}

// to [C][width] = rows, each times its factor.
template <typename T>
void scaled(const T* rows, const float* factors, int64_t width, T* to) {
  for (int64_t t = 0; t < C; ++t) {
    const __m512 by = _mm512_set1_ps(factors[t]);
    for (int64_t j = 0; j < width; j += 16) store(to + t * width + j, _mm512_mul_ps(load(rows + t * width + j), by));
  }
}

// 16 columns from j on of two rows of a packed matrix, the first of them at `rows`.
template <typename T>
inline void put_pair(T* rows, int64_t j, int64_t width, __m512 first, __m512 second) {
  Operand<T>::store_pair(Operand<T>::column(rows, j), width, first, second, 0xffff);
}

// Floats [rows][width] in T: to `plain` in rows, and packed, which is what is returned; floats need no place of their
// own for that. The floats themselves are then multiplied by `factor`.
template <typename T>
const T* both_forms(float* from, int64_t rows, int64_t width, T* plain, T* packed, float factor = 1.0f) {
  const __m512 by = _mm512_set1_ps(factor);
  for (int64_t i = 0; i < rows; i += 2) {
    float* pair = from + i * width;
    for (int64_t j = 0; j < width; j += 16) {
      const __m512 first = load(pair + j), second = load(pair + width + j);
      store(plain + i * width + j, first);
      store(plain + (i + 1) * width + j, second);
      if (!std::is_same_v<T, float>) put_pair(packed + i * width, j, width, first, second);
      if (factor != 1.0f) {
        store(pair + j, _mm512_mul_ps(first, by));
        store(pair + width + j, _mm512_mul_ps(second, by));
      }
    }
  }
  return std::is_same_v<T, float> ? plain : packed;
}

// The inverse of a unit lower triangle of 16 rows; only what is below the diagonal is read.
inline void solve(const float* triangle, __m512 row[SOLVED]) {
#pragma GCC unroll 16
  for (int i = 0; i < SOLVED; ++i) {
    __m512 x = _mm512_maskz_mov_ps(static_cast<__mmask16>(1u << i), _mm512_set1_ps(1.0f));
#pragma GCC unroll 16
    for (int j = 0; j < i; ++j) x = _mm512_fnmadd_ps(_mm512_set1_ps(triangle[i * C + j]), row[j], x);
    row[i] = x;
  }
}

// to = -a b, all of 16 rows.
inline void minus_product(const float* a, const __m512 b[SOLVED], __m512 to[SOLVED]) {
#pragma GCC unroll 16
  for (int i = 0; i < SOLVED; ++i) {
    __m512 even_sum = _mm512_setzero_ps(), odd_sum = _mm512_setzero_ps();
#pragma GCC unroll 8
    for (int j = 0; j < SOLVED; j += 2) {
      even_sum = _mm512_fnmadd_ps(_mm512_set1_ps(a[i * C + j]), b[j], even_sum);
      odd_sum = _mm512_fnmadd_ps(_mm512_set1_ps(a[i * C + j + 1]), b[j + 1], odd_sum);
    }
    to[i] = _mm512_add_ps(even_sum, odd_sum);
  }
}

// inverse = (1 + triangle)^-1, both [C][C], from halves: the corner is -A22^-1 A21 A11^-1.
void invert(const float* triangle, float* inverse) {
  __m512 first[SOLVED], second[SOLVED], corner[SOLVED];
  float* below = inverse + SOLVED * C;
  solve(triangle + SOLVED * C + SOLVED, second);
  for (int i = 0; i < SOLVED; ++i) store(below + i * C + SOLVED, second[i]);
  solve(triangle, first);
  for (int i = 0; i < SOLVED; ++i) {
    store(inverse + i * C, first[i]);
    store(inverse + i * C + SOLVED, _mm512_setzero_ps());
  }
  minus_product(triangle + SOLVED * C, first, corner);
  for (int i = 0; i < SOLVED; ++i) corner[i] = _mm512_sub_ps(_mm512_setzero_ps(), corner[i]);
  minus_product(below + SOLVED, corner, first);
  for (int i = 0; i < SOLVED; ++i) store(below + i * C, first[i]);
}

// What forward and gradient both form of a chunk.
template <typename T>
struct Chunk {
  Chunk(Workspace& space, const Sizes& sizes) : n(sizes) {
    rows = space.take<T>(2 * C * n.Kp);
    write_keys = space.take<T>(C * n.Kp);
    write_keys_turned = space.take<T>(n.Kp * C);
    pairs = space.take<float>(2 * C * C);
    reads = space.take<T>(C * C);
    inverse = space.take<float>(C * C);
    inverse_rows = space.take<T>(C * C);
    decays = space.take<float>((C + 1) * C);
    scaled_ends = space.take<T>(C * n.Kp);
    scaled_starts = space.take<T>(2 * C * n.Kp);
    std::fill(decays, decays + (C + 1) * C, 1.0f);
    std::fill(start, start + 2 * C, 1.0f);
    std::fill(end, end + C, 1.0f);
  }
  static size_t bytes(const Sizes& n) {
    using W = Workspace;
    return 2 * W::bytes_of<T>(2 * C * n.Kp) + 3 * W::bytes_of<T>(C * n.Kp) + W::bytes_of<float>(2 * C * C) +
           2 * W::bytes_of<T>(C * C) + W::bytes_of<float>(C * C) + W::bytes_of<float>((C + 1) * C);
  }

  const Sizes& n;
  int64_t first, count;  // its tokens
  T* rows;               // queries and keys [2 C][Kp]
  T* write_keys;         // w [C][Kp]
  T* write_keys_turned;  // packed [Kp][C]
  float* pairs;          // R and A - 1 [2 C][C]
  T* reads;              // R [C][C]
  float* inverse;        // of A [C][C]
  T* inverse_rows;       // the same
  float* decays;         // d(t, i), row t + 1 of [C + 1][C]; with what the gradients of pairs are multiplied
  float beta[C], start[2 * C], end[C], whole = 1.0f;

  // Of the chunk `index` of head h of row b.
  void form(const T* q, const T* k, const float* strengths, const float* log_decay, int64_t b, int64_t h,
            int64_t index) {
    first = index * n.length, count = std::min(n.length, n.T - first);
    stage(q + n.q.of(b, first, h), n.q.token, count, n.K, rows, n.Kp);
    stage(k + n.k.of(b, first, h), n.k.token, count, n.K, rows + C * n.Kp, n.Kp);
    for (int64_t t = 0; t < C; ++t) beta[t] = t < count ? strengths[n.beta.of(b, first + t, h)] : 0.0f;
    if (!n.constant) form_decays(log_decay + n.log_decay.of(b, first, h));
    scaled(rows + C * n.Kp, beta, n.Kp, write_keys);
    Operand<T>::pack_turned(write_keys, n.Kp, C, n.Kp, write_keys_turned);
    product<T>(2 * C, C, n.Kp, rows, n.Kp, write_keys_turned, C, pairs, C, false);
    for (int64_t t = 0; t < C; ++t) {
      for (int64_t j = 0; j < C; j += 16) {
        float* read = pairs + t * C + j;
        const __m512 x = _mm512_maskz_mul_ps(lanes(t + 1 - j), load(read), load(read_decays(t) + j));
        store(read, x);
        store(reads + t * C + j, x);
        float* erase = read + C * C;
        store(erase, _mm512_maskz_mul_ps(lanes(t - j), load(erase), load(erase_decays(t) + j)));
      }
    }
    invert(pairs + C * C, inverse);
    for (int64_t i = 0; i < C * C; i += 16) store(inverse_rows + i, load(inverse + i));
  }

  // d(C, .) w [C][Kp].
  const T* end_keys() {
    if (n.constant) return write_keys;
    scaled(write_keys, end, n.Kp, scaled_ends);
    return scaled_ends;
  }
  // d(., 0) q and e(., 0) k [2 C][Kp].
  const T* starts() {
    if (n.constant) return rows;
    scaled(rows, start, n.Kp, scaled_starts);
    scaled(rows + C * n.Kp, start + C, n.Kp, scaled_starts + C * n.Kp);
    return scaled_starts;
  }

  const float* read_decays(int64_t t) const { return decays + (t + 1) * C; }
  const float* erase_decays(int64_t t) const { return decays + (t + 1 - n.before) * C; }

 private:
  T *scaled_ends, *scaled_starts;

  // Exponentials of differences of sums in float64; what is above the diagonal is never used.
  void form_decays(const float* log_decay) {
    alignas(64) double sums[C];
    double sum = 0;
    for (int64_t t = 0; t < C; ++t) sums[t] = t < count ? sum += log_decay[t * n.log_decay.token] : sum;
    const auto power = [&sums](double from, int64_t j, double sign) {
      const __m512d one = _mm512_set1_pd(from), by = _mm512_set1_pd(sign);
      const __m256 low = _mm512_cvtpd_ps(_mm512_fmadd_pd(by, _mm512_load_pd(sums + j), one));
      const __m256 high = _mm512_cvtpd_ps(_mm512_fmadd_pd(by, _mm512_load_pd(sums + j + 8), one));
      return exp(_mm512_insertf32x8(_mm512_castps256_ps512(low), high, 1));
    };
    for (int64_t t = 0; t < C; ++t) {
      for (int64_t j = 0; j <= t; j += 16) store(decays + (t + 1) * C + j, power(sums[t], j, -1.0));
    }
    for (int64_t j = 0; j < C; j += 16) {
      store(start + j, power(0.0, j, 1.0));
      store(end + j, power(sum, j, -1.0));
    }
    start[C] = n.before ? 1.0f : start[0];
    for (int64_t t = 1; t < C; ++t) start[C + t] = start[t - n.before];
    whole = start[C - 1];
  }
};

// A state [K][V], filled up to [Kp][Vp].
void take_state(const float* from, const Sizes& n, float* to) {
  std::memset(to, 0, n.Kp * n.Vp * sizeof(float));
  for (int64_t i = 0; i < n.K; ++i) std::memcpy(to + i * n.Vp, from + i * n.V, n.V * sizeof(float));
}
void give_state(const float* from, const Sizes& n, float* to) {
  for (int64_t i = 0; i < n.K; ++i) std::memcpy(to + i * n.V, from + i * n.Vp, n.V * sizeof(float));
}

template <typename T>
void forward(const T* q, const T* k, const T* v, const float* beta, const float* log_decay, const float* state, T* y,
             float* last, T* states, T* all_errors, const Sizes& n) {
  using W = Workspace;
  const int64_t Kp = n.Kp, Vp = n.Vp;
#pragma omp parallel for num_threads(n.threads) schedule(static) if (n.threads > 1)
  for (int64_t task = 0; task < n.B * n.H; ++task) {
    const int64_t b = task / n.H, h = task % n.H;
    W space(Chunk<T>::bytes(n) + W::bytes_of<float>(Kp * Vp) + W::bytes_of<T>(Kp * Vp) +
            W::bytes_of<float>(2 * C * Vp) + 2 * W::bytes_of<T>(C * Vp) + W::bytes_of<float>(C * Vp) +
            W::bytes_of<T>(C * Kp));
    Chunk<T> chunk(space, n);
    float* now = space.take<float>(Kp * Vp);
    T* state_space = space.take<T>(Kp * Vp);
    float* read = space.take<float>(2 * C * Vp);
    T* asked = space.take<T>(C * Vp);
    T* errors_space = space.take<T>(C * Vp);
    float* errors = space.take<float>(C * Vp);
    T* end_keys_turned = space.take<T>(Kp * C);

    take_state(state + task * n.K * n.V, n, now);
    for (int64_t index = 0; index < n.chunks; ++index) {
      const int64_t place = task * n.chunks + index;
      chunk.form(q, k, beta, log_decay, b, h, index);
      const T* packed_state = both_forms(now, Kp, Vp, states + place * Kp * Vp, state_space, chunk.whole);
      product<T>(2 * C, Vp, Kp, chunk.rows, Kp, packed_state, Vp, read, Vp, false);
      const T* values = v + n.v.of(b, chunk.first, h);
      for (int64_t t = 0; t < C; t += 2) {
        for (int64_t j = 0; j < Vp; j += 16) {
          __m512 x[2];
          for (int64_t s = 0; s < 2; ++s) {
            const bool there = t + s < chunk.count;
            const __m512 value = load(values + (there ? (t + s) * n.v.token : 0) + j, there ? lanes(n.V - j) : 0);
            x[s] = _mm512_fnmadd_ps(_mm512_set1_ps(chunk.start[C + t + s]), load(read + (C + t + s) * Vp + j), value);
            float* seen = read + (t + s) * Vp + j;
            store(seen, _mm512_mul_ps(load(seen), _mm512_set1_ps(chunk.start[t + s])));
          }
          put_pair(asked + t * Vp, j, Vp, x[0], x[1]);
        }
      }
      product<T>(C, Vp, C, chunk.inverse_rows, C, asked, Vp, errors, Vp, false);
      const T* packed_errors = both_forms(errors, C, Vp, all_errors + place * C * Vp, errors_space);
      product<T>(C, Vp, C, chunk.reads, C, packed_errors, Vp, read, Vp, true);
      for (int64_t t = 0; t < chunk.count; ++t) {
        T* to = y + ((b * n.T + chunk.first + t) * n.H + h) * n.V;
        for (int64_t j = 0; j < n.V; j += 16) store(to + j, load(read + t * Vp + j), lanes(n.V - j));
      }
      Operand<T>::turn(chunk.end_keys(), Kp, C, Kp, end_keys_turned, C);
      product<T>(Kp, Vp, C, end_keys_turned, C, packed_errors, Vp, now, Vp, true);
    }
    give_state(now, n, last + task * n.K * n.V);
  }
}

// Gradients of the logarithms of all products of decays of a chunk, summed: of those of pairs and since the start by
// row, of those of pairs by column too, of those until the end, and of the whole.
struct Sums {
  float by_row[2 * C], by_column[C], until_end[C], whole;
};

// Multiply by decays the gradients of what they had multiplied: those of `pairs` [2 C][C] to T, those of queries and
// keys as they meet the state [2 C][Kp] and of keys as they write to it [C][Kp] in place. Without decays the latter
// stay, and the sums are not those.
template <typename T>
void weigh(const Chunk<T>& chunk, const float* pairs, T* pair_rows, float* starts, float* ends, Sums& sums) {
  const int64_t before = chunk.n.before, Kp = chunk.n.Kp, width = chunk.n.constant ? 0 : Kp;
  __m512 columns[2] = {_mm512_setzero_ps(), _mm512_setzero_ps()};
  for (int64_t row = 0; row < 2 * C; ++row) {
    const int64_t t = row % C, half = row / C;
    const float* factors = half ? chunk.erase_decays(t) : chunk.read_decays(t);
    const int64_t decayed = t - (half && before);  // an empty product of decays has no gradient
    __m512 sum = _mm512_setzero_ps();
    for (int64_t j = 0; j < C; j += 16) {
      const __m512 d_pair = load(pairs + row * C + j);
      const __m512 d_log = _mm512_maskz_mul_ps(lanes(decayed - j), d_pair, load(chunk.pairs + row * C + j));
      sum = _mm512_add_ps(sum, d_log);
      columns[j / 16] = _mm512_add_ps(columns[j / 16], d_log);
      store(pair_rows + row * C + j, _mm512_maskz_mul_ps(lanes(t + 1 - half - j), d_pair, load(factors + j)));
    }
    const __m512 by = _mm512_set1_ps(chunk.start[row]);
    for (int64_t j = 0; j < width; j += 16) {
      const __m512 x = _mm512_mul_ps(load(starts + row * Kp + j), by);
      store(starts + row * Kp + j, x);
      sum = _mm512_fmadd_ps(x, load(chunk.rows + row * Kp + j), sum);
    }
    if (width) sums.by_row[row] = _mm512_reduce_add_ps(sum);
  }
  for (int64_t t = 0; t < C && width; ++t) {
    const __m512 by = _mm512_set1_ps(chunk.end[t]);
    __m512 sum = _mm512_setzero_ps();
    for (int64_t j = 0; j < width; j += 16) {
      const __m512 x = _mm512_mul_ps(load(ends + t * Kp + j), by);
      store(ends + t * Kp + j, x);
      sum = _mm512_fmadd_ps(x, load(chunk.write_keys + t * Kp + j), sum);
    }
    sums.until_end[t] = _mm512_reduce_add_ps(sum);
  }
  store(sums.by_column, columns[0]);
  store(sums.by_column + 16, columns[1]);
}

// Gradients of the log decays of a chunk.
template <typename T>
void put_log_decays(const Chunk<T>& chunk, const Sums& sums, float* to, int64_t stride) {
  float found[C], sum = 0;
  for (int64_t t = C - 1; t >= 0; --t) {
    const int64_t erased = t + chunk.n.before;  // with the error before the decay its products end one token earlier
    sum += sums.by_row[t] + (erased < C ? sums.by_row[C + erased] : 0.0f) - sums.by_column[t];
    found[t] = sum;
  }
  float until = sums.whole;
  for (int64_t t = 0; t < chunk.count; ++t) {
    to[t * stride] = found[t] + until;
    until += sums.until_end[t];
  }
}

template <typename T>
void gradient(const T* dy, const float* d_last, const T* q, const T* k, const float* beta, const float* log_decay,
              const T* states, const T* all_errors, T* dq, T* dk, T* dv, float* d_beta, float* d_log_decay,
              float* d_state, const Sizes& n) {
  using W = Workspace;
  const int64_t Kp = n.Kp, Vp = n.Vp;
#pragma omp parallel for num_threads(n.threads) schedule(static) if (n.threads > 1)
  for (int64_t task = 0; task < n.B * n.H; ++task) {
    const int64_t b = task / n.H, h = task % n.H;
    W space(Chunk<T>::bytes(n) + W::bytes_of<float>(Kp * Vp) + 4 * W::bytes_of<T>(Kp * Vp) +
            2 * W::bytes_of<T>(2 * C * Vp) + 2 * W::bytes_of<T>(C * C) + 2 * W::bytes_of<float>(C * Vp) +
            2 * W::bytes_of<T>(C * Vp) + W::bytes_of<float>(2 * C * C) + 2 * W::bytes_of<T>(2 * C * C) +
            W::bytes_of<float>(2 * C * Kp) + W::bytes_of<float>(C * Kp) + 2 * W::bytes_of<T>(2 * C * Kp) +
            W::bytes_of<T>(C * Kp));
    Chunk<T> chunk(space, n);
    float* d_now = space.take<float>(Kp * Vp);
    T* d_now_rows = space.take<T>(Kp * Vp);
    T* d_now_space = space.take<T>(Kp * Vp);
    T* d_now_turned = space.take<T>(Vp * Kp);
    T* state_turned = space.take<T>(Vp * Kp);
    T* d_rows = space.take<T>(2 * C * Vp);  // of y, and minus those of v
    T* d_rows_packed = space.take<T>(2 * C * Vp);
    T* reads_turned = space.take<T>(C * C);
    T* inverse_turned = space.take<T>(C * C);
    float* d_errors = space.take<float>(C * Vp);
    float* d_values = space.take<float>(C * Vp);
    T* d_errors_packed = space.take<T>(C * Vp);
    T* errors_turned = space.take<T>(Vp * C);
    float* d_pairs = space.take<float>(2 * C * C);
    T* d_pair_rows = space.take<T>(2 * C * C);
    T* d_pairs_turned = space.take<T>(C * 2 * C);
    float* d_starts = space.take<float>(2 * C * Kp);
    float* d_ends = space.take<float>(C * Kp);
    T* starts_turned = space.take<T>(Kp * 2 * C);
    T* rows_packed = space.take<T>(2 * C * Kp);
    T* write_keys_packed = space.take<T>(C * Kp);

    take_state(d_last + task * n.K * n.V, n, d_now);
    for (int64_t index = n.chunks - 1; index >= 0; --index) {
      const int64_t place = task * n.chunks + index;
      const T* state = states + place * Kp * Vp;
      const T* errors = all_errors + place * C * Vp;
      chunk.form(q, k, beta, log_decay, b, h, index);
      const int64_t at = (b * n.T + chunk.first) * n.H + h;  // of [B, T, H]

      // Of the errors, and through the triangle of the values.
      stage(dy + n.v.of(b, chunk.first, h), n.v.token, chunk.count, n.V, d_rows, Vp);
      Operand<T>::pack(d_rows, Vp, C, Vp, d_rows_packed);
      Operand<T>::turn(chunk.reads, C, C, C, reads_turned, C);
      Operand<T>::turn(chunk.inverse_rows, C, C, C, inverse_turned, C);
      Sums sums;
      if (!n.constant) {
        __m512 sum = _mm512_setzero_ps();
        for (int64_t i = 0; i < Kp * Vp; i += 16) sum = _mm512_fmadd_ps(load(d_now + i), load(state + i), sum);
        sums.whole = _mm512_reduce_add_ps(sum) * chunk.whole;
      }
      const T* d_now_packed = both_forms(d_now, Kp, Vp, d_now_rows, d_now_space, chunk.whole);
      Operand<T>::pack_turned(d_now_rows, Vp, Kp, Vp, d_now_turned);
      product<T>(C, Vp, C, reads_turned, C, d_rows_packed, Vp, d_errors, Vp, false);
      product<T>(C, Vp, Kp, chunk.end_keys(), Kp, d_now_packed, Vp, d_errors, Vp, true);
      for (int64_t t = 0; t < C; t += 2) {
        const float* pair = d_errors + t * Vp;
        for (int64_t j = 0; j < Vp; j += 16) {
          put_pair(d_errors_packed + t * Vp, j, Vp, load(pair + j), load(pair + Vp + j));
        }
      }
      product<T>(C, Vp, C, inverse_turned, C, d_errors_packed, Vp, d_values, Vp, false);
      for (int64_t t = 0; t < C; t += 2) {
        for (int64_t j = 0; j < Vp; j += 16) {
          __m512 x[2];
          for (int64_t s = 0; s < 2; ++s) {
            const __m512 d_value = load(d_values + (t + s) * Vp + j);
            if (t + s < chunk.count) store(dv + (at + (t + s) * n.H) * n.V + j, d_value, lanes(n.V - j));
            x[s] = _mm512_sub_ps(_mm512_setzero_ps(), d_value);
            store(d_rows + (C + t + s) * Vp + j, x[s]);
          }
          put_pair(d_rows_packed + (C + t) * Vp, j, Vp, x[0], x[1]);
        }
      }

      // Of pairs, of queries and keys as they meet the state, of keys as they write to it, and of the state before.
      Operand<T>::pack_turned(errors, Vp, C, Vp, errors_turned);
      product<T>(2 * C, C, Vp, d_rows, Vp, errors_turned, C, d_pairs, C, false);
      Operand<T>::pack_turned(state, Vp, Kp, Vp, state_turned);
      product<T>(2 * C, Kp, Vp, d_rows, Vp, state_turned, Kp, d_starts, Kp, false);
      product<T>(C, Kp, Vp, errors, Vp, d_now_turned, Kp, d_ends, Kp, false);
      Operand<T>::turn(chunk.starts(), Kp, 2 * C, Kp, starts_turned, 2 * C);
      product<T>(Kp, Vp, 2 * C, starts_turned, 2 * C, d_rows_packed, Vp, d_now, Vp, true);

      weigh(chunk, d_pairs, d_pair_rows, d_starts, d_ends, sums);
      if (!n.constant) put_log_decays(chunk, sums, d_log_decay + at, n.H);

      // Of queries and keys, and of keys as they write in pairs.
      Operand<T>::pack(chunk.write_keys, Kp, C, Kp, write_keys_packed);
      product<T>(2 * C, Kp, C, d_pair_rows, C, write_keys_packed, Kp, d_starts, Kp, true);
      Operand<T>::turn(d_pair_rows, C, 2 * C, C, d_pairs_turned, 2 * C);
      Operand<T>::pack(chunk.rows, Kp, 2 * C, Kp, rows_packed);
      product<T>(C, Kp, 2 * C, d_pairs_turned, 2 * C, rows_packed, Kp, d_ends, Kp, true);
      for (int64_t t = 0; t < chunk.count; ++t) {
        const int64_t to = at + t * n.H;
        const __m512 strength = _mm512_set1_ps(chunk.beta[t]);
        __m512 sum = _mm512_setzero_ps();
        for (int64_t j = 0; j < n.K; j += 16) {
          const __mmask16 some = lanes(n.K - j);
          const __m512 d_write = load(d_ends + t * Kp + j);
          sum = _mm512_fmadd_ps(d_write, load(chunk.rows + (C + t) * Kp + j), sum);
          store(dq + to * n.K + j, load(d_starts + t * Kp + j), some);
          store(dk + to * n.K + j, _mm512_fmadd_ps(d_write, strength, load(d_starts + (C + t) * Kp + j)), some);
        }
        d_beta[to] = _mm512_reduce_add_ps(sum);
      }
    }
    give_state(d_now, n, d_state + task * n.K * n.V);
  }
}

template <typename T>
void run_forward(void* const* x, const int64_t* n) {
  const auto in = [x](int i) { return static_cast<const T*>(x[i]); };
  const auto wide = [x](int i) { return static_cast<const float*>(x[i]); };
  forward<T>(in(0), in(1), in(2), wide(3), wide(4), wide(5), static_cast<T*>(x[6]), static_cast<float*>(x[7]),
             static_cast<T*>(x[8]), static_cast<T*>(x[9]), sizes_of(n));
}

template <typename T>
void run_gradient(void* const* x, const int64_t* n) {
  const auto in = [x](int i) { return static_cast<const T*>(x[i]); };
  const auto wide = [x](int i) { return static_cast<const float*>(x[i]); };
  const auto to = [x](int i) { return static_cast<T*>(x[i]); };
  const auto wide_to = [x](int i) { return static_cast<float*>(x[i]); };
  gradient<T>(in(0), wide(1), in(2), in(3), wide(4), wide(5), in(6), in(7), to(8), to(9), to(10), wide_to(11),
              wide_to(12), wide_to(13), sizes_of(n));
}

}  // namespace
}  // namespace assay

extern "C" {
void delta_rule_float32(void* const* x, const int64_t* n) { assay::run_forward<float>(x, n); }
void delta_rule_bfloat16(void* const* x, const int64_t* n) { assay::run_forward<assay::BFloat16>(x, n); }
void delta_rule_gradient_float32(void* const* x, const int64_t* n) { assay::run_gradient<float>(x, n); }
void delta_rule_gradient_bfloat16(void* const* x, const int64_t* n) { assay::run_gradient<assay::BFloat16>(x, n); }
}
