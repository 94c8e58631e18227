// Which build of the library this is.
#pragma once

#include <string_view>

namespace quell {

/// A hash of the library's sources and of how they are compiled (cmake/build_id.cmake, which runs
/// with the build): equal for equal sources wherever and whenever they are built.
std::string_view build_id();

}  // namespace quell
