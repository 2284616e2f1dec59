// Root mean square normalisation of rows and its gradient, each one pass over the rows; sums in float.
//
// N rows of D entries. Rows are cut in segments, whatever the number of threads; what segments give the weights is added
// up in order.
#include <algorithm>
#include <cmath>
#include <vector>

#include "products.h"
#include "segments.h"

namespace assay {
namespace {

constexpr int64_t SEGMENTS = 64;  // at most

struct Sizes {
  int64_t N, D, threads;
  int64_t Dp() const { return up_to(D, 16); }
  Segments segments() const { return Segments(1, N, SEGMENTS, threads); }
};

Sizes sizes_of(const int64_t* n) { return {n[0], n[1], n[2]}; }

// y = x rate weight with rate = 1 / sqrt(mean(x^2) + eps), which is kept.
template <typename T>
void forward(const T* x, const float* weight, float eps, T* y, float* rates, const Sizes& n) {
  n.segments().each([&](int64_t, int64_t from, int64_t to, int64_t) {
    for (int64_t i = from; i < to; ++i) {
      const T* row = x + i * n.D;
      __m512 squares = _mm512_setzero_ps();
      for (int64_t d = 0; d < n.D; d += 16) {
        const __m512 some = load(row + d, lanes(n.D - d));
        squares = _mm512_fmadd_ps(some, some, squares);
      }
      rates[i] = 1.0f / std::sqrt(_mm512_reduce_add_ps(squares) / static_cast<float>(n.D) + eps);
      const __m512 rate = _mm512_set1_ps(rates[i]);
      for (int64_t d = 0; d < n.D; d += 16) {
        const __mmask16 some = lanes(n.D - d);
        store(y + i * n.D + d, _mm512_mul_ps(_mm512_mul_ps(load(row + d, some), rate), load(weight + d, some)), some);
      }
    }
  });
}

// With n = x rate: rate (w dy - n mean(w dy n)) at x, and dy n summed over all rows at w.
template <typename T>
void gradient(const T* dy, const T* x, const float* weight, const float* rates, T* dx, float* d_weight, const Sizes& n) {
  const Segments segments = n.segments();
  std::vector<float> parts = segments.parts(n.Dp());
  segments.each([&](int64_t, int64_t from, int64_t to, int64_t segment) {
    float* part = parts.data() + segment * n.Dp();
    for (int64_t i = from; i < to; ++i) {
      const int64_t row = i * n.D;
      const __m512 rate = _mm512_set1_ps(rates[i]);
      __m512 sum = _mm512_setzero_ps();
      for (int64_t d = 0; d < n.D; d += 16) {
        const __mmask16 some = lanes(n.D - d);
        const __m512 slope = _mm512_mul_ps(load(dy + row + d, some), _mm512_mul_ps(load(x + row + d, some), rate));
        store(part + d, _mm512_add_ps(load(part + d), slope));
        sum = _mm512_fmadd_ps(slope, load(weight + d, some), sum);
      }
      const __m512 mean = _mm512_set1_ps(_mm512_reduce_add_ps(sum) / static_cast<float>(n.D));
      for (int64_t d = 0; d < n.D; d += 16) {
        const __mmask16 some = lanes(n.D - d);
        const __m512 slope = _mm512_mul_ps(load(dy + row + d, some), load(weight + d, some));
        const __m512 normed = _mm512_mul_ps(load(x + row + d, some), rate);
        store(dx + row + d, _mm512_mul_ps(_mm512_fnmadd_ps(normed, mean, slope), rate), some);
      }
    }
  });
  segments.add_up(parts, n.Dp());
  std::copy_n(parts.data(), n.D, d_weight);
}

template <typename T>
void run_forward(void* const* x, const int64_t* n) {
  const auto of_float = [x](int i) { return static_cast<float*>(x[i]); };
  forward(static_cast<T*>(x[0]), of_float(1), *of_float(2), static_cast<T*>(x[3]), of_float(4), sizes_of(n));
}

template <typename T>
void run_gradient(void* const* x, const int64_t* n) {
  const auto of_T = [x](int i) { return static_cast<T*>(x[i]); };
  const auto of_float = [x](int i) { return static_cast<float*>(x[i]); };
  gradient(of_T(0), of_T(1), of_float(2), of_float(3), of_T(4), of_float(5), sizes_of(n));
}

}  // namespace
}  // namespace assay

extern "C" {
void rms_norm_float32(void* const* x, const int64_t* n) { assay::run_forward<float>(x, n); }
void rms_norm_bfloat16(void* const* x, const int64_t* n) { assay::run_forward<assay::BFloat16>(x, n); }
void rms_norm_gradient_float32(void* const* x, const int64_t* n) { assay::run_gradient<float>(x, n); }
void rms_norm_gradient_bfloat16(void* const* x, const int64_t* n) { assay::run_gradient<assay::BFloat16>(x, n); }
}
