// Calls a microkernel with its number of rows as a constant.
#pragma once

#include <type_traits>
#include <utility>

namespace quell::kernels {
namespace {

template <int kMax, typename Body>
[[gnu::always_inline]] inline void with_rows(int rows, Body body) {
  [&]<int... kI>(std::integer_sequence<int, kI...>) {
    (void)((rows == kI + 1 ? (body(std::integral_constant<int, kI + 1>{}), true) : false) || ...);
  }
  (std::make_integer_sequence<int, kMax>{});
}

}  // namespace
}  // namespace quell::kernels
