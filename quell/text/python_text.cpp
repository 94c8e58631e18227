#include "quell/text/python_text.h"

#include <unicode/uchar.h>

#include <algorithm>

#include "quell/text/tokenizer/unicode.h"

namespace quell::python {
namespace {

constexpr char32_t kCapitalSigma = 0x3A3, kSigma = 0x3C3, kFinalSigma = 0x3C2,
                   kDottedCapitalI = 0x130;

bool has(char32_t c, UProperty property) {
  return u_hasBinaryProperty(static_cast<UChar32>(c), property) != 0;
}

/// Behind a cased letter and not in front of one; case-ignorable characters between do not count.
bool ends_a_word(std::u32string_view text, std::size_t sigma) {
  const auto is_ignored = [](char32_t c) { return has(c, UCHAR_CASE_IGNORABLE); };
  const auto before =
      std::find_if_not(text.rend() - static_cast<std::ptrdiff_t>(sigma), text.rend(), is_ignored);
  if (before == text.rend() || !has(*before, UCHAR_CASED)) return false;

  const auto behind = std::find_if_not(text.begin() + static_cast<std::ptrdiff_t>(sigma) + 1,
                                       text.end(), is_ignored);
  return behind == text.end() || !has(*behind, UCHAR_CASED);
}

std::u32string_view strip_left(std::u32string_view text) {
  while (!text.empty() && is_space(text.front())) text.remove_prefix(1);
  return text;
}

std::u32string_view strip_right(std::u32string_view text) {
  while (!text.empty() && is_space(text.back())) text.remove_suffix(1);
  return text;
}

}  // namespace

bool is_space(char32_t c) {
  // White_Space, and the separators of files, groups, records and units.
  return (c >= 0x1C && c <= 0x1F) || u_isUWhiteSpace(static_cast<UChar32>(c)) != 0;
}

bool is_word(char32_t c) {
  return c == U'_' || (U_GET_GC_MASK(static_cast<UChar32>(c)) & (U_GC_L_MASK | U_GC_N_MASK)) != 0;
}

std::u32string lower(std::u32string_view text) {
  std::u32string out;
  out.reserve(text.size());
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == kCapitalSigma)
      out.push_back(ends_a_word(text, i) ? kFinalSigma : kSigma);
    else if (text[i] == kDottedCapitalI)
      out += U"i\u0307";  // the only lower case of several characters
    else
      out.push_back(static_cast<char32_t>(u_tolower(static_cast<UChar32>(text[i]))));
  }
  return out;
}

std::u32string capitalize(std::u32string_view text) {
  std::u32string out = lower(text);
  if (text.empty()) return out;

  const std::size_t of_first = lower(text.substr(0, 1)).size();
  return static_cast<char32_t>(u_totitle(static_cast<UChar32>(text[0]))) + out.substr(of_first);
}

std::u32string_view strip(std::u32string_view text) { return strip_right(strip_left(text)); }

std::string lstrip(const std::string& text) {
  return unicode::encode(strip_left(unicode::decode(text)));
}
std::string rstrip(const std::string& text) {
  return unicode::encode(strip_right(unicode::decode(text)));
}
std::string strip(const std::string& text) { return unicode::encode(strip(unicode::decode(text))); }

std::vector<std::u32string> split(std::u32string_view text) {
  std::vector<std::u32string> words;
  bool inside = false;
  for (const char32_t c : text) {
    const bool word = !is_space(c);
    if (word && !inside) words.emplace_back();
    if (word) words.back().push_back(c);
    inside = word;
  }
  return words;
}

}  // namespace quell::python
