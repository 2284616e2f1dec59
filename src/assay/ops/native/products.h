// Products of small matrices within one thread, and what their operands need: packing, transposing, rounding.
//
// Matrices are in rows, T is float or BFloat16, sums are always in float. The right side of a product of BFloat16
// is packed: two rows side by side, entry by entry, as the processor's units read them. A matrix of float is its own
// packed form. Widths that are packed in pairs must be even: `even` says how many rows a packed matrix has.
#pragma once

#include <immintrin.h>

#include <bit>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <type_traits>

// Of ATen/native/CPUBlas.h, which itself would take most of the time that a file here takes to compile. With a torch whose
// functions have other arguments a library does not load, and ops run in Python.
namespace c10 {
struct BFloat16;
}
namespace at::native::cpublas {
void brgemm(int64_t M, int64_t N, int64_t K, int64_t ld_a, int64_t ld_b, int64_t ld_c, const bool add_C, const float* A, const float* B, float* C, bool is_vnni);
void brgemm(int64_t M, int64_t N, int64_t K, int64_t ld_a, int64_t ld_b, int64_t ld_c, const bool add_C, const c10::BFloat16* A, const c10::BFloat16* B, float* C, bool is_vnni);
void brgemm_release(bool is_vnni);
}  // namespace at::native::cpublas

namespace assay {

struct BFloat16 {
  uint16_t bits;
  BFloat16() = default;
  explicit BFloat16(float x) {  // to the nearest, to even in the middle; x is not NaN
    const uint32_t all = std::bit_cast<uint32_t>(x);
    bits = static_cast<uint16_t>((all + 0x7fff + (all >> 16 & 1)) >> 16);
  }
  operator float() const { return std::bit_cast<float>(static_cast<uint32_t>(bits) << 16); }
};

inline int64_t even(int64_t n) { return (n + 1) & ~int64_t{1}; }
inline int64_t up_to(int64_t n, int64_t multiple) { return (n + multiple - 1) / multiple * multiple; }

// The time in which a thread makes products: processors with AMX have tiles that are set up for one kernel, and whoever
// uses them next must find them released.
struct Products {
  ~Products() { at::native::cpublas::brgemm_release(true); }
};

// Memory of one thread for the time of a call, cut in parts that begin at cache lines.
class Workspace {
 public:
  explicit Workspace(size_t bytes) : start_(static_cast<char*>(std::aligned_alloc(64, up_to(bytes, 64)))), at_(start_) {}
  ~Workspace() { std::free(start_); }
  Workspace(const Workspace&) = delete;
  Workspace& operator=(const Workspace&) = delete;

  template <typename T>
  T* take(int64_t count) {
    T* part = reinterpret_cast<T*>(at_);
    at_ += bytes_of<T>(count);
    return part;
  }

  template <typename T>
  static size_t bytes_of(int64_t count) {
    return up_to(count * static_cast<int64_t>(sizeof(T)), 64);
  }

 private:
  Products products_;
  char* start_;
  char* at_;
};

inline __mmask16 lanes(int64_t count) {
  return count >= 16 ? 0xffff : static_cast<__mmask16>((1u << (count > 0 ? count : 0)) - 1);
}

// Up to 16 entries, zeros behind them. All 16 are read without a mask: with one a Zen 5 takes three times as long for
// what is in no near cache.
constexpr __mmask16 ALL = 0xffff;
inline __m512i load_bits(const void* from, __mmask16 some) {  // 16 entries of 32 bits
  return some == ALL ? _mm512_loadu_si512(from) : _mm512_maskz_loadu_epi32(some, from);
}
inline __m256i load_bits(const BFloat16* from, __mmask16 some) {
  return some == ALL ? _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)) : _mm256_maskz_loadu_epi16(some, from);
}

inline void store_bits(void* to, __m512i x, __mmask16 some) {
  some == ALL ? _mm512_storeu_si512(to, x) : _mm512_mask_storeu_epi32(to, some, x);
}

// The same as floats.
inline __m512 load(const float* from, __mmask16 some = ALL) { return _mm512_castsi512_ps(load_bits(from, some)); }
inline __m512 load(const BFloat16* from, __mmask16 some = ALL) {
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(load_bits(from, some)), 16));
}

// 16 floats as BFloat16, to the nearest and to even in the middle.
inline __m256i rounded(__m512 x) {
#ifdef __AVX512BF16__
  return (__m256i)_mm512_cvtneps_pbh(x);
#else
  const __m512i bits = _mm512_castps_si512(x);
  const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
  const __m512i up = _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
  const __mmask16 nan = _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q);
  return _mm512_cvtepi32_epi16(_mm512_srli_epi32(_mm512_mask_mov_epi32(up, nan, _mm512_set1_epi32(0x7fc00000)), 16));
