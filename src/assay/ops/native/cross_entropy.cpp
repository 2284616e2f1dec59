// Cross-entropy of a linear head and its gradients at the hidden states and at the head, in chunks of tokens.
//
// First every tile of tokens: logits, their softmax, the gradient at its hidden states. Then every panel of the
// vocabulary: the gradient at its rows of the head, from the logits' gradients of the whole chunk. Logits are in float,
// operands of products are T. Tokens without a target are left out.
//
// N tokens, D hidden width, V vocabulary.
#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "products.h"

namespace assay {
namespace {

constexpr int64_t TOKENS = 64;      // of a tile
constexpr int64_t PANEL = 256;      // columns of a panel of the vocabulary
constexpr int64_t DEPTH = 1024;     // of the sums of one product
constexpr int64_t CHUNK = 1 << 23;  // bytes of the logits' gradients that are kept at once
constexpr int64_t AISLE = 32;       // entries between rows, so that they do not begin at multiples of a page

struct Sizes {
  int64_t N, D, V, ignored, threads;
};

template <typename From, typename To>
void convert(const From* from, int64_t count, To* to) {
  for (int64_t j = 0; j < count; j += 16) store(to + j, load(from + j, lanes(count - j)), lanes(count - j));
}

// The head twice: its transpose in panels [V / PANEL][even(D)][PANEL], and its rows [even(V)][D], both packed.
template <typename T>
struct Head {
  T* turned;
  T* rows;
  int64_t panels, D, V;

  int64_t width(int64_t p) const { return std::min(PANEL, V - p * PANEL); }
  int64_t padded(int64_t p) const { return up_to(width(p), 16); }
  const T* panel(int64_t p) const { return turned + p * PANEL * even(D); }

