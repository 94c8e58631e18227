// What patterns find is what they find in the package tokenizers 0.23.3, whichever Oniguruma this
// machine has.
#include <gtest/gtest.h>

#include "quell/base/error.h"
#include "quell/text/tokenizer/regex.h"
#include "quell/text/tokenizer/unicode.h"

namespace quell {
namespace {

/// `text` with a # for every match.
std::string replaced(const std::string& pattern, const std::string& text) {
  const std::u32string characters = unicode::decode(text);
  std::u32string out;
  std::size_t begin = 0;
  Regex(pattern).for_each_match(characters, [&](CharRange r) {
    out += characters.substr(begin, r.begin - begin) + U"#";
    begin = r.end;
  });
  return unicode::encode(out + characters.substr(begin));
}

TEST(RewrittenPatterns, SymbolsArePunctuationOnlyInThePosixClass) {
  const std::string text = "a<>$+=^|~`.!\u00a9\u20ac b1";
  for (const char* all :
       {"[[:punct:]]", "(?i)[[:punct:]]", R"((?<=\h|.)[[:punct:]])", "(?i)[^[:^punct:]]"})
    EXPECT_EQ(replaced(all, text), "a############# b1") << all;
  EXPECT_EQ(replaced("(?i)[[:^punct:]]", text), "#<>$+=^|~`.!\u00a9\u20ac###");
  EXPECT_EQ(replaced(R"((?i)\p{Punct})", text), "a<>$+=^|~`##\u00a9\u20ac b1");
  EXPECT_EQ(replaced("(?i)[^x[:punct:][:digit:]]+", "A<b x3"), "#<#x3");
}

TEST(RewrittenPatterns, VisibleAndPrintedCharacters) {
  const std::string text = "a \t\u00a0\u200b\u2028\x07.";
  EXPECT_EQ(replaced("[[:graph:]]", text), "# \t\u00a0#\u2028\x07#");
  EXPECT_EQ(replaced("[[:print:]]", text), "##\t##\u2028\x07#");
  EXPECT_EQ(replaced("(?i)[[:graph:]]", text), "# \t\u00a0#\u2028\x07#");
  EXPECT_EQ(replaced("(?i)[[:^graph:]]", text), "a###\u200b##.");
  EXPECT_EQ(replaced("(?i)[[:print:]]", text), "##\t##\u2028\x07#");
  EXPECT_EQ(replaced("(?i)[[:^print:]]", text), "a #\u00a0\u200b##.");
}

TEST(RewrittenPatterns, CharactersOfLaterUnicodeBelongToTheirClass) {
  // U+1FAE0 came with Unicode 14, U+1FAE8 with 15, U+1FAE9 with 16; U+1FAEE is not assigned there.
  const std::string text = "\U0001FAE0\U0001FAE8\U0001FAE9\U0001FAEE";
  for (const char* pattern :
       {"[[:punct:]]+", "(?i)[[:punct:]]+", "(?i)[[:graph:]]+", "[[:print:]]+"})
    EXPECT_EQ(replaced(pattern, text), "#\U0001FAEE") << pattern;
}

TEST(RewrittenPatterns, BytesByNumberMakeCharacters) {
  const std::string text = "aa e \u00e9 \u00eb\n ee 8";
  EXPECT_EQ(replaced(R"(\x65)", text), "aa # \u00e9 \u00eb\n ## 8");
  EXPECT_EQ(replaced(R"(\145)", text), "aa # \u00e9 \u00eb\n ## 8");
  EXPECT_EQ(replaced(R"(\x65+)", text), "aa # \u00e9 \u00eb\n # 8");
  EXPECT_EQ(replaced(R"([\x61-\x67\012])", text), "## # \u00e9 \u00eb# ## 8");
  EXPECT_EQ(replaced(R"([\145])", text), "aa # \u00e9 \u00eb\n ## 8");
  EXPECT_EQ(replaced(R"(\xc3\xa9)", text), "aa e # \u00eb\n ee 8");
  EXPECT_EQ(replaced(R"(\303\xA9)", text), "aa e # \u00eb\n ee 8");
  EXPECT_EQ(replaced(R"([\xc3\xa9-\xc3\xab])", text), "aa e # #\n ee 8");
  EXPECT_EQ(replaced(R"(\x{e9})", text), "aa e # \u00eb\n ee 8");
  EXPECT_THROW(replaced(R"(\xe9)", text), Error);
  EXPECT_EQ(replaced(R"(\\x65)", "a\\x65"), "a#");
}

TEST(RewrittenPatterns, NumbersOfGroupsStayThat) {
  EXPECT_EQ(replaced(R"((a)\1)", "aa a1"), "# a1");
  EXPECT_EQ(replaced(R"((a)\12)", "aa\n a\n"), "a# #")
      << "a line break, as there are no twelve groups";
  EXPECT_EQ(replaced(R"((a)(b)(c)(d)(e)(f)(g)(h)(i)(j)(k)(l)\12)", "abcdefghijkll"), "#");
  EXPECT_EQ(replaced(R"((?:a)\12)", "a\n"), "#");
  EXPECT_THROW(replaced(R"(\7)", "a"), Error);
}

}  // namespace
}  // namespace quell
