// The iteration of Newton and Schulz towards the orthogonal factor of a matrix, for Muon: one task a matrix, which stays
// in the cache; products of BFloat16, sums in float.
//
// N matrices of R rows and C columns, R at most C.
#include <algorithm>
#include <cmath>

#include "products.h"

namespace assay {
namespace {

constexpr int64_t PANEL = 256;  // columns of a product

struct Sizes {
  int64_t N, R, C, iterations, threads;
};

// X <- a X + (b G + c G G) X with G = X X^T.
struct Iteration {
  float a, b, c;
};

// to [rows][ld_to] = of(row, column, mask) for every 16 columns of every row, and zero in a column behind the last.
template <typename Of>
void fill(int64_t rows, int64_t width, BFloat16* to, int64_t ld_to, const Of& of) {
  for (int64_t i = 0; i < rows; ++i) {
    for (int64_t j = 0; j < width; j += 16) store(to + i * ld_to + j, of(i, j, lanes(width - j)), lanes(width - j));
    if (width < ld_to) to[i * ld_to + width] = BFloat16(0);
  }
}

// C [M][N] = A B in panels of columns; A has even(K) entries a row, B is packed [even(K)][N].
void by_panels(int64_t M, int64_t N, int64_t K, const BFloat16* A, const BFloat16* B, float* C) {
  for (int64_t j = 0; j < N; j += PANEL) {
    product(M, std::min(PANEL, N - j), K, A, even(K), Operand<BFloat16>::column(B, j), N, C + j, N, false);
  }
}

class Matrix {
 public:
  Matrix(const Sizes& n)
      : R_(n.R), C_(n.C), memory_(bytes(n)), x_(memory_.take<BFloat16>(n.R * even(n.C))),
        packed_(memory_.take<BFloat16>(even(n.C) * even(n.R))), gram_(memory_.take<BFloat16>(n.R * even(n.R))),
        left_(memory_.take<BFloat16>(n.R * even(n.R))), small_(memory_.take<float>(n.R * n.R)), wide_(memory_.take<float>(n.R * n.C)) {}

  void take(const float* from, float eps) {
    __m512 squares = _mm512_setzero_ps();
    for (int64_t i = 0; i < R_ * C_; i += 16) {
      const __m512 some = load(from + i, lanes(R_ * C_ - i));
      squares = _mm512_fmadd_ps(some, some, squares);
    }
    const __m512 rate = _mm512_set1_ps(1.0f / std::max(std::sqrt(_mm512_reduce_add_ps(squares)), eps));
    fill(R_, C_, x_, even(C_), [&](int64_t i, int64_t j, __mmask16 some) { return _mm512_mul_ps(load(from + i * C_ + j, some), rate); });
  }

  void iterate(const Iteration& by) {
    const __m512 a = _mm512_set1_ps(by.a), b = _mm512_set1_ps(by.b), c = _mm512_set1_ps(by.c);
    Operand<BFloat16>::pack_turned(x_, even(C_), R_, C_, packed_);
    by_panels(R_, R_, C_, x_, packed_, small_);
    fill(R_, R_, gram_, even(R_), [&](int64_t i, int64_t j, __mmask16 some) { return load(small_ + i * R_ + j, some); });
    Operand<BFloat16>::pack(gram_, even(R_), R_, R_, packed_);
    by_panels(R_, R_, R_, gram_, packed_, small_);
    fill(R_, R_, left_, even(R_), [&](int64_t i, int64_t j, __mmask16 some) {
      const __m512 gram = _mm512_mul_ps(load(gram_ + i * even(R_) + j, some), b);
      return _mm512_fmadd_ps(load(small_ + i * R_ + j, some), c, gram);
    });
    Operand<BFloat16>::pack(x_, even(C_), R_, C_, packed_);
    by_panels(R_, C_, R_, left_, packed_, wide_);
    fill(R_, C_, x_, even(C_), [&](int64_t i, int64_t j, __mmask16 some) {
      return _mm512_fmadd_ps(load(x_ + i * even(C_) + j, some), a, load(wide_ + i * C_ + j, some));
    });
  }

  void give(float* to) const {
    for (int64_t i = 0; i < R_; ++i) {
      for (int64_t j = 0; j < C_; j += 16) store(to + i * C_ + j, load(x_ + i * even(C_) + j, lanes(C_ - j)), lanes(C_ - j));
    }
  }

 private:
  static size_t bytes(const Sizes& n) {
    const auto of = [](int64_t count) { return Workspace::bytes_of<BFloat16>(count); };
    return of(n.R * even(n.C)) + of(even(n.C) * even(n.R)) + 2 * of(n.R * even(n.R)) + Workspace::bytes_of<float>(n.R * n.R) +
        Workspace::bytes_of<float>(n.R * n.C);
  }

  int64_t R_, C_;
  Workspace memory_;
  BFloat16 *x_, *packed_, *gram_, *left_;
  float *small_, *wide_;
};

void orthogonal(const float* from, const float* option, float* to, const Sizes& n) {
#pragma omp parallel num_threads(n.threads) if (n.threads > 1)
  {
    Matrix matrix(n);
#pragma omp for schedule(static)
    for (int64_t task = 0; task < n.N; ++task) {
      matrix.take(from + task * n.R * n.C, option[3]);
      for (int64_t k = 0; k < n.iterations; ++k) matrix.iterate({option[0], option[1], option[2]});
      matrix.give(to + task * n.R * n.C);
    }
  }
}

}  // namespace
}  // namespace assay

extern "C" {
// x: matrices [N][R][C], a, b, c and the least norm, results [N][R][C]; n: N, R, C, iterations, threads.
void orthogonal(void* const* x, const int64_t* n) {
  const auto of = [x](int i) { return static_cast<float*>(x[i]); };
  assay::orthogonal(of(0), of(1), of(2), {n[0], n[1], n[2], n[3], n[4]});
}
}
