// Sizes of a tensor, outermost first.
#pragma once

#include <algorithm>
#include <array>
#include <cassert>
#include <cstdint>
#include <initializer_list>
#include <string>
#include <vector>

namespace quell {

/// Up to 8 dimensions, held inline: shapes are copied with every view.
class Shape {
 public:
  static constexpr std::size_t kMaxRank = 8;

  Shape() = default;
  Shape(std::initializer_list<std::int64_t> dims) : Shape(dims.begin(), dims.end()) {}
  explicit Shape(const std::vector<std::int64_t>& dims) : Shape(dims.begin(), dims.end()) {}

  int rank() const { return rank_; }
  /// Size of dimension `i`; negative `i` counts from the end.
  std::int64_t operator[](int i) const {
    return dims_[static_cast<std::size_t>(i < 0 ? rank_ + i : i)];
  }
  std::int64_t numel() const {
    std::int64_t n = 1;
    for (int i = 0; i < rank_; ++i) n *= (*this)[i];
    return n;
  }
  /// Product of all but the last dimension (1 for a scalar).
  std::int64_t rows() const { return rank_ == 0 || (*this)[-1] == 0 ? 0 : numel() / (*this)[-1]; }
  std::vector<std::int64_t> dims() const { return {dims_.begin(), dims_.begin() + rank_}; }
  bool operator==(const Shape&) const = default;

  std::string to_string() const {
    std::string out = "[";
    for (int i = 0; i < rank_; ++i) out += (i ? ", " : "") + std::to_string((*this)[i]);
    return out + "]";
  }

 private:
  template <typename It>
  Shape(It begin, It end) : rank_(static_cast<int>(end - begin)) {
    assert(static_cast<std::size_t>(rank_) <= kMaxRank);
    std::copy(begin, end, dims_.begin());
  }

  std::array<std::int64_t, kMaxRank> dims_{};
  int rank_ = 0;
};

}  // namespace quell