#endif
}
inline void store(float* to, __m512 x, __mmask16 some = ALL) {
  some == ALL ? _mm512_storeu_ps(to, x) : _mm512_mask_storeu_ps(to, some, x);
}
inline void store(BFloat16* to, __m512 x, __mmask16 some = ALL) {
  if (some == ALL) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), rounded(x));
  } else {
    _mm256_mask_storeu_epi16(to, some, rounded(x));
  }
}

// exp(x), to some 2e-7 of it; 0 below -87, so also at minus infinity.
inline __m512 exp(__m512 x) {
  const __m512 t = _mm512_mul_ps(x, _mm512_set1_ps(1.44269504088896341f));
  const __m512 n = _mm512_roundscale_ps(_mm512_max_ps(t, _mm512_set1_ps(-1000.0f)), _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  __m512 f = _mm512_fnmadd_ps(n, _mm512_set1_ps(0.693145751953125f), x);
  f = _mm512_fnmadd_ps(n, _mm512_set1_ps(1.428606765330187e-06f), f);
  __m512 p = _mm512_set1_ps(1.0f / 5040);
  for (const float c : {1.0f / 720, 1.0f / 120, 1.0f / 24, 1.0f / 6, 0.5f, 1.0f, 1.0f}) {
    p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(c));
  }
  const __mmask16 alive = _mm512_cmp_ps_mask(x, _mm512_set1_ps(-87.0f), _CMP_NLT_UQ);  // NaN stays
  return _mm512_maskz_scalef_ps(alive, p, n);
}

// Turn 16 rows of 16 entries of 32 bits.
inline void turn(__m512i r[16]) {
  __m512i t[16];
  for (int i = 0; i < 16; i += 2) {
    t[i] = _mm512_unpacklo_epi32(r[i], r[i + 1]);
    t[i + 1] = _mm512_unpackhi_epi32(r[i], r[i + 1]);
  }
  for (int i = 0; i < 16; i += 4) {
    r[i] = _mm512_unpacklo_epi64(t[i], t[i + 2]);
    r[i + 1] = _mm512_unpackhi_epi64(t[i], t[i + 2]);
    r[i + 2] = _mm512_unpacklo_epi64(t[i + 1], t[i + 3]);
    r[i + 3] = _mm512_unpackhi_epi64(t[i + 1], t[i + 3]);
  }
  for (int i = 0; i < 16; i += 8) {
    for (int j = 0; j < 4; ++j) {
      t[i + j] = _mm512_shuffle_i32x4(r[i + j], r[i + 4 + j], 0x88);
      t[i + 4 + j] = _mm512_shuffle_i32x4(r[i + j], r[i + 4 + j], 0xdd);
    }
  }
  for (int j = 0; j < 8; ++j) {
    r[j] = _mm512_shuffle_i32x4(t[j], t[8 + j], 0x88);
    r[8 + j] = _mm512_shuffle_i32x4(t[j], t[8 + j], 0xdd);
  }
}

// to [columns][ld_to] = from^T of entries of 32 bits, from [rows][ld_from].
inline void turned(const void* from, int64_t ld_from, int64_t rows, int64_t columns, void* to, int64_t ld_to) {
  const auto* source = static_cast<const int32_t*>(from);
  auto* target = static_cast<int32_t*>(to);
  for (int64_t i = 0; i < rows; i += 16) {
    const int64_t height = rows - i < 16 ? rows - i : 16;
    for (int64_t j = 0; j < columns; j += 16) {
      const int64_t width = columns - j < 16 ? columns - j : 16;
      __m512i r[16];
      for (int64_t s = 0; s < 16; ++s) {
        r[s] = s < height ? load_bits(source + (i + s) * ld_from + j, lanes(width)) : _mm512_setzero_si512();
      }
      turn(r);
      for (int64_t s = 0; s < width; ++s) store_bits(target + (j + s) * ld_to + i, r[s], lanes(height));
    }
  }
}

// The operands of products of T. Packed matrices [even(rows)][width] begin with a row of even number.
template <typename T>
struct Operand;

