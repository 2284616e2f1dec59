// State space duality in chunks and its gradient: one thread all heads of a group, whose states stay in the cache.
//
// Within a chunk the heads of a group share one matrix of scores, as ssd_chunks.py says: with d_t the decay from the
// chunk's begin through token t, outputs are d_t (sum_{s<t} (c_t . b_s) x_s / d_s + S c_t) and what a token gives
// itself. A head whose decays are too hard for this has x / d = 0 there and takes the decay between every two tokens.
// States take no x / d of either: they are written with the decay of each token until the chunk's end.
//
// What is written is x times a scale of the token and head, and outputs get a head's skip times x: both without a pass
// of their own.
//
// B rows of a batch, T tokens, H heads of width P, G groups of R = H / G heads with b and c of width N, L tokens of a
// chunk. Inside, a row holds all heads of a group, W = R P entries; Lp, Np and Wp are L, N and W filled up with zeros.
#include <algorithm>
#include <memory>
#include <vector>

#include "products.h"

namespace assay {
namespace {

constexpr double LOWEST_LOG_DECAY = -60.0;  // of a chunk, as in ssd_chunks.py, which says why
constexpr double MEAN_LOG_DECAY = -1.25;    // of a token

struct Place {  // where the entries of a [B, T, H, width] tensor stand, those of a head side by side
  int64_t batch, token, head;
};

struct Sizes {
  int64_t B, T, H, G, P, N, L, threads;
  Place x, logs, b, c;
  int64_t R, W, Lp, Np, Wp, Rp, K, chunks;

  bool padded() const { return Lp > L || Np > N || Wp > W; }
};

Sizes sizes_of(const int64_t* n) {
  Sizes s{n[0], n[1], n[2], n[3], n[4], n[5], n[6], n[7], {n[8], n[9], n[10]}, {n[11], n[12], 1}, {n[13], n[14], n[15]}, {n[16], n[17], n[18]}};
  s.R = s.H / s.G;
  s.W = s.R * s.P;
  s.Lp = up_to(s.L, 16);
  s.Np = up_to(s.N, 4);
  s.Wp = up_to(s.W, 16);
  s.Rp = up_to(s.R, 16);
  s.K = s.Lp + s.Np;
  s.chunks = (s.T + s.L - 1) / s.L;
  return s;
}

// Hands out parts of a workspace; from nothing, it counts how large that must be.
class Cut {
 public:
  explicit Cut(void* start) : at_(static_cast<char*>(start)) {}
  template <typename T>
  T* take(int64_t count) {
    T* part = reinterpret_cast<T*>(at_);
    at_ += Workspace::bytes_of<T>(count);
    return part;
  }
  size_t bytes() const { return reinterpret_cast<size_t>(at_); }

 private:
  char* at_;
};

// Memory of this thread, kept from call to call, of which only what lies behind the entries of rows must be zero.
char* memory_of(size_t bytes) {
  struct Free {
    void operator()(char* start) const { std::free(start); }
  };
  static thread_local std::unique_ptr<char, Free> kept;
  static thread_local size_t size = 0;
  if (size < bytes) {
    kept.reset(static_cast<char*>(std::aligned_alloc(64, up_to(bytes, 64))));
    size = bytes;
  }
  return kept.get();
}

template <typename Parts>
size_t bytes_of(const Sizes& n) {
  Cut cut(nullptr);
  Parts parts(cut, n);
  return cut.bytes();
}

// exp of 16 numbers in double, to a float's last digits however large they are; 0 where that is below 2^-126.
inline __m512 exp_of(__m512d first, __m512d second) {
  const auto join = [](__m512d low, __m512d high) {
    return _mm512_insertf32x8(_mm512_castps256_ps512(_mm512_cvtpd_ps(low)), _mm512_cvtpd_ps(high), 1);
  };
  const __m512d log2_e = _mm512_set1_pd(1.4426950408889634), ln_2 = _mm512_set1_pd(0.6931471805599453);
  __m512d whole[2], rest[2];
  __mmask8 alive[2];
  for (int i = 0; i < 2; ++i) {
    const __m512d t = _mm512_mul_pd(i ? second : first, log2_e);
    whole[i] = _mm512_roundscale_pd(_mm512_max_pd(t, _mm512_set1_pd(-1000.0)), _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    rest[i] = _mm512_mul_pd(_mm512_sub_pd(t, whole[i]), ln_2);
    alive[i] = _mm512_cmp_pd_mask(t, _mm512_set1_pd(-126.0), _CMP_NLT_UQ);  // NaN stays
  }
  const __m512 f = join(rest[0], rest[1]);
  __m512 p = _mm512_set1_ps(1.0f / 5040);
  for (const float c : {1.0f / 720, 1.0f / 120, 1.0f / 24, 1.0f / 6, 0.5f, 1.0f, 1.0f}) p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(c));
  return _mm512_maskz_scalef_ps(static_cast<__mmask16>(alive[0] | alive[1] << 8), p, join(whole[0], whole[1]));
}

// The decays of a chunk: of tokens and heads [Lp][Rp], and of the whole chunk, by entry of a row [Wp].
struct Decays {
  double* sums;
  float *since, *inverse, *until, *whole;
  std::vector<int64_t> hard;

