// Patterns of tokenizer.json: Oniguruma, as the reference uses, over UTF-32.
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
  /// A pattern that matches `text` itself.
  static Regex literal(std::string_view text);
  Regex(Regex&&) noexcept;
  Regex& operator=(Regex&&) noexcept;
  ~Regex();

  /// Calls `f` with the ranges of all matches, in order; empty matches too. Throws Error(kInvalidInput) when the search gives up.
  void for_each_match(std::u32string_view text, const std::function<void(CharRange)>& f) const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace quell
