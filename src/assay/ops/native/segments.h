// Rows of a batch cut in segments of tokens. Where they are cut does not depend on the number of threads, so neither do
// sums that are made a segment at a time and then added up in order.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

namespace assay {

class Segments {
 public:
  // At most `most` segments of a row, of 64 tokens or more.
  Segments(int64_t rows, int64_t tokens, int64_t most, int64_t threads)
      : rows_(rows), tokens_(tokens), threads_(threads), length_(std::max(int64_t{64}, (tokens + most - 1) / most)) {}

  int64_t count() const { return rows_ * of_row(); }

  // Calls of(row, first token, token behind the last, segment) for every segment of every row.
  template <typename Body>
  void each(const Body& of) const {
#pragma omp parallel for num_threads(threads_) schedule(static) if (threads_ > 1)
    for (int64_t segment = 0; segment < count(); ++segment) {
      const int64_t start = segment % of_row() * length_;
      of(segment / of_row(), start, std::min(tokens_, start + length_), segment);
    }
  }

  // Zeros [count()][size], where every segment adds up its part of a sum; one part where there are no tokens.
  std::vector<float> parts(int64_t size) const { return std::vector<float>(std::max(int64_t{1}, count()) * size); }

  // The sum of all parts, in the first of them.
  void add_up(std::vector<float>& parts, int64_t size) const {
    for (int64_t segment = 1; segment < count(); ++segment) {
      for (int64_t i = 0; i < size; ++i) parts[i] += parts[segment * size + i];
    }
  }

 private:
  int64_t of_row() const { return (tokens_ + length_ - 1) / length_; }

  int64_t rows_, tokens_, threads_, length_;
};

}  // namespace assay
