// Products of two matrices, in tiles whose operands are packed once and stay in the cache; an op of torch's library.
//
// In float32 this is worth it where the library that torch multiplies with does not use the processor's widest
// registers; in BFloat16 operands that stand transposed, as in every gradient of a weight, are packed as they are read.
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <ATen/Parallel.h>
#include <torch/library.h>

#include <algorithm>

#include "products.h"

namespace assay {
namespace {

constexpr int64_t ROWS = 64;      // of a tile of the result, at most
constexpr int64_t COLUMNS = 256;  // of a tile of the result
constexpr int64_t DEPTH = 1024;   // of the sums of one call

template <typename T>
struct Matrix {  // entries at [i * row + j * column], one of which is 1
  const T* data;
  int64_t row, column;
};

// A tile [rows][depth] of the left side, as rows of even length; `to` is used where it is not so in memory.
template <typename T>
std::pair<const T*, int64_t> left_tile(const Matrix<T>& a, int64_t i, int64_t rows, int64_t k, int64_t depth, T* to) {
  if (a.column == 1 && depth % 2 == 0) return {a.data + i * a.row + k, a.row};
  const int64_t wide = even(depth);
  if (a.column == 1) {
    for (int64_t r = 0; r < rows; ++r) {
      std::memcpy(to + r * wide, a.data + (i + r) * a.row + k, depth * sizeof(T));
      to[r * wide + depth] = T(0);
    }
  } else {
    if (wide > depth) std::fill(to, to + rows * wide, T(0));
    Operand<T>::turn(a.data + i + k * a.column, a.column, depth, rows, to, wide);
  }
  return {to, wide};
}

// A panel [even(depth)][columns] of the right side, packed.
template <typename T>
void pack_panel(const Matrix<T>& b, int64_t k, int64_t depth, int64_t j, int64_t columns, T* to, T* staged) {
  if (b.column == 1) {
    Operand<T>::pack(b.data + k * b.row + j, b.row, depth, columns, to);
    return;
  }
  const T* from = b.data + k + j * b.column;
  if (std::is_same_v<T, float>) {
    if (depth % 2) std::fill(to + depth * columns, to + (depth + 1) * columns, T(0));
    Operand<T>::pack_turned(from, b.column, columns, depth, to);
  } else if (depth % 2 == 0 && b.column % 2 == 0) {
    Operand<T>::pack_turned(from, b.column, columns, depth, to);
  } else {
    const int64_t wide = even(depth);
    for (int64_t c = 0; c < columns; ++c) {
      std::memcpy(staged + c * wide, from + c * b.column, depth * sizeof(T));
      if (wide > depth) staged[c * wide + depth] = T(0);
    }
    Operand<T>::pack_turned(staged, wide, columns, depth, to);
  }
}

int64_t tile_of(int64_t M, int64_t threads) {
  const int64_t share = (M + threads - 1) / threads, tiles = (share + ROWS - 1) / ROWS;
  return (share + tiles - 1) / tiles;
}

template <typename T>
void multiply(const Matrix<T>& a, const Matrix<T>& b, T* c, int64_t M, int64_t N, int64_t K, int64_t threads) {
  const int64_t height = tile_of(M, threads), down = (M + height - 1) / height;
  const int64_t across = (N + COLUMNS - 1) / COLUMNS, deep = (K + DEPTH - 1) / DEPTH;
  const auto columns_of = [N](int64_t p) { return std::min(COLUMNS, N - p * COLUMNS); };
  const auto depth_of = [K](int64_t d) { return std::min(DEPTH, K - d * DEPTH); };
  using W = Workspace;
  W panels_space(W::bytes_of<T>(even(DEPTH) * deep * N + 64 * across));
  T* panels = panels_space.take<T>(even(DEPTH) * deep * N);
  const auto panel = [&](int64_t d, int64_t p) { return panels + d * DEPTH * N + p * COLUMNS * even(depth_of(d)); };
#pragma omp parallel num_threads(threads) if (threads > 1)
  {
    W space(W::bytes_of<T>(DEPTH * COLUMNS) + W::bytes_of<T>(height * DEPTH) + W::bytes_of<float>(height * COLUMNS));
    T* staged = space.take<T>(DEPTH * COLUMNS);
    T* rows = space.take<T>(height * DEPTH);
    float* sums = space.take<float>(height * COLUMNS);
#pragma omp for schedule(static)
    for (int64_t at = 0; at < deep * across; ++at) {
      const int64_t d = at / across, p = at % across;
      pack_panel(b, d * DEPTH, depth_of(d), p * COLUMNS, columns_of(p), panel(d, p), staged);
    }
#pragma omp for schedule(static)
    for (int64_t t = 0; t < down; ++t) {
      const int64_t i = t * height, count = std::min(height, M - i);
      for (int64_t p = 0; p < across; ++p) {
        const int64_t columns = columns_of(p);
        for (int64_t d = 0; d < deep; ++d) {
          const auto [left, stride] = left_tile(a, i, count, d * DEPTH, depth_of(d), rows);
          product<T>(count, columns, depth_of(d), left, stride, panel(d, p), columns, sums, columns, d > 0);
        }
        for (int64_t r = 0; r < count; ++r) {
          for (int64_t j = 0; j < columns; j += 16) {
            const __mmask16 some = lanes(columns - j);
            store(c + (i + r) * N + p * COLUMNS + j, load(sums + r * columns + j, some), some);
          }
        }
      }
    }
  }
}

template <typename T>
Matrix<T> matrix_of(const at::Tensor& x) {
  return {static_cast<const T*>(x.const_data_ptr()), x.stride(0), x.stride(1)};
}

at::Tensor in_rows_or_columns(const at::Tensor& x) {
  return (x.stride(1) == 1 || x.stride(0) == 1) && std::max(x.stride(0), x.stride(1)) > 0 ? x : x.contiguous();
}

at::Tensor product_of(const at::Tensor& a, const at::Tensor& b) {
  const at::Tensor left = in_rows_or_columns(a), right = in_rows_or_columns(b);
  const int64_t M = a.size(0), K = a.size(1), N = b.size(1);
  at::Tensor c = at::empty({M, N}, a.options());
  const int64_t threads = at::get_num_threads();
  if (a.scalar_type() == at::kFloat) {
    multiply<float>(matrix_of<float>(left), matrix_of<float>(right), static_cast<float*>(c.mutable_data_ptr()), M, N, K, threads);
  } else {
    multiply<BFloat16>(matrix_of<BFloat16>(left), matrix_of<BFloat16>(right), static_cast<BFloat16*>(c.mutable_data_ptr()), M, N, K, threads);
  }
  return c;
}

TORCH_LIBRARY_FRAGMENT(assay, library) {
  library.def("matmul(Tensor a, Tensor b) -> Tensor", {at::Tag::pt2_compliant_tag, at::Tag::needs_exact_strides});
}
TORCH_LIBRARY_IMPL(assay, CPU, library) { library.impl("matmul", product_of); }

}  // namespace
}  // namespace assay
