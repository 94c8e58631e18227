// A set of characters as patterns write it: "[^\r\n\p{L}]".
#pragma once

#include <array>
#include <cstdint>
#include <string_view>
#include <utility>
#include <vector>

#include "quell/text/tokenizer/unicode.h"

namespace quell {

class CharacterSet {
 public:
  void add(char32_t first, char32_t last) { ranges_.push_back({first, last}); }
  void add(char32_t c) { add(c, c); }
  /// All characters of these categories (bits by their number), or all others.
  void add_categories(std::uint32_t categories, bool others = false) {
    categories_ |= others ? ~categories : categories;
  }
  /// Bits of unicode::Class: characters that have one of them, or that have none.
  void add_class(unsigned mask, bool others = false) {
    (others ? without_ : with_).push_back(mask);
  }
  /// Everything that `other` holds, or does not hold.
  void add(CharacterSet other) { nested_.push_back(std::move(other)); }
  void negate() { negated_ = !negated_; }
  /// To be called once, when everything has been added.
  void finish() {
    for (char32_t c = 0; c < ascii_.size(); ++c) ascii_[c] = find(c);
  }

  bool contains(char32_t c) const { return c < ascii_.size() ? ascii_[c] : find(c); }
  /// The characters that were added by name or range, when nothing else was; else nothing.
  const std::vector<std::pair<char32_t, char32_t>>* plain_ranges() const {
    const bool plain =
        !negated_ && categories_ == 0 && with_.empty() && without_.empty() && nested_.empty();
    return plain ? &ranges_ : nullptr;
  }

 private:
  bool find(char32_t c) const {
    if ((categories_ >> static_cast<unsigned>(unicode::category(c)) & 1) != 0) return !negated_;
    for (const auto& [first, last] : ranges_)
      if (c >= first && c <= last) return !negated_;
    for (const unsigned mask : with_)
      if (unicode::is(c, mask)) return !negated_;
    for (const unsigned mask : without_)
      if (!unicode::is(c, mask)) return !negated_;
    for (const CharacterSet& set : nested_)
      if (set.find(c)) return !negated_;
    return negated_;
  }

  std::vector<std::pair<char32_t, char32_t>> ranges_;
  std::uint32_t categories_ = 0;
  std::vector<unsigned> with_, without_;
  std::vector<CharacterSet> nested_;
  bool negated_ = false;
  std::array<bool, 128> ascii_{};
};

}  // namespace quell
