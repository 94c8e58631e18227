// ROUGE (Lin 2004) as the package rouge_score computes it without stemming: lower case, runs of
// [a-z0-9], F1 of clipped n-grams or of the longest common subsequence.
#pragma once

#include <string_view>

namespace quell {

struct RougeScores {
  double rouge1 = 0, rouge2 = 0, rouge_l = 0;  ///< F1, 0..1
};
RougeScores rouge(std::string_view reference, std::string_view prediction);

}  // namespace quell
