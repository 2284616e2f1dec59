// SiLU, SiLU times another input, and the squared ReLU, with their gradients: one pass each over N entries, in float.
#include <algorithm>

#include "products.h"

namespace assay {
namespace {

constexpr int64_t PART = 1 << 14;  // entries that one thread takes at a time

// to[i] = of(place i) for 16 entries at a time; `of` writes what else there is.
template <typename T, typename Of>
void each(T* to, int64_t N, int64_t threads, const Of& of) {
#pragma omp parallel for num_threads(threads) schedule(static) if (threads > 1)
  for (int64_t start = 0; start < N; start += PART) {
    const int64_t end = std::min(N, start + PART);
    for (int64_t i = start; i < end; i += 16) store(to + i, of(i, lanes(end - i)), lanes(end - i));
  }
}

inline __m512 sigmoid(__m512 x) {
  const __m512 one = _mm512_set1_ps(1.0f);
  return _mm512_div_ps(one, _mm512_add_ps(one, exp(_mm512_sub_ps(_mm512_setzero_ps(), x))));
}

// The slope of x s at x, with s the sigmoid of x: s (1 + x (1 - s)).
inline __m512 silu_slope(__m512 x, __m512 s) {
  const __m512 one = _mm512_set1_ps(1.0f);
  return _mm512_mul_ps(s, _mm512_fmadd_ps(x, _mm512_sub_ps(one, s), one));
}

inline __m512 relu(__m512 x) { return _mm512_max_ps(_mm512_setzero_ps(), x); }  // of NaN it is NaN

template <typename T>
void silu(void* const* t, const int64_t* n) {
  const T* x = static_cast<T*>(t[0]);
  each(static_cast<T*>(t[1]), n[0], n[1], [=](int64_t i, __mmask16 some) {
    const __m512 at = load(x + i, some);
    return _mm512_mul_ps(at, sigmoid(at));
  });
}

template <typename T>
void silu_gradient(void* const* t, const int64_t* n) {
  const T *dy = static_cast<T*>(t[0]), *x = static_cast<T*>(t[1]);
  each(static_cast<T*>(t[2]), n[0], n[1], [=](int64_t i, __mmask16 some) {
    const __m512 at = load(x + i, some);
    return _mm512_mul_ps(load(dy + i, some), silu_slope(at, sigmoid(at)));
  });
}

template <typename T>
void gated_silu(void* const* t, const int64_t* n) {
  const T *gate = static_cast<T*>(t[0]), *x = static_cast<T*>(t[1]);
  each(static_cast<T*>(t[2]), n[0], n[1], [=](int64_t i, __mmask16 some) {
    const __m512 at = load(gate + i, some);
    return _mm512_mul_ps(_mm512_mul_ps(at, sigmoid(at)), load(x + i, some));
  });
}

template <typename T>
void gated_silu_gradient(void* const* t, const int64_t* n) {
  const T *dy = static_cast<T*>(t[0]), *gate = static_cast<T*>(t[1]), *x = static_cast<T*>(t[2]);
  T* dx = static_cast<T*>(t[4]);
  each(static_cast<T*>(t[3]), n[0], n[1], [=](int64_t i, __mmask16 some) {
    const __m512 at = load(gate + i, some), s = sigmoid(at), slope = load(dy + i, some);
    store(dx + i, _mm512_mul_ps(slope, _mm512_mul_ps(at, s)), some);
    return _mm512_mul_ps(_mm512_mul_ps(slope, load(x + i, some)), silu_slope(at, s));
  });
}

template <typename T>
void squared_relu(void* const* t, const int64_t* n) {
  const T* x = static_cast<T*>(t[0]);
  each(static_cast<T*>(t[1]), n[0], n[1], [=](int64_t i, __mmask16 some) {
    const __m512 at = relu(load(x + i, some));
    return _mm512_mul_ps(at, at);
  });
}

template <typename T>
void squared_relu_gradient(void* const* t, const int64_t* n) {
  const T *dy = static_cast<T*>(t[0]), *x = static_cast<T*>(t[1]);
  each(static_cast<T*>(t[2]), n[0], n[1], [=](int64_t i, __mmask16 some) {
    const __m512 at = load(x + i, some);
    // Zero where x is not above zero, whatever dy is there.
    const __mmask16 above = _mm512_cmp_ps_mask(at, _mm512_setzero_ps(), _CMP_NLE_UQ);
    return _mm512_maskz_mul_ps(above, _mm512_add_ps(at, at), load(dy + i, some));
  });
}

}  // namespace
}  // namespace assay

#define BOTH(name)                                                                            \
  void name##_float32(void* const* t, const int64_t* n) { assay::name<float>(t, n); }         \
  void name##_bfloat16(void* const* t, const int64_t* n) { assay::name<assay::BFloat16>(t, n); }

extern "C" {
BOTH(silu)
BOTH(silu_gradient)
BOTH(gated_silu)
BOTH(gated_silu_gradient)
BOTH(squared_relu)
BOTH(squared_relu_gradient)
}
