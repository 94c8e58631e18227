// SQuAD's text measures, as the official scripts evaluate-v1.1.py and evaluate-v2.0.py compute them
// in Python 3.
#pragma once

#include <string>
#include <vector>

namespace quell {

/// Lower case (Python's), without ASCII punctuation, without the articles a, an and the between
/// word boundaries, single spaces.
std::string normalize_answer(const std::string& text);

/// 0 or 1, and 0..1 over the words of the normalized texts. Two texts without words: the script of
/// version 2 gives an F1 of 1, the first one 0.
struct AnswerScore {
  double exact = 0, f1 = 0;
};
/// The best of `answers`, each measure for itself. `version2`: answers that normalize to nothing do
/// not count; where none is left, the right prediction is an empty one.
AnswerScore score_answer(const std::string& prediction, const std::vector<std::string>& answers,
                         bool version2);

}  // namespace quell
