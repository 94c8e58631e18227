// Multiple choice by likelihood and LAMBADA, from the .jsonl files of lm-evaluation-harness's data
// sets; definitions as there.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "quell/model/model.h"
#include "quell/text/data/token_batch.h"
#include "quell/text/tokenizer/tokenizer.h"

namespace quell {

/// A question: one scored sequence for each choice. LAMBADA has one choice.
struct ChoiceQuestion {
  std::size_t first = 0, count = 0;  ///< sequences [first, first + count)
  std::vector<double> lengths;       ///< characters of each choice
  std::size_t gold = 0;
};
struct ChoiceSet {
  std::vector<TokenSequence> sequences;  ///< labels on the tokens of the choice
  std::vector<ChoiceQuestion> questions;
};

/// piqa, hellaswag, arc_easy, winogrande, lambada.
const std::vector<std::string>& choice_task_names();
/// Rows [skip, skip + limit) of `file` (limit 0: all). No special tokens are added. Sequences
/// longer than the context lose their beginning; questions with a choice that alone is longer are
/// left out; a warning counts both. Throws Error(kInvalidInput) naming the row.
ChoiceSet load_choice_task(const std::string& task, const std::filesystem::path& file,
                           const Tokenizer& tokenizer, const Model& model, std::int64_t skip,
                           std::int64_t limit);

/// The same for rows that are already read.
ChoiceSet make_choice_set(const std::string& task, const std::vector<Json>& rows,
                          const std::string& source, const Tokenizer& tokenizer,
                          std::int64_t context, std::int64_t skip, std::int64_t limit);

/// hellaswag's clean-up of texts from WikiHow ("[title]", brackets, double spaces).
std::string clean_hellaswag(std::string text);

}  // namespace quell