  Decays(Cut& cut, const Sizes& n)
      : sums(cut.take<double>(n.Lp * n.Rp)), since(cut.take<float>(n.Lp * n.Rp)), inverse(cut.take<float>(n.Lp * n.Rp)),
        until(cut.take<float>(n.Lp * n.Rp)), whole(cut.take<float>(n.Wp)) {}

  // From log decays [count][R], summed in double.
  void fill(const float* logs, int64_t stride, int64_t count, const Sizes& n) {
    for (int64_t t = 0; t < n.Lp; ++t) {
      double* row = sums + t * n.Rp;
      for (int64_t r = 0; r < n.R; ++r) row[r] = (t ? row[r - n.Rp] : 0.0) + (t < count ? logs[t * stride + r] : 0.0f);
    }
    const double* all = sums + (n.Lp - 1) * n.Rp;
    const double limit = std::max(LOWEST_LOG_DECAY, MEAN_LOG_DECAY * count);
    hard.clear();
    for (int64_t r = 0; r < n.R; ++r) {
      if (all[r] < limit) hard.push_back(r);
    }
    for (int64_t r = 0; r < n.R; r += 16) {
      const __m512d all_1 = _mm512_loadu_pd(all + r), all_2 = _mm512_loadu_pd(all + r + 8), zero = _mm512_setzero_pd();
      const auto easy = [limit](__m512d x) { return _mm512_cmp_pd_mask(x, _mm512_set1_pd(limit), _CMP_NLT_UQ); };
      const auto some = static_cast<__mmask16>(easy(all_1) | easy(all_2) << 8);
      for (int64_t t = 0; t < n.Lp; ++t) {
        const int64_t at = t * n.Rp + r;
        const __m512d s_1 = _mm512_loadu_pd(sums + at), s_2 = _mm512_loadu_pd(sums + at + 8);
        store(since + at, exp_of(s_1, s_2));
        store(inverse + at, _mm512_maskz_mov_ps(some, exp_of(_mm512_sub_pd(zero, s_1), _mm512_sub_pd(zero, s_2))));
        store(until + at, exp_of(_mm512_sub_pd(all_1, s_1), _mm512_sub_pd(all_2, s_2)));
      }
    }
    for (int64_t r = 0; r < n.R; ++r) std::fill_n(whole + r * n.P, n.P, since[(n.Lp - 1) * n.Rp + r]);
  }
};

// The decays of one head between every two tokens of a chunk, row by row.
struct Between {
  double* sums;

  Between(Cut& cut, const Sizes& n) : sums(cut.take<double>(n.Lp)) {}

  void fill(const Decays& decays, int64_t r, const Sizes& n) {
    for (int64_t t = 0; t < n.Lp; ++t) sums[t] = decays.sums[t * n.Rp + r];
  }

