// Patterns as the reference's Oniguruma reads them, in terms that every version of Oniguruma reads
// alike.
#pragma once

#include <string>
#include <string_view>

namespace quell {

/// The same pattern with bytes of UTF-8 by number (\x65, \145, \xC3\xA9) as the characters that
/// they make. `spell_out`: also with the classes punct, graph and print between brackets as the
/// characters that are in them.
std::u32string rewrite_pattern(std::u32string_view pattern, bool spell_out);

}  // namespace quell
