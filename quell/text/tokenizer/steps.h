// How much work the search for patterns has done, so that tests can tell linear from quadratic
// without a clock.
#pragma once

#include <cstdint>

namespace quell {

/// Characters and states that scanners and patterns of this thread have looked at.
inline std::uint64_t& pattern_steps() {
  thread_local std::uint64_t steps = 0;
  return steps;
}

}  // namespace quell
