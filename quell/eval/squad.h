// Extractive question answering as SQuAD measures it (Rajpurkar et al. 2016, 2018): exact match and
// F1.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "quell/engine/engines.h"
#include "quell/text/tokenizer/tokenizer.h"

namespace quell {

struct SquadQuestion {
  std::string question;
  std::u32string context;
  std::vector<std::string> answers;  ///< empty: the context has none
  std::size_t row = 0;               ///< its number in the file, from 1
};
struct SquadSet {
  std::vector<SquadQuestion> questions;
  /// Questions may have no answer, and the model may give none: the file's "version" begins with
  /// "v2" or "2", or there is such a question.
  bool version2 = false;
};
/// SQuAD's .json: {"data": [{"paragraphs": [{"context", "qas": [{"question", "answers":
/// [{"text"}]}]}]}]}; or rows {"context", "question", "answers": {"text": [...]}} in "data", in an
/// array or one a line. Throws Error(kInvalidInput).
SquadSet read_squad(const std::filesystem::path& file);
SquadSet parse_squad(const Json& json, const std::string& source);

/// Leaves out, with a warning that counts them, questions beside which `max_length` tokens leave no
/// room for windows of the context.
void leave_out_long_questions(SquadSet& set, const Tokenizer& tokenizer, std::int64_t max_length,
                              const std::string& source);

/// Sums over questions, in 0..1 each.
struct SquadTotal {
  double exact = 0, f1 = 0;
  std::int64_t count = 0;
};
struct SquadScores {
  SquadTotal with_answer, without_answer;
};
/// Windows of `max_length` tokens that share 128 tokens; the best span of at most 30 tokens over
/// the 20 best starts and ends. In version 2, no answer where the smallest start + end score of the
/// windows' first tokens is higher than that of the best span.
SquadScores evaluate_squad(const ForwardModel& model, const Tokenizer& tokenizer,
                           const SquadSet& set, std::int64_t max_length, ExecContext& ctx);

}  // namespace quell
