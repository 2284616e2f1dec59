// A short causal convolution, one filter a channel, and its gradient: one pass over the rows, sums in float.
//
// B rows of a batch, T tokens, D channels, filters of width W; V = W - 1 inputs of each row stand before the first.
// Tokens are cut in segments, whatever the number of threads; what segments give the filters is added up in order.
#include <algorithm>
#include <utility>
#include <vector>

#include "products.h"
#include "segments.h"

namespace assay {
namespace {

constexpr int WIDEST = 8;
constexpr int64_t SEGMENTS = 16;  // of a row, at most
constexpr int64_t TILE = 16;      // tokens whose rows stay in the nearest cache while the gradient passes all channels

struct Sizes {
  int64_t B, T, D, W, threads, batch, token;  // the last two are x's strides
  int64_t Dp() const { return up_to(D, 16); }
  Segments segments() const { return Segments(B, T, SEGMENTS, threads); }
};

Sizes sizes_of(const int64_t* n) { return {n[0], n[1], n[2], n[3], n[4], n[5], n[6]}; }

// The inputs of a row, those before its first token too.
template <typename T>
struct Inputs {
  const T *x, *state;
  int64_t token, D, before;
  const T* at(int64_t t) const { return t < 0 ? state + (t + before) * D : x + t * token; }
};

template <typename T>
Inputs<T> inputs_of(const T* x, const T* state, int64_t b, const Sizes& n) {
  return {x + b * n.batch, state + b * (n.W - 1) * n.D, n.token, n.D, n.W - 1};
}

// The filters [D][W] as rows of channels, [W][Dp].
std::vector<float> in_rows(const float* weight, const Sizes& n) {
  std::vector<float> rows(n.W * n.Dp());
  turned(weight, n.W, n.D, n.W, rows.data(), n.Dp());
  return rows;
}

template <int W, typename T>
void forward(const T* x, const T* state, const float* weight, const float* bias, T* y, const Sizes& n) {
  const std::vector<float> filters = in_rows(weight, n);
  n.segments().each([&](int64_t b, int64_t start, int64_t end, int64_t) {
    const Inputs<T> inputs = inputs_of(x, state, b, n);
    for (int64_t t = start; t < end; ++t) {
      const T* rows[W];
      for (int w = 0; w < W; ++w) rows[w] = inputs.at(t - W + 1 + w);
      T* out = y + (b * n.T + t) * n.D;
      for (int64_t d = 0; d < n.D; d += 16) {
        const __mmask16 some = lanes(n.D - d);
        __m512 sum = load(bias + d, some);
        for (int w = 0; w < W; ++w) sum = _mm512_fmadd_ps(load(rows[w] + d, some), load(filters.data() + w * n.Dp() + d), sum);
        store(out + d, sum, some);
        if (d % 32 == 0 && t + TILE < n.T) _mm_prefetch(reinterpret_cast<const char*>(inputs.at(t + TILE) + d), _MM_HINT_T0);
      }
    }
  });
}

// The gradients at the inputs of the tokens start ... end - 1, and what these add to those at filters and bias, in
// `part` [W + 1][Dp].
template <int W, typename T>
void tile_gradient(const T* dy, const Inputs<T>& inputs, const float* filters, int64_t start, int64_t end, T* dx, T* d_state, float* part,
                   const Sizes& n) {
  const int64_t D = n.D, Dp = n.Dp(), tokens = n.T;
  for (int64_t d = 0; d < D; d += 16) {
    const __mmask16 some = lanes(D - d);
    const auto slope = [&](int64_t t) { return t >= 0 && t < tokens ? load(dy + t * D + d, some) : _mm512_setzero_ps(); };
    __m512 filter[W], sums[W], before[W], after[W];  // `before` a token and at it, `after` it and at it
    __m512 all = load(part + W * Dp + d);
    for (int w = 0; w < W; ++w) {
      filter[w] = load(filters + w * Dp + d);
      sums[w] = load(part + w * Dp + d);
    }
    const auto at_input = [&] {
      __m512 sum = _mm512_setzero_ps();
      for (int w = 0; w < W; ++w) sum = _mm512_fmadd_ps(after[w], filter[W - 1 - w], sum);
      return sum;
    };
    const int64_t first = start ? start : 1 - W;
    for (int w = 0; w < W; ++w) after[w] = slope(first + w - 1);
    const auto next = [&](int64_t t) {
      for (int w = 0; w + 1 < W; ++w) after[w] = after[w + 1];
      after[W - 1] = slope(t + W - 1);
    };
    for (int64_t t = first; t < start; ++t) {
      next(t);
      store(d_state + (t + W - 1) * D + d, at_input(), some);
    }
    for (int w = 1; w < W; ++w) before[w] = load(inputs.at(start - W + w) + d, some);
    for (int64_t t = start; t < end; ++t) {
      next(t);
      store(dx + t * D + d, at_input(), some);
      for (int w = 0; w + 1 < W; ++w) before[w] = before[w + 1];
      before[W - 1] = load(inputs.at(t) + d, some);
      for (int w = 0; w < W; ++w) sums[w] = _mm512_fmadd_ps(after[0], before[w], sums[w]);
      all = _mm512_add_ps(all, after[0]);
      if (d % 32 == 0 && t + TILE < tokens) {
        _mm_prefetch(reinterpret_cast<const char*>(inputs.at(t + TILE) + d), _MM_HINT_T0);
        _mm_prefetch(reinterpret_cast<const char*>(dy + (t + TILE) * D + d), _MM_HINT_T0);
      }
    }
    for (int w = 0; w < W; ++w) store(part + w * Dp + d, sums[w]);
    store(part + W * Dp + d, all);
  }
}

template <int W, typename T>
void gradient(const T* dy, const T* x, const T* state, const float* weight, T* dx, T* d_state, float* d_weight, float* d_bias, const Sizes& n) {
  const std::vector<float> filters = in_rows(weight, n);
  const Segments segments = n.segments();
  const int64_t size = (W + 1) * n.Dp();
  std::vector<float> parts = segments.parts(size);
  segments.each([&](int64_t b, int64_t start, int64_t end, int64_t segment) {
    for (int64_t t = start; t < end; t += TILE) {
      tile_gradient<W>(dy + b * n.T * n.D, inputs_of(x, state, b, n), filters.data(), t, std::min(end, t + TILE), dx + b * n.T * n.D,
                       d_state + b * (W - 1) * n.D, parts.data() + segment * size, n);
    }
  });
  segments.add_up(parts, size);
  turned(parts.data(), n.Dp(), W, n.D, d_weight, W);
  std::copy_n(parts.data() + W * n.Dp(), n.D, d_bias);
}

// Calls of.template operator()<W>() for the width that the filters have.
template <typename Body, int... widths>
void with_width(int64_t W, const Body& of, std::integer_sequence<int, widths...>) {
  ((W == widths + 1 ? of.template operator()<widths + 1>() : void()), ...);
}

template <typename T>
void run_forward(void* const* x, const int64_t* n) {
  const auto of_T = [x](int i) { return static_cast<T*>(x[i]); };
  const auto of_float = [x](int i) { return static_cast<float*>(x[i]); };
  with_width(n[3], [&]<int W>() { forward<W>(of_T(0), of_T(1), of_float(2), of_float(3), of_T(4), sizes_of(n)); },
             std::make_integer_sequence<int, WIDEST>());
}

template <typename T>
void run_gradient(void* const* x, const int64_t* n) {
  const auto of_T = [x](int i) { return static_cast<T*>(x[i]); };
  const auto of_float = [x](int i) { return static_cast<float*>(x[i]); };
  with_width(
      n[3], [&]<int W>() { gradient<W>(of_T(0), of_T(1), of_T(2), of_float(3), of_T(4), of_T(5), of_float(6), of_float(7), sizes_of(n)); },
      std::make_integer_sequence<int, WIDEST>());
}

}  // namespace
}  // namespace assay

extern "C" {
void convolution_float32(void* const* x, const int64_t* n) { assay::run_forward<float>(x, n); }
void convolution_bfloat16(void* const* x, const int64_t* n) { assay::run_forward<assay::BFloat16>(x, n); }
void convolution_gradient_float32(void* const* x, const int64_t* n) { assay::run_gradient<float>(x, n); }
void convolution_gradient_bfloat16(void* const* x, const int64_t* n) { assay::run_gradient<assay::BFloat16>(x, n); }
}
