// Strings as Python 3's str and re see them: what public data sets are prepared and scored with.
// Data: ICU.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace quell::python {

bool is_space(char32_t c);  ///< str.isspace(), which str.split() and str.strip() go by
bool is_word(char32_t c);   ///< \w of re: letters, numbers and _, but no marks

/// str.lower(): full mappings, and a capital sigma at the end of a word becomes a final one.
std::u32string lower(std::u32string_view text);
/// str.capitalize(), but for first letters whose title case is several characters; those stay.
std::u32string capitalize(std::u32string_view text);

std::u32string_view strip(std::u32string_view text);
std::string lstrip(const std::string& text);
std::string rstrip(const std::string& text);
std::string strip(const std::string& text);
/// str.split()
std::vector<std::u32string> split(std::u32string_view text);

}  // namespace quell::python
