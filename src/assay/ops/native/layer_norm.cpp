// Layer normalisation of rows and its gradient, each one pass over the rows; sums in float.
//
// N tokens of G rows of D entries; the g-th row of every token has the g-th weight and bias. Tokens are cut in segments;
// what segments give weights and biases is added up in order.
#include <algorithm>
#include <cmath>
#include <vector>

#include "products.h"
#include "segments.h"

namespace assay {
namespace {

constexpr int64_t SEGMENTS = 64;  // at most

struct Sizes {
  int64_t N, G, D, threads;
  int64_t Dp() const { return up_to(D, 16); }
  Segments segments() const { return Segments(1, N, SEGMENTS, threads); }
};

Sizes sizes_of(const int64_t* n) { return {n[0], n[1], n[2], n[3]}; }

// Calls of(place, lanes) for every 16 entries of a row.
template <typename Of>
void along(int64_t D, const Of& of) {
  for (int64_t d = 0; d < D; d += 16) of(d, lanes(D - d));
}

// The mean of a row, and the mean of the squares of what it is away from that.
template <typename T>
std::pair<float, float> moments(const T* row, int64_t D) {
  __m512 sum = _mm512_setzero_ps(), squares = _mm512_setzero_ps();
  along(D, [&](int64_t d, __mmask16 some) { sum = _mm512_add_ps(sum, load(row + d, some)); });
  const float mean = _mm512_reduce_add_ps(sum) / static_cast<float>(D);
  along(D, [&](int64_t d, __mmask16 some) {
    const __m512 away = _mm512_maskz_sub_ps(some, load(row + d, some), _mm512_set1_ps(mean));
    squares = _mm512_fmadd_ps(away, away, squares);
  });
  return {mean, _mm512_reduce_add_ps(squares) / static_cast<float>(D)};
}

// y = (x - mean) rate weight + bias with rate = 1 / sqrt(mean((x - mean)^2) + eps); mean and rate are kept.
template <typename T>
void forward(const T* x, const float* weight, const float* bias, float eps, T* y, float* kept, const Sizes& n) {
  n.segments().each([&](int64_t, int64_t from, int64_t to, int64_t) {
    for (int64_t i = from * n.G; i < to * n.G; ++i) {
      const int64_t row = i * n.D, own = i % n.G * n.D;
      const auto [mean, variance] = moments(x + row, n.D);
      kept[2 * i] = mean;
      kept[2 * i + 1] = 1.0f / std::sqrt(variance + eps);
      const __m512 middle = _mm512_set1_ps(mean), rate = _mm512_set1_ps(kept[2 * i + 1]);
      along(n.D, [&](int64_t d, __mmask16 some) {
        const __m512 normed = _mm512_mul_ps(_mm512_sub_ps(load(x + row + d, some), middle), rate);
        store(y + row + d, _mm512_fmadd_ps(normed, load(weight + own + d, some), load(bias + own + d, some)), some);
      });
    }
  });
}

// With n = (x - mean) rate: rate (w dy - mean(w dy) - n mean(w dy n)) at x, dy n summed over all tokens at w, dy at the
// bias.
template <typename T>
void gradient(const T* dy, const T* x, const float* weight, const float* kept, T* dx, float* d_weight, float* d_bias, const Sizes& n) {
  const Segments segments = n.segments();
  const int64_t size = n.G * n.Dp();
  std::vector<float> parts = segments.parts(2 * size);
  segments.each([&](int64_t, int64_t from, int64_t to, int64_t segment) {
    for (int64_t i = from * n.G; i < to * n.G; ++i) {
      const int64_t row = i * n.D, own = i % n.G * n.D;
      float* part = parts.data() + segment * 2 * size + i % n.G * n.Dp();
      const __m512 middle = _mm512_set1_ps(kept[2 * i]), rate = _mm512_set1_ps(kept[2 * i + 1]);
      const auto normed = [&](int64_t d, __mmask16 some) {
        return _mm512_maskz_mul_ps(some, _mm512_sub_ps(load(x + row + d, some), middle), rate);
      };
      __m512 sum = _mm512_setzero_ps(), along_n = _mm512_setzero_ps();
      along(n.D, [&](int64_t d, __mmask16 some) {
        const __m512 slope = load(dy + row + d, some), by_n = _mm512_mul_ps(slope, normed(d, some)), w = load(weight + own + d, some);
        store(part + d, _mm512_add_ps(load(part + d), by_n));
        store(part + size + d, _mm512_add_ps(load(part + size + d), slope));
        sum = _mm512_fmadd_ps(slope, w, sum);
        along_n = _mm512_fmadd_ps(by_n, w, along_n);
      });
      const float width = static_cast<float>(n.D);
      const __m512 mean = _mm512_set1_ps(_mm512_reduce_add_ps(sum) / width), mean_n = _mm512_set1_ps(_mm512_reduce_add_ps(along_n) / width);
      along(n.D, [&](int64_t d, __mmask16 some) {
        const __m512 slope = _mm512_fmsub_ps(load(dy + row + d, some), load(weight + own + d, some), mean);
        store(dx + row + d, _mm512_mul_ps(_mm512_fnmadd_ps(normed(d, some), mean_n, slope), rate), some);
      });
    }
  });
  segments.add_up(parts, 2 * size);
  for (int64_t g = 0; g < n.G; ++g) {
    std::copy_n(parts.data() + g * n.Dp(), n.D, d_weight + g * n.D);
    std::copy_n(parts.data() + size + g * n.Dp(), n.D, d_bias + g * n.D);
  }
}

template <typename T>
void run_forward(void* const* x, const int64_t* n) {
  const auto of_float = [x](int i) { return static_cast<float*>(x[i]); };
  forward(static_cast<T*>(x[0]), of_float(1), of_float(2), *of_float(3), static_cast<T*>(x[4]), of_float(5), sizes_of(n));
}

template <typename T>
void run_gradient(void* const* x, const int64_t* n) {
  const auto of_T = [x](int i) { return static_cast<T*>(x[i]); };
  const auto of_float = [x](int i) { return static_cast<float*>(x[i]); };
  gradient(of_T(0), of_T(1), of_float(2), of_float(3), of_T(4), of_float(5), of_float(6), sizes_of(n));
}

}  // namespace
}  // namespace assay

extern "C" {
void layer_norm_float32(void* const* x, const int64_t* n) { assay::run_forward<float>(x, n); }
void layer_norm_bfloat16(void* const* x, const int64_t* n) { assay::run_forward<assay::BFloat16>(x, n); }
void layer_norm_gradient_float32(void* const* x, const int64_t* n) { assay::run_gradient<float>(x, n); }
void layer_norm_gradient_bfloat16(void* const* x, const int64_t* n) { assay::run_gradient<assay::BFloat16>(x, n); }
}
