// Expectations are what Python 3.11 gives.
#include "quell/text/python_text.h"

#include <gtest/gtest.h>

#include "quell/text/tokenizer/unicode.h"

namespace quell {
namespace {

std::string lower(const std::string& s) {
  return unicode::encode(python::lower(unicode::decode(s)));
}
std::string capitalize(const std::string& s) {
  return unicode::encode(python::capitalize(unicode::decode(s)));
}

TEST(PythonText, LowerCase) {
  EXPECT_EQ(lower("ÉCOLE ẞ İ"), "école ß i\u0307");
  EXPECT_EQ(lower("ΟΔΥΣΣΕΥΣ ΣΑΣ"), "οδυσσευς σας");
  EXPECT_EQ(lower("Σ"), "σ");          // no letter in front
  EXPECT_EQ(lower("ΑΣ.Β"), "ασ.β");    // a full stop inside a word does not count
  EXPECT_EQ(lower("ΑΣ. Β"), "ας. β");  // a space ends the word
  EXPECT_EQ(lower("Α'Σ'"), "α'ς'");
}

TEST(PythonText, Capitals) {
  EXPECT_EQ(capitalize("hE said NASA"), "He said nasa");
  EXPECT_EQ(capitalize("éCOLE"), "École");
  EXPECT_EQ(capitalize("İX"), "İx");
  EXPECT_EQ(capitalize(""), "");
}

TEST(PythonText, SpacesAndWords) {
  EXPECT_EQ(python::strip("\u3000 \x1c"
                          "a b\u00a0\u2028"),
            "a b");
  EXPECT_EQ(python::strip("\u200b"
                          "a"),
            "\u200b"
            "a");  // of no width, and no space
  EXPECT_EQ(python::lstrip(" a "), "a ");
  EXPECT_EQ(python::rstrip(" a "), " a");
  EXPECT_EQ(python::split(U" a\u00a0bc\x1f"), (std::vector<std::u32string>{U"a", U"bc"}));
  EXPECT_TRUE(python::is_word(U'²') && python::is_word(U'中') && python::is_word(U'_'));
  EXPECT_FALSE(python::is_word(0x301) || python::is_word(U'-'));  // marks are none
}

}  // namespace
}  // namespace quell
