// Patterns without backreferences, matched in time linear in the text: a backtracking search that
// remembers at which states and places it has failed, and never tries them again. Finds what
// Oniguruma finds (leftmost, first alternative first).
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string_view>
#include <vector>

#include "quell/text/tokenizer/aligned_text.h"
#include "quell/text/tokenizer/character_set.h"

namespace quell {

/// Immutable; may be used from several threads.
class LinearPattern {
 public:
  /// Nothing where the pattern uses what is not known here (backreferences, look-behind, scripts,
  /// ...).
  static std::optional<LinearPattern> compile(std::u32string_view pattern);

  /// Calls `f` with the ranges of all matches, in order; empty matches too.
  void for_each_match(std::u32string_view text, const std::function<void(CharRange)>& f) const;

  enum class Op : std::uint8_t {
    kCharacter,   ///< `a`
    kSet,         ///< sets[a]
    kNotNewline,  ///< any character but '\n'
    kAny,
    kSplit,  ///< first `a`, then `b`
    kJump,   ///< to `a`
    kAhead,  ///< the code from `a` matches here; go on at `b`
    kNotAhead,
    kAtomic,  ///< like kAhead, and go on behind what it matched
    kLineBegin,
    kLineEnd,
    kTextBegin,
    kTextEnd,
    kTextEndOrNewline,
    kWordBoundary,
    kNoWordBoundary,
    kAccept
  };
  struct Instruction {
    Op op;
    std::uint32_t a = 0, b = 0;
    std::int32_t memo = -1;  ///< of the states where a search can come twice: its row in a table
  };
  /// What compile() makes: the main program from 0; the rows of states inside look-aheads and
  /// atomic groups are counted apart.
  struct Program {
    std::vector<Instruction> code;
    std::vector<CharacterSet> sets;
    std::size_t main_rows = 0, inner_rows = 0;
  };

 private:
  explicit LinearPattern(Program program) : program_(std::move(program)) {}
  Program program_;
};

}  // namespace quell
