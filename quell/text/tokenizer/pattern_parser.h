// The syntax of patterns (Oniguruma's), as far as a LinearPattern can follow it.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "quell/text/tokenizer/linear_pattern.h"

namespace quell {

/// Thrown where a pattern needs more than a LinearPattern can do.
struct NotLinear {};

/// A part of a pattern.
struct PatternNode {
  enum class Kind { kInstruction, kSet, kSequence, kChoice, kRepeat, kGroup };

  Kind kind = Kind::kSequence;
  LinearPattern::Op op =
      LinearPattern::Op::kAny;  ///< of an instruction, or of a group (kAhead, kNotAhead, kAtomic)
  std::uint32_t value = 0;      ///< the character of an instruction, the number of a set
  int min = 0, max = -1;        ///< of a repeat; max -1: without end
  bool lazy = false;
  std::vector<PatternNode> children;
};

/// The sets that the pattern uses are appended to `sets`. Throws NotLinear.
PatternNode parse_pattern(std::u32string_view pattern, std::vector<CharacterSet>& sets);

}  // namespace quell