  // From the tokens s ... s + 15 until t.
  __m512 at(int64_t t, int64_t s) const {
    const __m512d end = _mm512_set1_pd(sums[t]);
    return exp_of(_mm512_sub_pd(end, _mm512_loadu_pd(sums + s)), _mm512_sub_pd(end, _mm512_loadu_pd(sums + s + 8)));
  }
};

// Rows [count][width] of a tensor, copied to [rows][ld] with zeros around.
template <typename T>
void stage(const T* from, int64_t stride, int64_t count, int64_t width, T* to, int64_t ld, int64_t wide, int64_t rows) {
  for (int64_t i = 0; i < rows; ++i) {
    const int64_t given = i < count ? width : 0;
    std::memcpy(to + i * ld, from + i * stride, given * sizeof(T));
    std::memset(to + i * ld + given, 0, (wide - given) * sizeof(T));
  }
}

// Rows [count][P] of one head times their scales, as floats [Lp][P] with zeros behind.
template <typename T>
void stage_scaled(const T* from, int64_t stride, const float* scale, int64_t count, float* to, const Sizes& n) {
  for (int64_t t = 0; t < n.Lp; ++t) {
    for (int64_t j = 0; j < n.P; ++j) to[t * n.P + j] = t < count ? static_cast<float>(from[t * stride + j]) * scale[t * n.Rp] : 0.0f;
  }
}

// left [Lp][K] = [scores of earlier tokens | c] in T, from scores [Lp][Lp] and with c there already.
template <typename T>
void fill_left(const float* scores, T* left, const Sizes& n) {
  for (int64_t t = 0; t < n.Lp; ++t) {
    for (int64_t s = 0; s < n.Lp; s += 16) {
      store(left + t * n.K + s, load(scores + t * n.Lp + s, lanes(t - s)));
    }
  }
}

#define INLINED __attribute__((always_inline))

// Calls of(r, column, j, some) for each part of up to 16 entries of a row, from entry j of head r on. Whole parts know
// so when they are compiled: stores under a mask take longer. Pointers to rows are best found outside, as the compiler
// takes each store for one that may have changed what they are made of.
template <typename Body>
inline INLINED void each_part(const Sizes& n, const Body& of) {
  const int64_t R = n.R, P = n.P;
  if (P % 16 == 0) {
    for (int64_t r = 0; r < R; ++r) {
      for (int64_t j = 0; j < P; j += 16) of(r, r * P + j, j, static_cast<__mmask16>(0xffff));
    }
  } else {
    for (int64_t r = 0; r < R; ++r) {
      for (int64_t j = 0; j < P; j += 16) of(r, r * P + j, j, lanes(P - j));
    }
  }
}

// Rows [count][bytes] come to the second cache, while there is other work.
inline void fetch(const void* rows, int64_t stride, int64_t count, int64_t bytes) {
  for (int64_t i = 0; i < count; ++i) {
    const char* row = static_cast<const char*>(rows) + i * stride;
    for (int64_t j = 0; j < bytes; j += 64) _mm_prefetch(row + j, _MM_HINT_T1);
  }
}

template <typename T>
struct ForwardParts {
  T *left, *right, *ends, *keys, *key_rows, *b;
  float *state, *scores, *seen, *mixing, *x_hard, *y_hard, *scale;
  Decays decays;
  Between between;

