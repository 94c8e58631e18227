#include "quell/train/sentence_generator.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <sstream>

namespace quell::train {
namespace {

TEST(SentenceGenerator, EveryWordIsInTheLexiconAndBothLabelsOccur) {
  std::vector<std::string> words = lexicon();
  Random random(7);
  int positive = 0;
  for (int i = 0; i < 2000; ++i) {
    const LabelledSentence s = generate_sentence(random);
    positive += s.label;
    std::istringstream in(s.text);
    for (std::string word; in >> word;)
      EXPECT_TRUE(std::count(words.begin(), words.end(), word)) << word;
  }
  EXPECT_GT(positive, 800);
  EXPECT_LT(positive, 1200);
}

}  // namespace
}  // namespace quell::train
