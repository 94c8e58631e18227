// The matcher of linear time against Oniguruma.
#include "quell/text/tokenizer/linear_pattern.h"

#include <gtest/gtest.h>

#include <random>

#include "quell/text/tokenizer/regex.h"

namespace quell {
namespace {

std::vector<std::pair<std::size_t, std::size_t>> matches(const Regex& regex,
                                                         std::u32string_view text) {
  std::vector<std::pair<std::size_t, std::size_t>> out;
  regex.for_each_match(text, [&](CharRange r) { out.emplace_back(r.begin, r.end); });
  return out;
}

TEST(LinearPattern, FindsWhatOnigurumaFinds) {
  // Characters that both know alike, whatever the version of Unicode.
  const std::u32string alphabet =
      U"aabZz 12'sSretvmldLV.,!-_\r\n\t\n  "
      U"\u017f\u212a\u00e9\u00b2\u0300\u00a0\u3000\u4e00\U0001F600";
  const char* patterns[] = {
      R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)",
      R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)",
      R"('(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+)",
      R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s+)",
      R"(a*?b|a+)",
      R"((?>a+|b)a?|\w{2,4}?\W)",
      R"(^a|a$|^\s+|\s+$)",
      R"(\A[a-z]+|[a-z]+\z|\s+\Z)",
      R"(\bs|\Bs)",
      R"([a-c&&[^b]]|x)",
      R"([^(\s|[.,!])]+)",
      R"((a|ab)(c|bcd)*|\d+|\D)",
      R"([\p{^L}\s]+|\P{N})",
      R"(\s{2,}|[\n\r\t])",
      R"((?:a?){3}b|(?=a1)a|(?!a)\w)",
      R"([-_a]|[a-]|[\]\-])",
      R"([\w&&[^\d]]+|[^a-z&&\w]|[[:digit:]]+[[:space:]]?)",
      R"((?:(?:a|b)*s)?)",
  };
  std::mt19937 random(7);
  int linear = 0;
  for (const char* pattern : patterns) {
    const Regex regex(pattern);
    const Regex by_oniguruma = Regex::by_oniguruma(pattern);
    linear += regex.is_linear() ? 1 : 0;
    for (int i = 0; i < 3000; ++i) {
      std::u32string text;
      for (std::size_t n = random() % 20; n-- > 0;)
        text.push_back(alphabet[random() % alphabet.size()]);
      ASSERT_EQ(matches(regex, text), matches(by_oniguruma, text)) << pattern << "\n"
                                                                   << unicode::encode(text);
    }
  }
  EXPECT_EQ(linear, 18);
}

TEST(LinearPattern, LeavesOtherPatternsToOniguruma) {
  for (const char* pattern : {R"((a)\1)", R"((?<=a)b)", R"(\p{Greek}+)", R"((?i:\p{L}))",
                              R"((?i:st))", R"([[:alpha:]])", R"([a-z&&\p{Greek}])"})
    EXPECT_FALSE(Regex(pattern).is_linear()) << pattern;
}

TEST(LinearPattern, HasTheCharactersOfTheReference) {
  // U+16ED0 is a letter of Unicode 17, which the reference's patterns do not know; U+1E5D0 is one
  // of Unicode 16, which they know.
  const Regex letters(R"(\p{L})");
  EXPECT_TRUE(matches(letters, U"\U00016ED0").empty());
  EXPECT_EQ(matches(letters, U"\U0001E5D0").size(), 1U);
  EXPECT_EQ(matches(Regex(R"(\w)"), U"\u00b2\u200d").size(), 1U);
}

}  // namespace
}  // namespace quell
