// Patterns of tokenizer.json, over UTF-32: in linear time where they allow it (linear_pattern.h),
// else by Oniguruma, which the reference uses.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "quell/text/tokenizer/aligned_text.h"

namespace quell {

/// Immutable; may be used from several threads.
class Regex {
 public:
  /// Throws Error(kInvalidInput) with the pattern when it does not compile.
  explicit Regex(std::string_view pattern);
  /// Always by Oniguruma, with its own tables of characters: what tests compare with.
  static Regex by_oniguruma(std::string_view pattern);
  /// A pattern that matches `text` itself.
  static Regex literal(std::string_view text);
  Regex(Regex&&) noexcept;
  Regex& operator=(Regex&&) noexcept;
  ~Regex();

  /// Whether the time of a search is linear in the text.
  bool is_linear() const;
  /// Calls `f` with the ranges of all matches, in order; empty matches too. Throws
  /// Error(kInvalidInput) when the search gives up.
  void for_each_match(std::u32string_view text, const std::function<void(CharRange)>& f) const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace quell
