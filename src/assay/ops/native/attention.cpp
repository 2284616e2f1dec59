// Causal softmax attention and its gradient: one thread a group of heads, scores in tiles that stay in the cache.
//
// The softmax is taken tile by tile (Milakov and Gimelshein 2018, arXiv:1805.02867; Dao et al. 2022, arXiv:2205.14135):
// of the weights only the logarithm of each query's sum is kept, and the gradient forms them anew.
//
// B rows of a batch, T queries at the last places of S keys, H heads, G groups of heads, K and V widths.
#include <algorithm>
#include <cmath>
#include <limits>

#include "products.h"

namespace assay {
namespace {

constexpr int64_t QUERIES = 64;  // of a tile
constexpr int64_t KEYS = 256;    // of a tile
constexpr int64_t STEP = 64;     // what the keys of a tile are filled up to

struct Place {  // where the entries of a [B, T, H, width] tensor stand, those of a head side by side
  int64_t batch, token, head;
};

struct Sizes {
  int64_t B, T, S, H, G, K, V, window, threads;
  Place q, k, v;
};

Sizes sizes_of(const int64_t* n) {
  return {n[0], n[1], n[2], n[3], n[4], n[5], n[6], n[7], n[8], {n[9], n[10], n[11]}, {n[12], n[13], n[14]}, {n[15], n[16], n[17]}};
}

// Rows [count][width] of a tensor, copied to [count][even(width)] with zeros behind.
template <typename T>
void stage(const T* from, int64_t stride, int64_t count, int64_t width, T* to) {
  const int64_t wide = even(width);
  for (int64_t i = 0; i < count; ++i) {
    std::memcpy(to + i * wide, from + i * stride, width * sizeof(T));
    if (wide > width) to[i * wide + width] = T(0);
  }
}

struct Seen {  // by a query: keys `from` ... `to` - 1 of a tile
  int64_t from, to;
};

Seen seen_by(int64_t place, int64_t window, int64_t first, int64_t count) {
  const int64_t from = window ? std::max<int64_t>(0, place - window + 1 - first) : 0;
  const int64_t to = std::min(count, place + 1 - first);
  return {std::min(from, count), std::max<int64_t>(to, 0)};
}

inline __mmask16 seen_lanes(Seen seen, int64_t j) {
  const auto below = [j](int64_t end) { return lanes(std::min<int64_t>(16, end - j)); };
  return below(seen.to) & static_cast<__mmask16>(~below(seen.from));
}

template <typename T>
void forward(const T* q, const T* k, const T* v, T* y, float* sums, const Sizes& n) {
  const int64_t R = n.H / n.G, Ke = even(n.K), Ve = even(n.V), padded = up_to(n.S, STEP), before = n.S - n.T;
  const float scale = 1.0f / std::sqrt(static_cast<float>(n.K));
  using W = Workspace;
#pragma omp parallel for num_threads(n.threads) schedule(static) if (n.threads > 1)
  for (int64_t task = 0; task < n.B * n.G; ++task) {
    const int64_t b = task / n.G, g = task % n.G;
    W space(W::bytes_of<T>(padded * std::max(Ke, Ve)) + W::bytes_of<T>(Ke * padded) + W::bytes_of<T>(padded * n.V) +
            W::bytes_of<T>(QUERIES * Ke) + W::bytes_of<T>(QUERIES * KEYS) + W::bytes_of<float>(QUERIES * KEYS) +
            W::bytes_of<float>(QUERIES * n.V) + 2 * W::bytes_of<float>(QUERIES));
    T* staged = space.take<T>(padded * std::max(Ke, Ve));
    T* keys = space.take<T>(Ke * padded);
    T* values = space.take<T>(padded * n.V);
    T* queries = space.take<T>(QUERIES * Ke);
    T* weights = space.take<T>(QUERIES * KEYS);
    float* scores = space.take<float>(QUERIES * KEYS);
    float* out = space.take<float>(QUERIES * n.V);
    float* most = space.take<float>(QUERIES);
    float* total = space.take<float>(QUERIES);

    stage(k + b * n.k.batch + g * n.k.head, n.k.token, n.S, n.K, staged);
    std::memset(staged + n.S * Ke, 0, (padded - n.S) * Ke * sizeof(T));
    Operand<T>::pack_turned(staged, Ke, padded, n.K, keys);
    std::memset(values, 0, padded * n.V * sizeof(T));
    Operand<T>::pack(v + b * n.v.batch + g * n.v.head, n.v.token, n.S, n.V, values);

    for (int64_t h = g * R; h < (g + 1) * R; ++h) {
      for (int64_t start = 0; start < n.T; start += QUERIES) {
        const int64_t count = std::min(QUERIES, n.T - start), last = before + start + count;
        stage(q + b * n.q.batch + start * n.q.token + h * n.q.head, n.q.token, count, n.K, queries);
        std::fill(most, most + count, -std::numeric_limits<float>::infinity());
        std::fill(total, total + count, 0.0f);
        const int64_t lowest = n.window ? std::max<int64_t>(0, before + start - n.window + 1) / KEYS * KEYS : 0;
        for (int64_t first = lowest; first < last; first += KEYS) {
          const int64_t width = up_to(std::min(KEYS, last - first), STEP);
          product<T>(count, width, n.K, queries, Ke, Operand<T>::column(keys, first), padded, scores, width, false);
          for (int64_t i = 0; i < count; ++i) {
            const Seen seen = seen_by(before + start + i, n.window, first, std::min(KEYS, last - first));
            float* row = scores + i * width;
            T* weight = weights + i * width;
            const float highest = most[i];
            __m512 high = _mm512_set1_ps(-std::numeric_limits<float>::infinity());
            for (int64_t j = seen.from / 16 * 16; j < seen.to; j += 16) {
              high = _mm512_mask_max_ps(high, seen_lanes(seen, j), high, load(row + j));
            }
            most[i] = std::max(highest, _mm512_reduce_max_ps(high) * scale);
            const float rest = most[i] == highest ? 1.0f : std::exp(highest - most[i]);
            const __m512 shift = _mm512_set1_ps(-most[i]), by = _mm512_set1_ps(scale);
            __m512 sum = _mm512_setzero_ps();
            for (int64_t j = 0; j < width; j += 16) {
              const __mmask16 some = seen_lanes(seen, j);
              const __m512 p = some ? _mm512_maskz_mov_ps(some, exp(_mm512_fmadd_ps(load(row + j), by, shift))) : _mm512_setzero_ps();
              sum = _mm512_add_ps(sum, p);
              store(weight + j, p);
            }
            total[i] = total[i] * rest + _mm512_reduce_add_ps(sum);
            if (first > lowest && rest != 1.0f) {
              for (int64_t j = 0; j < n.V; ++j) out[i * n.V + j] *= rest;
            }
          }
          product<T>(count, n.V, width, weights, width, values + first * n.V, n.V, out, n.V, first > lowest);
        }
        for (int64_t i = 0; i < count; ++i) {
          const int64_t at = (b * n.T + start + i) * n.H + h;
          const __m512 by = _mm512_set1_ps(1.0f / total[i]);
          for (int64_t j = 0; j < n.V; j += 16) {
            const __mmask16 some = lanes(n.V - j);
            store(y + at * n.V + j, _mm512_mul_ps(load(out + i * n.V + j, some), by), some);
          }
          sums[at] = most[i] + std::log(total[i]);
        }
      }
    }
  }
}

template <typename T>
void gradient(const T* dy, const T* q, const T* k, const T* v, const T* y, const float* sums, T* dq, T* dk, T* dv, const Sizes& n) {
  const int64_t R = n.H / n.G, Ke = even(n.K), Ve = even(n.V), padded = up_to(n.S, STEP), before = n.S - n.T;
  const float scale = 1.0f / std::sqrt(static_cast<float>(n.K));
  using W = Workspace;
#pragma omp parallel for num_threads(n.threads) schedule(static) if (n.threads > 1)
  for (int64_t task = 0; task < n.B * n.G; ++task) {
    const int64_t b = task / n.G, g = task % n.G;
    W space(W::bytes_of<T>(padded * std::max(Ke, Ve)) + W::bytes_of<T>(Ke * padded) + W::bytes_of<T>(padded * n.K) +
            W::bytes_of<T>(Ve * padded) + W::bytes_of<float>(n.K * padded) + W::bytes_of<float>(n.V * padded) +
            W::bytes_of<T>(QUERIES * Ke) + W::bytes_of<T>(QUERIES * Ve) + W::bytes_of<T>(n.K * QUERIES) + W::bytes_of<T>(n.V * QUERIES) +
            2 * W::bytes_of<float>(QUERIES * KEYS) + 3 * W::bytes_of<T>(QUERIES * KEYS) + W::bytes_of<float>(QUERIES * n.K) +
            W::bytes_of<float>(padded * std::max(n.K, n.V)));
    T* staged = space.take<T>(padded * std::max(Ke, Ve));
    T* keys = space.take<T>(Ke * padded);
    T* key_rows = space.take<T>(padded * n.K);
    T* values = space.take<T>(Ve * padded);
    float* d_keys = space.take<float>(n.K * padded);
    float* d_values = space.take<float>(n.V * padded);
    T* queries = space.take<T>(QUERIES * Ke);
    T* slopes = space.take<T>(QUERIES * Ve);
    T* queries_turned = space.take<T>(n.K * QUERIES);
    T* slopes_turned = space.take<T>(n.V * QUERIES);
    float* scores = space.take<float>(QUERIES * KEYS);
    float* d_weights = space.take<float>(QUERIES * KEYS);
    T* weights = space.take<T>(QUERIES * KEYS);
    T* d_scores = space.take<T>(QUERIES * KEYS);
    T* d_score_rows = space.take<T>(QUERIES * KEYS);
    float* d_queries = space.take<float>(QUERIES * n.K);
    float* rows = space.take<float>(padded * std::max(n.K, n.V));

    stage(k + b * n.k.batch + g * n.k.head, n.k.token, n.S, n.K, staged);
    std::memset(staged + n.S * Ke, 0, (padded - n.S) * Ke * sizeof(T));
    Operand<T>::pack_turned(staged, Ke, padded, n.K, keys);
    Operand<T>::pack(staged, Ke, padded, n.K, key_rows);
    stage(v + b * n.v.batch + g * n.v.head, n.v.token, n.S, n.V, staged);
    std::memset(staged + n.S * Ve, 0, (padded - n.S) * Ve * sizeof(T));
    Operand<T>::pack_turned(staged, Ve, padded, n.V, values);
    std::memset(d_keys, 0, n.K * padded * sizeof(float));
    std::memset(d_values, 0, n.V * padded * sizeof(float));

    for (int64_t h = g * R; h < (g + 1) * R; ++h) {
      for (int64_t start = 0; start < n.T; start += QUERIES) {
        const int64_t count = std::min(QUERIES, n.T - start), last = before + start + count, pairs = even(count);
        const int64_t at = (b * n.T + start) * n.H + h;
        stage(q + b * n.q.batch + start * n.q.token + h * n.q.head, n.q.token, count, n.K, queries);
        stage(dy + at * n.V, n.H * n.V, count, n.V, slopes);
        std::memset(queries_turned, 0, n.K * QUERIES * sizeof(T));
        std::memset(slopes_turned, 0, n.V * QUERIES * sizeof(T));
        Operand<T>::turn(queries, Ke, count, n.K, queries_turned, QUERIES);
        Operand<T>::turn(slopes, Ve, count, n.V, slopes_turned, QUERIES);
        float mean[QUERIES];
        for (int64_t i = 0; i < count; ++i) {
          __m512 sum = _mm512_setzero_ps();
          for (int64_t j = 0; j < n.V; j += 16) {
            const __mmask16 some = lanes(n.V - j);
            sum = _mm512_fmadd_ps(load(slopes + i * Ve + j, some), load(y + (at + i * n.H) * n.V + j, some), sum);
          }
          mean[i] = _mm512_reduce_add_ps(sum);
        }
        const int64_t lowest = n.window ? std::max<int64_t>(0, before + start - n.window + 1) / KEYS * KEYS : 0;
        for (int64_t first = lowest; first < last; first += KEYS) {
          const int64_t width = up_to(std::min(KEYS, last - first), STEP);
          product<T>(count, width, n.K, queries, Ke, Operand<T>::column(keys, first), padded, scores, width, false);
          product<T>(count, width, n.V, slopes, Ve, Operand<T>::column(values, first), padded, d_weights, width, false);
          const __m512 by = _mm512_set1_ps(scale);
          for (int64_t i = 0; i < pairs; i += 2) {
            Seen seen[2];
            __m512 shift[2], less[2];
            for (int64_t s = 0; s < 2; ++s) {
              const bool there = i + s < count;
              seen[s] = there ? seen_by(before + start + i + s, n.window, first, std::min(KEYS, last - first)) : Seen{0, 0};
              shift[s] = _mm512_set1_ps(there ? -sums[at + (i + s) * n.H] : 0.0f);
              less[s] = _mm512_set1_ps(there ? mean[i + s] : 0.0f);
            }
            for (int64_t j = 0; j < width; j += 16) {
              __m512 p[2], ds[2];
              for (int64_t s = 0; s < 2; ++s) {
                const __mmask16 some = seen_lanes(seen[s], j);
                const int64_t place = (i + s) * width + j;
                p[s] = ds[s] = _mm512_setzero_ps();
                if (some) {
                  p[s] = _mm512_maskz_mov_ps(some, exp(_mm512_fmadd_ps(load(scores + place), by, shift[s])));
                  ds[s] = _mm512_mul_ps(p[s], _mm512_sub_ps(load(d_weights + place), less[s]));
                  ds[s] = _mm512_maskz_mov_ps(some, ds[s]);
                }
                if (i + s < count) store(d_score_rows + place, ds[s]);
              }
              Operand<T>::store_pair(Operand<T>::column(weights + i * width, j), width, p[0], p[1], 0xffff);
              Operand<T>::store_pair(Operand<T>::column(d_scores + i * width, j), width, ds[0], ds[1], 0xffff);
            }
          }
          product<T>(n.V, width, pairs, slopes_turned, QUERIES, weights, width, d_values + first, padded, true);
          product<T>(n.K, width, pairs, queries_turned, QUERIES, d_scores, width, d_keys + first, padded, true);
          product<T>(count, n.K, width, d_score_rows, width, key_rows + first * n.K, n.K, d_queries, n.K, first > lowest);
        }
        const __m512 by = _mm512_set1_ps(scale);
        for (int64_t i = 0; i < count; ++i) {
          for (int64_t j = 0; j < n.K; j += 16) {
            const __mmask16 some = lanes(n.K - j);
            store(dq + (at + i * n.H) * n.K + j, _mm512_mul_ps(load(d_queries + i * n.K + j, some), by), some);
          }
        }
      }
    }
    const auto put = [&](float* turned_rows, int64_t width, float factor, T* to) {
      turned(turned_rows, padded, width, n.S, rows, width);
      for (int64_t i = 0; i < n.S; ++i) {
        for (int64_t j = 0; j < width; j += 16) {
          const __mmask16 some = lanes(width - j);
          const __m512 x = _mm512_mul_ps(load(rows + i * width + j, some), _mm512_set1_ps(factor));
          store(to + ((b * n.S + i) * n.G + g) * width + j, x, some);
        }
      }
    };
    put(d_keys, n.K, scale, dk);
    put(d_values, n.V, 1.0f, dv);
  }
}

template <typename T>
void run_forward(void* const* x, const int64_t* n) {
  forward(static_cast<const T*>(x[0]), static_cast<const T*>(x[1]), static_cast<const T*>(x[2]), static_cast<T*>(x[3]),
          static_cast<float*>(x[4]), sizes_of(n));
}

template <typename T>
void run_gradient(void* const* x, const int64_t* n) {
  gradient(static_cast<const T*>(x[0]), static_cast<const T*>(x[1]), static_cast<const T*>(x[2]), static_cast<const T*>(x[3]),
           static_cast<const T*>(x[4]), static_cast<const float*>(x[5]), static_cast<T*>(x[6]), static_cast<T*>(x[7]),
           static_cast<T*>(x[8]), sizes_of(n));
}

}  // namespace
}  // namespace assay

extern "C" {
void attention_float32(void* const* x, const int64_t* n) { assay::run_forward<float>(x, n); }
void attention_bfloat16(void* const* x, const int64_t* n) { assay::run_forward<assay::BFloat16>(x, n); }
void attention_gradient_float32(void* const* x, const int64_t* n) { assay::run_gradient<float>(x, n); }
void attention_gradient_bfloat16(void* const* x, const int64_t* n) { assay::run_gradient<assay::BFloat16>(x, n); }
}
