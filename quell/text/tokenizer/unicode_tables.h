// Character properties as the reference tokenizers have them, whatever libraries this machine has:
// see tools/unicode_tables.py.
#pragma once

#include <array>
#include <cstdint>

namespace quell::unicode {

/// The first character of a run in the upper 21 bits; below them six property bits and a category
/// in five (unicode.cpp).
extern const std::array<std::uint32_t, 4125> kClassRuns;

/// Characters `first`, `first` + `stride`, ... whose lower case is `difference` away.
struct LowercaseRun {
  std::int32_t first, count, stride, difference;
};
extern const std::array<LowercaseRun, 185> kLowercaseRuns;

}  // namespace quell::unicode
