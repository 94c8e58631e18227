// Patterns as the reference's Oniguruma reads them, in terms that every version of Oniguruma reads alike.
#pragma once

#include <string>
#include <string_view>

namespace quell {

/// The same pattern with the classes punct, graph and print between brackets spelled out in general categories, and with bytes of
/// UTF-8 by number (\x65, \145, \xC3\xA9) as the characters that they make.
std::u32string rewrite_pattern(std::u32string_view pattern);

}  // namespace quell
