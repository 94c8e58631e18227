// Longest and all prefixes of a text among a set of strings, in time linear in the length of the
// longest.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "quell/text/tokenizer/flat_map.h"

namespace quell {

/// Maps strings to values >= 0. Node 0 is the empty string.
class Trie {
 public:
  Trie() : values_(1, -1), root_(128, -1) {}

  void insert(std::u32string_view key, std::int32_t value) {
    std::int32_t node = 0;
    for (const char32_t c : key) node = child_or_new(node, c);
    values_[static_cast<std::size_t>(node)] = value;
  }
  /// -1 where there is none.
  std::int32_t child(std::int32_t node, char32_t c) const {
    if (node == 0 && c < 128) return root_[c];
    const std::int32_t* found = children_.find(key_of(node, c));
    return found ? *found : -1;
  }
  /// -1 where no key ends.
  std::int32_t value(std::int32_t node) const { return values_[static_cast<std::size_t>(node)]; }
  bool empty() const { return values_.size() == 1; }

  struct Match {
    std::int32_t value = -1;
    std::size_t length = 0;
  };
  /// The longest key that `text` starts with, continuing at `node`.
  Match longest(std::u32string_view text, std::int32_t node = 0) const {
    Match best;
    for (std::size_t i = 0; i < text.size(); ++i) {
      node = child(node, text[i]);
      if (node < 0) break;
      if (value(node) >= 0) best = {value(node), i + 1};
    }
    return best;
  }
  /// Node of `key`, or -1.
  std::int32_t find(std::u32string_view key) const {
    std::int32_t node = 0;
    for (const char32_t c : key)
      if ((node = child(node, c)) < 0) break;
    return node;
  }

 private:
  static std::uint64_t key_of(std::int32_t node, char32_t c) {
    return static_cast<std::uint64_t>(static_cast<std::uint32_t>(node)) << 32 | c;
  }

  std::int32_t child_or_new(std::int32_t node, char32_t c) {
    if (const std::int32_t found = child(node, c); found >= 0) return found;
    const auto made = static_cast<std::int32_t>(values_.size());
    values_.push_back(-1);
    if (node == 0 && c < 128)
      root_[c] = made;
    else
      children_.insert_or_assign(key_of(node, c), made);
    return made;
  }

  FlatMap<std::int32_t> children_;  ///< (node, character) -> node
  std::vector<std::int32_t> values_;
  std::vector<std::int32_t> root_;  ///< ASCII children of the root
};

}  // namespace quell