  ForwardParts(Cut& cut, const Sizes& n)
      : left(cut.take<T>(n.Lp * n.K)), right(cut.take<T>(n.K * n.Wp)), ends(cut.take<T>(n.Lp * n.Wp)), keys(cut.take<T>(n.Np * n.Lp)),
        key_rows(cut.take<T>(n.Np * n.Lp)), b(cut.take<T>(n.Lp * n.Np)), state(cut.take<float>(n.Np * n.Wp)),
        scores(cut.take<float>(n.Lp * n.Lp)), seen(cut.take<float>(n.Lp * n.Wp)), mixing(cut.take<float>(n.Lp * n.Lp)),
        x_hard(cut.take<float>(n.Lp * n.P)), y_hard(cut.take<float>(n.Lp * n.P)), scale(cut.take<float>(n.Lp * n.Rp)), decays(cut, n),
        between(cut, n) {}
};

template <typename T>
void forward(const T* x, const float* scale, const float* skip, const float* logs, const T* b, const T* c, const float* state, float* y,
             float* last, T* starts, const Sizes& n) {
  const size_t bytes = bytes_of<ForwardParts<T>>(n);
#pragma omp parallel num_threads(n.threads) if (n.threads > 1)
  {
    const Products products;
    char* memory = memory_of(bytes);
    Cut cut(memory);
    ForwardParts<T> of(cut, n);
    if (n.padded()) std::memset(memory, 0, bytes);  // what a call of other sizes left there may be no number
    std::memset(of.state, 0, n.Np * n.Wp * sizeof(float));
#pragma omp for schedule(static)
    for (int64_t task = 0; task < n.B * n.G; ++task) {
      const int64_t batch = task / n.G, g = task % n.G, first_head = g * n.R;
      const int64_t state_at = (batch * n.H + first_head) * n.P * n.N;
      turned(state + state_at, n.N, n.W, n.N, of.state, n.Wp);
      for (int64_t chunk = 0; chunk < n.chunks; ++chunk) {
        const int64_t start = chunk * n.L, count = std::min(n.L, n.T - start);
        const T* rows = x + batch * n.x.batch + start * n.x.token + first_head * n.x.head;
        stage(b + batch * n.b.batch + start * n.b.token + g * n.b.head, n.b.token, count, n.N, of.b, n.Np, n.Np, n.Lp);
        stage(c + batch * n.c.batch + start * n.c.token + g * n.c.head, n.c.token, count, n.N, of.left + n.Lp, n.K, n.Np, n.Lp);
        of.decays.fill(logs + batch * n.logs.batch + start * n.logs.token + first_head, n.logs.token, count, n);

        float* out = y + ((batch * n.T + start) * n.H + first_head) * n.P;
        const int64_t row_bytes = n.W * sizeof(float), out_stride = n.H * n.P * sizeof(float);
        fetch(out, out_stride, count, row_bytes);
        stage(scale + (batch * n.T + start) * n.H + first_head, n.H, count, n.R, of.scale, n.Rp, n.Rp, n.Lp);
        Operand<T>::pack_turned(of.b, n.Np, n.Lp, n.Np, of.keys);
        product<T>(n.Lp, n.Lp, n.Np, of.left + n.Lp, n.K, of.keys, n.Lp, of.scores, n.Lp, false);
        fill_left(of.scores, of.left, n);
        for (int64_t t = 0; t < n.Lp; t += 2) {
          const float *scales = of.scale + t * n.Rp, *inverse = of.decays.inverse + t * n.Rp, *until = of.decays.until + t * n.Rp;
          const T* row = rows + t * n.x.token;
          T *scaled = of.right + t * n.Wp, *ending = of.ends + t * n.Wp;
          const int64_t token = n.x.token, head = n.x.head, ld = n.Wp, next = n.Rp;
          const bool first = t < count, second = t + 1 < count;
          each_part(n, [&](int64_t r, int64_t column, int64_t j, __mmask16 some) INLINED {
            const __m512 one = first ? _mm512_mul_ps(load(row + r * head + j, some), _mm512_set1_ps(scales[r])) : _mm512_setzero_ps();
            const __m512 other =
                second ? _mm512_mul_ps(load(row + token + r * head + j, some), _mm512_set1_ps(scales[next + r])) : _mm512_setzero_ps();
            const auto put = [&](T* to, const float* decays) INLINED {
              Operand<T>::store_pair(Operand<T>::column(to, column), ld, _mm512_mul_ps(one, _mm512_set1_ps(decays[r])),
                                     _mm512_mul_ps(other, _mm512_set1_ps(decays[next + r])), some);
            };
            put(scaled, inverse);
            put(ending, until);
          });
        }
        T* kept = starts + ((batch * n.G + g) * n.chunks + chunk) * n.N * n.W;
        for (int64_t i = 0; i < n.Np; i += 2) {
          for (int64_t j = 0; j < n.Wp; j += 16) {
            float* at = of.state + i * n.Wp + j;
            const __m512 one = load(at), other = load(at + n.Wp), decay = load(of.decays.whole + j);
            Operand<T>::store_pair(Operand<T>::column(of.right + (n.Lp + i) * n.Wp, j), n.Wp, one, other, 0xffff);
            if (i < n.N) store(kept + i * n.W + j, one, lanes(n.W - j));
            if (i + 1 < n.N) store(kept + (i + 1) * n.W + j, other, lanes(n.W - j));
            store(at, _mm512_mul_ps(one, decay));
            store(at + n.Wp, _mm512_mul_ps(other, decay));
          }
        }
        product<T>(n.Lp, n.Wp, n.K, of.left, n.K, of.right, n.Wp, of.seen, n.Wp, false);
        Operand<T>::turn(of.b, n.Np, n.Lp, n.Np, of.key_rows, n.Lp);
        product<T>(n.Np, n.Wp, n.Lp, of.key_rows, n.Lp, of.ends, n.Wp, of.state, n.Wp, true);
        fetch(rows + n.L * n.x.token, n.x.token * sizeof(T), std::min(n.L, n.T - start - n.L), n.W * sizeof(T));
        for (int64_t t = 0; t < count; ++t) {
          const float own = of.scores[t * n.Lp + t];
          const float *seen = of.seen + t * n.Wp, *since = of.decays.since + t * n.Rp, *scales = of.scale + t * n.Rp, *skips = skip + first_head;
          const T* row = rows + t * n.x.token;
          float* to = out + t * n.H * n.P;
          const int64_t head = n.x.head;
          each_part(n, [&](int64_t r, int64_t column, int64_t j, __mmask16 some) INLINED {
            const __m512 itself = _mm512_mul_ps(_mm512_set1_ps(own * scales[r] + skips[r]), load(row + r * head + j, some));
            store(to + column, _mm512_fmadd_ps(load(seen + column, some), _mm512_set1_ps(since[r]), itself), some);
          });
        }
        for (const int64_t r : of.decays.hard) {
          of.between.fill(of.decays, r, n);
          for (int64_t t = 0; t < n.Lp; ++t) {
            for (int64_t s = 0; s < n.Lp; s += 16) {
              const __mmask16 some = lanes(t - s);
              const int64_t at = t * n.Lp + s;
              store(of.mixing + at, some ? _mm512_maskz_mul_ps(some, load(of.scores + at), of.between.at(t, s)) : _mm512_setzero_ps());
            }
          }
          stage_scaled(rows + r * n.x.head, n.x.token, of.scale + r, count, of.x_hard, n);
          product<float>(n.Lp, n.P, n.Lp, of.mixing, n.Lp, of.x_hard, n.P, of.y_hard, n.P, false);
          for (int64_t t = 0; t < count; ++t) {
            float* to = out + t * n.H * n.P + r * n.P;
            for (int64_t j = 0; j < n.P; ++j) to[j] += of.y_hard[t * n.P + j];
          }
        }
      }
      turned(of.state, n.Wp, n.N, n.W, last + state_at, n.N);
    }
  }
}

template <typename T>
struct GradientParts {
  T *left, *right_rows, *right, *right_turned, *ends, *slopes, *slope_pairs, *b, *keys, *b_pairs, *c_pairs, *scores_turned, *c_turned;
  T *d_end_rows, *d_end_pairs, *d_end_turned, *d_scores, *d_scores_turned;
  float *d_end, *scores, *seen, *d_left, *dx_within, *dx_end, *db, *row_sums, *end_sums, *d_whole;
  float *x_hard, *x_turned, *dy_hard, *dx_hard, *mixing, *d_mixing, *columns, *scale, *d_skip;
  Decays decays;
  Between between;