  void fill_panel(const float* weight, int64_t p, T* staged) const {
    const int64_t wide = even(D), first = p * PANEL, count = width(p);
    for (int64_t i = 0; i < padded(p); ++i) {
      if (i < count) {
        convert(weight + (first + i) * D, D, staged + i * wide);
        if (wide > D) staged[i * wide + D] = T(0);
      } else {
        std::fill(staged + i * wide, staged + (i + 1) * wide, T(0));
      }
    }
    T* to = turned + p * PANEL * wide;
    if (wide > D) std::fill(to, to + wide * padded(p), T(0));
    Operand<T>::pack_turned(staged, wide, padded(p), D, to);
    Operand<T>::pack(staged, wide, count, D, rows + first * D);
  }
};

// From logits [count][stride] of floats: the nats of each token, and the gradients of their sum at the logits, as rows
// [count][stride] of T and packed in panels for the products with the hidden states.
template <typename T>
void to_slopes(float* logits, int64_t stride, int64_t count, const int64_t* targets, int64_t V, float* nats, T* slopes,
               T* panels, int64_t chunk_tokens, int64_t at) {
  float scale[TOKENS];
  for (int64_t i = 0; i < count; ++i) {
    float* row = logits + i * stride;
    __m512 high = _mm512_set1_ps(-std::numeric_limits<float>::infinity());
    for (int64_t j = 0; j < V; j += 16) high = _mm512_mask_max_ps(high, lanes(V - j), high, load(row + j));
    const float most = _mm512_reduce_max_ps(high), own = row[targets[i]];
    const __m512 shift = _mm512_set1_ps(most);
    __m512 sum = _mm512_setzero_ps();
    for (int64_t j = 0; j < V; j += 16) {
      const __m512 p = _mm512_maskz_mov_ps(lanes(V - j), exp(_mm512_sub_ps(load(row + j), shift)));
      sum = _mm512_add_ps(sum, p);
      store(row + j, p);
    }
    const float total = _mm512_reduce_add_ps(sum);
    nats[i] = std::log(total) - (own - most);
    scale[i] = 1.0f / total;
    row[targets[i]] -= total;
  }
  for (int64_t i = 0; i < even(count); i += 2) {
    const bool two = i + 1 < count;
    const __m512 by = _mm512_set1_ps(scale[i]), by_next = _mm512_set1_ps(two ? scale[i + 1] : 0.0f);
    for (int64_t j = 0; j < V; j += 16) {
      const int64_t p = j / PANEL, width = std::min(PANEL, up_to(V - p * PANEL, 16));
      const __m512 first = _mm512_mul_ps(load(logits + i * stride + j), by);
      const __m512 second = two ? _mm512_mul_ps(load(logits + (i + 1) * stride + j), by_next) : _mm512_setzero_ps();
      store(slopes + i * stride + j, first);
      if (two) store(slopes + (i + 1) * stride + j, second);
      T* to = panels + p * PANEL * chunk_tokens + (at + i) * width;
      Operand<T>::store_pair(Operand<T>::column(to, j - p * PANEL), width, first, second, 0xffff);
    }
  }
}

template <typename H, typename T>
void forward(const H* hidden, const float* weight, const int64_t* targets, float* total, H* d_hidden, float* d_weight,
             int64_t* outside, const Sizes& n) {
  const int64_t D = n.D, V = n.V, wide = even(D), across = up_to(V, 16), stride = across + AISLE;
  const int64_t panels = (V + PANEL - 1) / PANEL;
  std::vector<int64_t> scored;
  for (int64_t i = 0; i < n.N; ++i) {
    if (targets[i] == n.ignored) continue;
    scored.push_back(i);
    *outside += targets[i] < 0 || targets[i] >= V;
  }
  if (*outside) return;
  const int64_t count = scored.size(), fitting = CHUNK / (across * static_cast<int64_t>(sizeof(T)));
  const int64_t chunk_tokens = std::min(up_to(std::max<int64_t>(count, 1), TOKENS), std::max<int64_t>(1, fitting / TOKENS) * TOKENS);
  using W = Workspace;
  W shared(W::bytes_of<T>(panels * PANEL * wide) + W::bytes_of<T>(even(V) * D) + W::bytes_of<T>(panels * PANEL * chunk_tokens) +
           W::bytes_of<T>(D * chunk_tokens) + W::bytes_of<float>(count));
  const Head<T> head{shared.take<T>(panels * PANEL * wide), shared.take<T>(even(V) * D), panels, D, V};
  T* slopes_packed = shared.take<T>(panels * PANEL * chunk_tokens);
  T* hidden_turned = shared.take<T>(D * chunk_tokens);
  float* nats = shared.take<float>(count);
  std::memset(static_cast<void*>(d_hidden), 0, n.N * D * sizeof(H));
  std::memset(d_weight, 0, V * D * sizeof(float));
#pragma omp parallel num_threads(n.threads) if (n.threads > 1)
  {
    W space(W::bytes_of<T>(PANEL * wide) + W::bytes_of<T>(TOKENS * wide) + W::bytes_of<float>(TOKENS * stride) +
            W::bytes_of<T>(TOKENS * stride) + W::bytes_of<float>(TOKENS * D) + 2 * W::bytes_of<float>(D * PANEL));
    T* staged = space.take<T>(PANEL * wide);
    T* rows = space.take<T>(TOKENS * wide);
    float* logits = space.take<float>(TOKENS * stride);
    T* slopes = space.take<T>(TOKENS * stride);
    float* sums = space.take<float>(TOKENS * D);
    float* d_panel = space.take<float>(D * PANEL);
    float* d_rows = space.take<float>(D * PANEL);
#pragma omp for schedule(static)
    for (int64_t p = 0; p < panels; ++p) head.fill_panel(weight, p, staged);
    for (int64_t begin = 0; begin < count; begin += chunk_tokens) {
      const int64_t tokens = std::min(chunk_tokens, count - begin);
#pragma omp for schedule(dynamic)
      for (int64_t t = 0; t < (tokens + TOKENS - 1) / TOKENS; ++t) {
        const int64_t at = t * TOKENS, here = std::min(TOKENS, tokens - at);
        int64_t own[TOKENS];
        for (int64_t i = 0; i < here; ++i) {
          const int64_t token = scored[begin + at + i];
          own[i] = targets[token];
          convert(hidden + token * D, D, rows + i * wide);
          if (wide > D) rows[i * wide + D] = T(0);
        }
        for (int64_t p = 0; p < panels; ++p) {
          product<T>(here, head.padded(p), D, rows, wide, head.panel(p), head.padded(p), logits + p * PANEL, stride, false);
        }
        to_slopes(logits, stride, here, own, V, nats + begin + at, slopes, slopes_packed, chunk_tokens, at);
        Operand<T>::turn(rows, wide, here, D, hidden_turned + at, chunk_tokens);
        if (here % 2) {
          for (int64_t j = 0; j < D; ++j) hidden_turned[j * chunk_tokens + at + here] = T(0);
        }
        for (int64_t k = 0; k < V; k += DEPTH) {
          product<T>(here, D, std::min(DEPTH, V - k), slopes + k, stride, head.rows + k * D, D, sums, D, k > 0);
        }
        for (int64_t i = 0; i < here; ++i) convert(sums + i * D, D, d_hidden + scored[begin + at + i] * D);
      }
#pragma omp for schedule(static)
      for (int64_t p = 0; p < panels; ++p) {
        const int64_t width = head.padded(p);
        for (int64_t k = 0; k < tokens; k += DEPTH) {
          product<T>(D, width, std::min(DEPTH, tokens - k), hidden_turned + k, chunk_tokens,
                     slopes_packed + p * PANEL * chunk_tokens + k * width, width, d_panel, width, k > 0);
        }
        turned(d_panel, width, D, head.width(p), d_rows, D);
        float* to = d_weight + p * PANEL * D;
        for (int64_t i = 0; i < head.width(p) * D; ++i) to[i] += d_rows[i];
      }
    }
  }
  double sum = 0;
  for (int64_t i = 0; i < count; ++i) sum += nats[i];
  *total = static_cast<float>(sum);
}

template <typename H, typename T>
void run(void* const* x, const int64_t* n) {
  forward<H, T>(static_cast<const H*>(x[0]), static_cast<const float*>(x[1]), static_cast<const int64_t*>(x[2]),
                static_cast<float*>(x[3]), static_cast<H*>(x[4]), static_cast<float*>(x[5]),
                static_cast<int64_t*>(x[6]), {n[0], n[1], n[2], n[3], n[4]});
}

}  // namespace
}  // namespace assay

extern "C" {
void cross_entropy_float32_float32(void* const* x, const int64_t* n) { assay::run<float, float>(x, n); }
void cross_entropy_float32_bfloat16(void* const* x, const int64_t* n) { assay::run<float, assay::BFloat16>(x, n); }
void cross_entropy_bfloat16_bfloat16(void* const* x, const int64_t* n) { assay::run<assay::BFloat16, assay::BFloat16>(x, n); }
}
