// Short reviews with a computable verdict, for the model that ships with the project.
#pragma once

#include <string>
#include <vector>

#include "quell/base/random.h"

namespace quell::train {

struct LabelledSentence {
  std::string text;
  int label;  ///< 1: the review is positive on balance, 0: negative
};

/// A review of two to five clauses. Each clause says something about an aspect with an adjective of
/// strength 1 to 3; degree words change the strength, negation turns it around, "although" halves
/// what it introduces, and words after "but" count double. The label is the sign of the sum (never
/// 0), so that a classifier has to add small numbers rather than spot words.
LabelledSentence generate_sentence(Random& random);

/// Every word the generator can say, in a fixed order.
std::vector<std::string> lexicon();

}  // namespace quell::train
