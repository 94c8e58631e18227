// Split patterns that most tokenizers use, scanned by hand. Every character belongs to a match; a
// test compares each with its pattern.
#pragma once

#include <string>
#include <string_view>

namespace quell {

/// End of the match that begins at `at` < text.size().
using MatchEnd = std::size_t (*)(std::u32string_view text, std::size_t at);

/// Null where `pattern` is none of them (GPT-2, LLaMA 3, Qwen 2).
MatchEnd find_scanner(const std::string& pattern);
MatchEnd gpt2_scanner();

}  // namespace quell