template <>
struct Operand<float> {
  // Packed, of rows [rows][ld].
  static void pack(const float* from, int64_t ld, int64_t rows, int64_t width, float* to) {
    for (int64_t i = 0; i < rows; ++i) std::memcpy(to + i * width, from + i * ld, width * sizeof(float));
    if (rows % 2) std::memset(to + rows * width, 0, width * sizeof(float));
  }
  // Packed, of the transpose of rows [rows][ld]: [even(width)][rows]; ld and entries up to even(width) must be there.
  static void pack_turned(const float* from, int64_t ld, int64_t rows, int64_t width, float* to) {
    turned(from, ld, rows, width, to, rows);
  }
  // Rows of the transpose, [width][ld_to].
  static void turn(const float* from, int64_t ld, int64_t rows, int64_t width, float* to, int64_t ld_to) {
    turned(from, ld, rows, width, to, ld_to);
  }
  // Two rows of a packed matrix, 16 columns of each, from `to` on, which is where the even row begins.
  static void store_pair(float* to, int64_t width, __m512 first, __m512 second, __mmask16 some) {
    store(to, first, some);
    store(to + width, second, some);
  }
  static const float* column(const float* packed, int64_t j) { return packed + j; }
  static float* column(float* packed, int64_t j) { return packed + j; }
};

template <>
struct Operand<BFloat16> {
  static void pack(const BFloat16* from, int64_t ld, int64_t rows, int64_t width, BFloat16* to) {
    for (int64_t i = 0; i < rows; i += 2) {
      for (int64_t j = 0; j < width; j += 16) {
        const __mmask16 some = lanes(width - j);
        const __m512i low = _mm512_cvtepu16_epi32(load_bits(from + i * ld + j, some));
        const __m512i high = i + 1 < rows
            ? _mm512_slli_epi32(_mm512_cvtepu16_epi32(load_bits(from + (i + 1) * ld + j, some)), 16)
            : _mm512_setzero_si512();
        store_bits(to + i * width + 2 * j, _mm512_or_si512(low, high), some);
      }
    }
  }
  static void pack_turned(const BFloat16* from, int64_t ld, int64_t rows, int64_t width, BFloat16* to) {
    turned(from, ld / 2, rows, even(width) / 2, to, rows);
  }
  static void turn(const BFloat16* from, int64_t ld, int64_t rows, int64_t width, BFloat16* to, int64_t ld_to) {
    // Two rows at a time are packed as pairs, and pairs turned are rows of the transpose.
    for (int64_t i = 0; i < rows; i += 32) {
      for (int64_t j = 0; j < width; j += 16) {
        const __mmask16 some = lanes(width - j);
        __m512i r[16];
        for (int64_t s = 0; s < 16; ++s) {
          const int64_t row = i + 2 * s;
          const __m512i low = row < rows ? _mm512_cvtepu16_epi32(load_bits(from + row * ld + j, some)) : _mm512_setzero_si512();
          const __m512i high = row + 1 < rows ? _mm512_slli_epi32(_mm512_cvtepu16_epi32(load_bits(from + (row + 1) * ld + j, some)), 16) : _mm512_setzero_si512();
          r[s] = _mm512_or_si512(low, high);
        }
        assay::turn(r);
        const int64_t left = rows - i;
        const __mmask32 kept = left >= 32 ? 0xffffffffu : (1u << left) - 1;
        for (int64_t s = 0; s < 16 && j + s < width; ++s) _mm512_mask_storeu_epi16(to + (j + s) * ld_to + i, kept, r[s]);
      }
    }
  }
  static void store_pair(BFloat16* to, int64_t, __m512 first, __m512 second, __mmask16 some) {
    const __m512i low = _mm512_cvtepu16_epi32(rounded(first));
    const __m512i high = _mm512_slli_epi32(_mm512_cvtepu16_epi32(rounded(second)), 16);
    store_bits(to, _mm512_or_si512(low, high), some);
  }
  static const BFloat16* column(const BFloat16* packed, int64_t j) { return packed + 2 * j; }
  static BFloat16* column(BFloat16* packed, int64_t j) { return packed + 2 * j; }
};

// C [M][ld_c] = A [M][ld_a] B, or C + A B; B is packed, [even(K)][ld_b], and A has even(K) entries a row.
template <typename T>
inline void product(int64_t M, int64_t N, int64_t K, const T* A, int64_t ld_a, const T* B, int64_t ld_b, float* C, int64_t ld_c, bool add) {
  if constexpr (std::is_same_v<T, float>) {
    at::native::cpublas::brgemm(M, N, K, ld_a, ld_b, ld_c, add, A, B, C, false);
  } else {
    const auto of_torch = [](const BFloat16* x) { return reinterpret_cast<const c10::BFloat16*>(x); };
    at::native::cpublas::brgemm(M, N, even(K), ld_a, ld_b, ld_c, add, of_torch(A), of_torch(B), C, true);
  }
}

}  // namespace assay
