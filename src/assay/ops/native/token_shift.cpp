// Mixtures of every token with the one before it, x_t + share (x_{t-1} - x_t), and their gradient; sums in float.
//
// B rows of a batch, T tokens, D channels, S shares of every channel. x and the input before the first token are in
// float, mixtures and shares in T. Tokens are cut in segments, whatever the number of threads; what segments give the
// shares is added up in order.
#include <algorithm>
#include <utility>
#include <vector>

#include "products.h"
#include "segments.h"

namespace assay {
namespace {

constexpr int MOST = 6;           // shares
constexpr int64_t SEGMENTS = 16;  // of a row, at most

struct Sizes {
  int64_t B, T, D, threads;
  int64_t Dp() const { return up_to(D, 16); }
  int64_t all() const { return B * T * D; }
  Segments segments() const { return Segments(B, T, SEGMENTS, threads); }
};

Sizes sizes_of(const int64_t* n) { return {n[1], n[2], n[3], n[4]}; }

template <int S, typename T>
void forward(const T* shares, const float* x, const float* last, T* y, const Sizes& n) {
  n.segments().each([&](int64_t b, int64_t from, int64_t to, int64_t) {
    for (int64_t d = 0; d < n.D; d += 16) {
      const __mmask16 some = lanes(n.D - d);
      __m512 share[S];
      for (int s = 0; s < S; ++s) share[s] = load(shares + s * n.D + d, some);
      const float* row = x + b * n.T * n.D + d;
      __m512 before = from ? load(row + (from - 1) * n.D, some) : load(last + b * n.D + d, some);
      for (int64_t t = from; t < to; ++t) {
        const __m512 now = load(row + t * n.D, some), change = _mm512_sub_ps(before, now);
        for (int s = 0; s < S; ++s) store(y + s * n.all() + (b * n.T + t) * n.D + d, _mm512_fmadd_ps(change, share[s], now), some);
        before = now;
      }
    }
  });
}

// At x_t the sum over shares of (1 - share) dy_t + share dy_{t+1}, and at a share that of dy_t (x_{t-1} - x_t).
template <int S, typename T>
void gradient(const T* dy, const T* shares, const float* x, const float* last, T* d_shares, float* dx, float* d_last, const Sizes& n) {
  const Segments segments = n.segments();
  const int64_t size = S * n.Dp();
  std::vector<float> parts = segments.parts(size);
  segments.each([&](int64_t b, int64_t from, int64_t to, int64_t segment) {
    for (int64_t d = 0; d < n.D; d += 16) {
      const __mmask16 some = lanes(n.D - d);
      __m512 share[S], sums[S];
      for (int s = 0; s < S; ++s) {
        share[s] = load(shares + s * n.D + d, some);
        sums[s] = _mm512_setzero_ps();
      }
      const auto slope = [&](int s, int64_t t) { return load(dy + s * n.all() + (b * n.T + t) * n.D + d, some); };
      // What the mixtures of token t give to the input before it.
      const auto to_before = [&](int64_t t) {
        __m512 sum = _mm512_setzero_ps();
        for (int s = 0; s < S && t < n.T; ++s) sum = _mm512_fmadd_ps(slope(s, t), share[s], sum);
        return sum;
      };
      const float* row = x + b * n.T * n.D + d;
      __m512 before = from ? load(row + (from - 1) * n.D, some) : load(last + b * n.D + d, some);
      __m512 to_last = to_before(from);
      if (from == 0) store(d_last + b * n.D + d, to_last, some);
      for (int64_t t = from; t < to; ++t) {
        const __m512 now = load(row + t * n.D, some), change = _mm512_sub_ps(before, now);
        __m512 all = _mm512_setzero_ps();
        for (int s = 0; s < S; ++s) {
          const __m512 one = slope(s, t);
          all = _mm512_add_ps(all, one);
          sums[s] = _mm512_fmadd_ps(one, change, sums[s]);
        }
        const __m512 next = to_before(t + 1);
        store(dx + (b * n.T + t) * n.D + d, _mm512_add_ps(_mm512_sub_ps(all, to_last), next), some);
        to_last = next;
        before = now;
      }
      for (int s = 0; s < S; ++s) store(parts.data() + segment * size + s * n.Dp() + d, sums[s]);
    }
  });
  segments.add_up(parts, size);
  for (int s = 0; s < S; ++s) {
    for (int64_t d = 0; d < n.D; d += 16) store(d_shares + s * n.D + d, load(parts.data() + s * n.Dp() + d), lanes(n.D - d));
  }
}

// Calls of.template operator()<S>() for the number of shares that there are.
template <typename Body, int... counts>
void with_shares(int64_t S, const Body& of, std::integer_sequence<int, counts...>) {
  ((S == counts + 1 ? of.template operator()<counts + 1>() : void()), ...);
}

template <typename T>
void run_forward(void* const* x, const int64_t* n) {
  const auto of_float = [x](int i) { return static_cast<float*>(x[i]); };
  with_shares(n[0], [&]<int S>() { forward<S>(static_cast<T*>(x[0]), of_float(1), of_float(2), static_cast<T*>(x[3]), sizes_of(n)); },
              std::make_integer_sequence<int, MOST>());
}

template <typename T>
void run_gradient(void* const* x, const int64_t* n) {
  const auto of_T = [x](int i) { return static_cast<T*>(x[i]); };
  const auto of_float = [x](int i) { return static_cast<float*>(x[i]); };
  with_shares(n[0], [&]<int S>() { gradient<S>(of_T(0), of_T(1), of_float(2), of_float(3), of_T(4), of_float(5), of_float(6), sizes_of(n)); },
              std::make_integer_sequence<int, MOST>());
}

}  // namespace
}  // namespace assay

extern "C" {
void token_shift_float32(void* const* x, const int64_t* n) { assay::run_forward<float>(x, n); }
void token_shift_bfloat16(void* const* x, const int64_t* n) { assay::run_forward<assay::BFloat16>(x, n); }
void token_shift_gradient_float32(void* const* x, const int64_t* n) { assay::run_gradient<float>(x, n); }
void token_shift_gradient_bfloat16(void* const* x, const int64_t* n) { assay::run_gradient<assay::BFloat16>(x, n); }
}