  GradientParts(Cut& cut, const Sizes& n)
      : left(cut.take<T>(n.Lp * n.K)), right_rows(cut.take<T>(n.K * n.Wp)), right(cut.take<T>(n.K * n.Wp)),
        right_turned(cut.take<T>(n.K * n.Wp)), ends(cut.take<T>(n.Lp * n.Wp)), slopes(cut.take<T>(n.Lp * n.Wp)),
        slope_pairs(cut.take<T>(n.Lp * n.Wp)), b(cut.take<T>(n.Lp * n.Np)), keys(cut.take<T>(n.Lp * n.Np)),
        b_pairs(cut.take<T>(n.Lp * n.Np)), c_pairs(cut.take<T>(n.Lp * n.Np)), scores_turned(cut.take<T>(n.Lp * n.Lp)),
        c_turned(cut.take<T>(n.Lp * n.Np)), d_end_rows(cut.take<T>(n.Np * n.Wp)), d_end_pairs(cut.take<T>(n.Np * n.Wp)),
        d_end_turned(cut.take<T>(n.Np * n.Wp)), d_scores(cut.take<T>(n.Lp * n.Lp)), d_scores_turned(cut.take<T>(n.Lp * n.Lp)),
        d_end(cut.take<float>(n.Np * n.Wp)), scores(cut.take<float>(n.Lp * n.Lp)), seen(cut.take<float>(n.Lp * n.Wp)),
        d_left(cut.take<float>(n.Lp * n.K)), dx_within(cut.take<float>(n.Lp * n.Wp)), dx_end(cut.take<float>(n.Lp * n.Wp)),
        db(cut.take<float>(n.Lp * n.Np)), row_sums(cut.take<float>(n.Lp * n.Rp)), end_sums(cut.take<float>(n.Lp * n.Rp)),
        d_whole(cut.take<float>(n.Wp)), x_hard(cut.take<float>(n.Lp * n.P)), x_turned(cut.take<float>(n.Lp * n.P)),
        dy_hard(cut.take<float>(n.Lp * n.P)), dx_hard(cut.take<float>(n.Lp * n.P)), mixing(cut.take<float>(n.Lp * n.Lp)),
        d_mixing(cut.take<float>(n.Lp * n.Lp)), columns(cut.take<float>(n.Lp)), scale(cut.take<float>(n.Lp * n.Rp)), d_skip(cut.take<float>(n.Rp)),
        decays(cut, n), between(cut, n) {}
};

// What a hard head's tokens give each other: added to the gradients of scores (d_left), of scaled x (dx_within) and of
// the sums of log decays (row_sums). All in float.
template <typename T>
void hard_gradient(GradientParts<T>& of, int64_t r, const T* x, const float* dy, int64_t count, const Sizes& n) {
  of.between.fill(of.decays, r, n);
  stage_scaled(x, n.x.token, of.scale + r, count, of.x_hard, n);
  stage(dy, n.H * n.P, count, n.P, of.dy_hard, n.P, n.P, n.Lp);
  turned(of.x_hard, n.P, n.Lp, n.P, of.x_turned, n.Lp);
  product<float>(n.Lp, n.Lp, n.P, of.dy_hard, n.P, of.x_turned, n.Lp, of.d_mixing, n.Lp, false);
  std::memset(of.columns, 0, n.Lp * sizeof(float));
  for (int64_t t = 0; t < n.Lp; ++t) {
    __m512 sum = _mm512_setzero_ps();
    for (int64_t s = 0; s < n.Lp; s += 16) {
      const int64_t at = t * n.Lp + s;
      const __mmask16 earlier = lanes(t - s), with_own = lanes(t + 1 - s);
      if (!with_own) {
        store(of.mixing + at, _mm512_setzero_ps());
        continue;
      }
      const __m512 decay = of.between.at(t, s), d_score = _mm512_mul_ps(load(of.d_mixing + at), decay), score = load(of.scores + at);
      float* to = of.d_left + t * n.K + s;
      store(to, _mm512_add_ps(load(to), d_score), with_own);
      store(of.mixing + at, _mm512_maskz_mul_ps(earlier, score, decay));
      const __m512 d_log = _mm512_maskz_mul_ps(earlier, d_score, score);
      sum = _mm512_add_ps(sum, d_log);
      store(of.columns + s, _mm512_add_ps(load(of.columns + s), d_log));
    }
    of.row_sums[t * n.Rp + r] += _mm512_reduce_add_ps(sum);
  }
  for (int64_t t = 0; t < n.Lp; ++t) of.row_sums[t * n.Rp + r] -= of.columns[t];
  turned(of.mixing, n.Lp, n.Lp, n.Lp, of.d_mixing, n.Lp);
  product<float>(n.Lp, n.P, n.Lp, of.d_mixing, n.Lp, of.dy_hard, n.P, of.dx_hard, n.P, false);
  for (int64_t t = 0; t < count; ++t) {
    for (int64_t j = 0; j < n.P; ++j) of.dx_within[t * n.Wp + r * n.P + j] += of.dx_hard[t * n.P + j];
  }
}

template <typename T>
void gradient(const float* dy, const float* d_last, const T* x, const float* scale, const float* skip, const float* logs, const T* b, const T* c,
              const T* starts, T* dx, float* d_scale, float* d_skip, float* d_logs, T* db, T* dc, float* d_state, const Sizes& n) {
  const size_t bytes = bytes_of<GradientParts<T>>(n);
#pragma omp parallel num_threads(n.threads) if (n.threads > 1)
  {
    const Products products;
    char* memory = memory_of(bytes);
    Cut cut(memory);
    GradientParts<T> of(cut, n);
    if (n.padded()) std::memset(memory, 0, bytes);  // what a call of other sizes left there may be no number
    std::memset(of.d_end, 0, n.Np * n.Wp * sizeof(float));
#pragma omp for schedule(static)
    for (int64_t task = 0; task < n.B * n.G; ++task) {
      const int64_t batch = task / n.G, g = task % n.G, first_head = g * n.R;
      const int64_t state_at = (batch * n.H + first_head) * n.P * n.N;
      turned(d_last + state_at, n.N, n.W, n.N, of.d_end, n.Wp);
      std::memset(of.d_skip, 0, n.Rp * sizeof(float));
      for (int64_t chunk = n.chunks - 1; chunk >= 0; --chunk) {
        const int64_t start = chunk * n.L, count = std::min(n.L, n.T - start);
        const T* rows = x + batch * n.x.batch + start * n.x.token + first_head * n.x.head;
        const int64_t out_at = ((batch * n.T + start) * n.H + first_head) * n.P;
        stage(b + batch * n.b.batch + start * n.b.token + g * n.b.head, n.b.token, count, n.N, of.b, n.Np, n.Np, n.Lp);
        stage(c + batch * n.c.batch + start * n.c.token + g * n.c.head, n.c.token, count, n.N, of.left + n.Lp, n.K, n.Np, n.Lp);
        stage(scale + (batch * n.T + start) * n.H + first_head, n.H, count, n.R, of.scale, n.Rp, n.Rp, n.Lp);
        const Decays& decays = of.decays;
        of.decays.fill(logs + batch * n.logs.batch + start * n.logs.token + first_head, n.logs.token, count, n);

        Operand<T>::pack_turned(of.b, n.Np, n.Lp, n.Np, of.keys);
        product<T>(n.Lp, n.Lp, n.Np, of.left + n.Lp, n.K, of.keys, n.Lp, of.scores, n.Lp, false);
        fill_left(of.scores, of.left, n);
        for (int64_t t = 0; t < n.Lp; ++t) {
          const float *slopes = dy + out_at + t * n.H * n.P, *scales = of.scale + t * n.Rp;
          const T* row = rows + t * n.x.token;
          const float *since = decays.since + t * n.Rp, *inverse = decays.inverse + t * n.Rp, *until = decays.until + t * n.Rp;
          T *scaled = of.right_rows + t * n.Wp, *ending = of.ends + t * n.Wp, *scaled_slopes = of.slopes + t * n.Wp;
          const int64_t head = n.x.head;
          const bool there = t < count;
          each_part(n, [&](int64_t r, int64_t column, int64_t j, __mmask16 some) INLINED {
            const __m512 value = there ? _mm512_mul_ps(load(row + r * head + j, some), _mm512_set1_ps(scales[r])) : _mm512_setzero_ps();
            const __m512 slope = there ? load(slopes + column, some) : _mm512_setzero_ps();
            store(scaled + column, _mm512_mul_ps(value, _mm512_set1_ps(inverse[r])), some);
            store(ending + column, _mm512_mul_ps(value, _mm512_set1_ps(until[r])), some);
            store(scaled_slopes + column, _mm512_mul_ps(slope, _mm512_set1_ps(since[r])), some);
          });
        }
        const T* kept = starts + ((batch * n.G + g) * n.chunks + chunk) * n.N * n.W;
        stage(kept, n.W, n.N, n.W, of.right_rows + n.Lp * n.Wp, n.Wp, n.Wp, n.Np);
        Operand<T>::pack(of.right_rows, n.Wp, n.K, n.Wp, of.right);
        Operand<T>::pack_turned(of.right_rows, n.Wp, n.K, n.Wp, of.right_turned);
        Operand<T>::pack(of.slopes, n.Wp, n.Lp, n.Wp, of.slope_pairs);

        // The state after the chunk: its gradient as an operand, and what comes of it for the whole decay.
        std::memset(of.d_whole, 0, n.Wp * sizeof(float));
        for (int64_t i = 0; i < n.Np; ++i) {
          for (int64_t j = 0; j < n.Wp; j += 16) {
            float* at = of.d_end + i * n.Wp + j;
            const __m512 d = load(at), all = load(decays.whole + j), before = load(of.right_rows + (n.Lp + i) * n.Wp + j);
            store(of.d_end_rows + i * n.Wp + j, d);
            const __m512 d_start = _mm512_mul_ps(d, all);
            store(of.d_whole + j, _mm512_fmadd_ps(d_start, before, load(of.d_whole + j)));
            store(at, d_start);
          }
        }
        Operand<T>::pack(of.d_end_rows, n.Wp, n.Np, n.Wp, of.d_end_pairs);
        Operand<T>::pack_turned(of.d_end_rows, n.Wp, n.Np, n.Wp, of.d_end_turned);
        Operand<T>::turn(of.left, n.K, n.Lp, n.Lp, of.scores_turned, n.Lp);
        Operand<T>::turn(of.left + n.Lp, n.K, n.Lp, n.Np, of.c_turned, n.Lp);

        product<T>(n.Lp, n.Wp, n.K, of.left, n.K, of.right, n.Wp, of.seen, n.Wp, false);
        product<T>(n.Lp, n.K, n.Wp, of.slopes, n.Wp, of.right_turned, n.K, of.d_left, n.K, false);
        product<T>(n.Lp, n.Wp, n.Lp, of.scores_turned, n.Lp, of.slope_pairs, n.Wp, of.dx_within, n.Wp, false);
        product<T>(n.Lp, n.Wp, n.Np, of.b, n.Np, of.d_end_pairs, n.Wp, of.dx_end, n.Wp, false);
        product<T>(n.Lp, n.Np, n.Wp, of.ends, n.Wp, of.d_end_turned, n.Np, of.db, n.Np, false);
        product<T>(n.Np, n.Wp, n.Lp, of.c_turned, n.Lp, of.slope_pairs, n.Wp, of.d_end, n.Wp, true);

        // Sums over the entries of a head take the operands as they were rounded: what two tokens give each other is
        // then the same number in both of the sums that it is in.
        for (int64_t t = 0; t < count; ++t) {
          const __m512 own = _mm512_set1_ps(of.scores[t * n.Lp + t]);
          float* within = of.dx_within + t * n.Wp;
          const float *from_end = of.dx_end + t * n.Wp, *seen = of.seen + t * n.Wp;
          const float *inverse = decays.inverse + t * n.Rp, *until = decays.until + t * n.Rp, *slopes = dy + out_at + t * n.H * n.P;
          const T *scaled = of.right_rows + t * n.Wp, *ending = of.ends + t * n.Wp, *scaled_slopes = of.slopes + t * n.Wp;
          float *row_sums = of.row_sums + t * n.Rp, *end_sums = of.end_sums + t * n.Rp;
          std::memset(row_sums, 0, n.Rp * sizeof(float));
          std::memset(end_sums, 0, n.Rp * sizeof(float));
          each_part(n, [&](int64_t r, int64_t column, int64_t, __mmask16 some) INLINED {
            const __m512 d_scaled = load(within + column, some), d_ending = load(from_end + column, some);
            const __m512 row = _mm512_mul_ps(load(scaled_slopes + column, some), load(seen + column, some));
            row_sums[r] += _mm512_reduce_add_ps(_mm512_fnmadd_ps(load(scaled + column, some), d_scaled, row));
            end_sums[r] += _mm512_reduce_add_ps(_mm512_mul_ps(load(ending + column, some), d_ending));
            __m512 sum = _mm512_mul_ps(own, load(slopes + column, some));
            sum = _mm512_fmadd_ps(d_scaled, _mm512_set1_ps(inverse[r]), sum);
            sum = _mm512_fmadd_ps(d_ending, _mm512_set1_ps(until[r]), sum);
            store(within + column, sum, some);
          });
        }
        for (const int64_t r : decays.hard) hard_gradient(of, r, rows + r * n.x.head, dy + out_at + r * n.P, count, n);
        for (int64_t t = 0; t < count; ++t) {
          const int64_t token_at = (batch * n.T + start + t) * n.H + first_head, head = n.x.head;
          const float *d_scaled = of.dx_within + t * n.Wp, *slopes = dy + out_at + t * n.H * n.P, *scales = of.scale + t * n.Rp;
          const float* skips = skip + first_head;
          const T* row = rows + t * n.x.token;
          float *sums = d_scale + token_at, *skip_sums = of.d_skip;
          T* to = dx + token_at * n.P;
          std::memset(sums, 0, n.R * sizeof(float));
          each_part(n, [&](int64_t r, int64_t column, int64_t j, __mmask16 some) INLINED {
            const __m512 value = load(row + r * head + j, some), d = load(d_scaled + column, some), slope = load(slopes + column, some);
            sums[r] += _mm512_reduce_add_ps(_mm512_mul_ps(value, d));
            skip_sums[r] += _mm512_reduce_add_ps(_mm512_mul_ps(value, slope));
            store(to + column, _mm512_fmadd_ps(d, _mm512_set1_ps(scales[r]), _mm512_mul_ps(slope, _mm512_set1_ps(skips[r]))), some);
          });
        }

        for (int64_t t = 0; t < n.Lp; ++t) {
          for (int64_t s = 0; s < n.Lp; s += 16) store(of.d_scores + t * n.Lp + s, load(of.d_left + t * n.K + s, lanes(t + 1 - s)));
        }
        Operand<T>::turn(of.d_scores, n.Lp, n.Lp, n.Lp, of.d_scores_turned, n.Lp);
        Operand<T>::pack(of.b, n.Np, n.Lp, n.Np, of.b_pairs);
        Operand<T>::pack(of.left + n.Lp, n.K, n.Lp, n.Np, of.c_pairs);
        product<T>(n.Lp, n.Np, n.Lp, of.d_scores, n.Lp, of.b_pairs, n.Np, of.d_left + n.Lp, n.K, true);
        product<T>(n.Lp, n.Np, n.Lp, of.d_scores_turned, n.Lp, of.c_pairs, n.Np, of.db, n.Np, true);
        for (int64_t t = 0; t < count; ++t) {
          const int64_t at = ((batch * n.T + start + t) * n.G + g) * n.N;
          for (int64_t j = 0; j < n.N; j += 16) {
            const __mmask16 some = lanes(n.N - j);
            store(db + at + j, load(of.db + t * n.Np + j, some), some);
            store(dc + at + j, load(of.d_left + t * n.K + n.Lp + j, some), some);
          }
        }

        float* to = d_logs + (batch * n.T + start) * n.H + first_head;
        for (int64_t r = 0; r < n.R; ++r) {
          double later = 0, earlier = 0;
          for (int64_t j = 0; j < n.P; ++j) earlier += of.d_whole[r * n.P + j];
          for (int64_t t = 0; t < count; ++t) {
            later += of.row_sums[t * n.Rp + r];
          }
          for (int64_t t = 0; t < count; ++t) {
            to[t * n.H + r] = static_cast<float>(later + earlier);
            later -= of.row_sums[t * n.Rp + r];
            earlier += of.end_sums[t * n.Rp + r];
          }
        }
      }
      turned(of.d_end, n.Wp, n.N, n.W, d_state + state_at, n.N);
      std::copy_n(of.d_skip, n.R, d_skip + batch * n.H + first_head);
    }
  }
}

template <typename T>
void run_forward(void* const* x, const int64_t* n) {
  const auto of_float = [x](int i) { return static_cast<float*>(x[i]); };
  const auto of_T = [x](int i) { return static_cast<T*>(x[i]); };
  forward<T>(of_T(0), of_float(1), of_float(2), of_float(3), of_T(4), of_T(5), of_float(6), of_float(7), of_float(8), of_T(9), sizes_of(n));
}

template <typename T>
void run_gradient(void* const* x, const int64_t* n) {
  const auto of_float = [x](int i) { return static_cast<float*>(x[i]); };
  const auto of_T = [x](int i) { return static_cast<T*>(x[i]); };
  gradient<T>(of_float(0), of_float(1), of_T(2), of_float(3), of_float(4), of_float(5), of_T(6), of_T(7), of_T(8), of_T(9), of_float(10),
              of_float(11), of_float(12), of_T(13), of_T(14), of_float(15), sizes_of(n));
}

}  // namespace
}  // namespace assay

extern "C" {
void ssd_float32(void* const* x, const int64_t* n) { assay::run_forward<float>(x, n); }
void ssd_bfloat16(void* const* x, const int64_t* n) { assay::run_forward<assay::BFloat16>(x, n); }
void ssd_gradient_float32(void* const* x, const int64_t* n) { assay::run_gradient<float>(x, n); }
void ssd_gradient_bfloat16(void* const* x, const int64_t* n) { assay::run_gradient<assay::BFloat16>(x, n); }
}
