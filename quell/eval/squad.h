// Extractive question answering as SQuAD 1.1 measures it (Rajpurkar et al. 2016): exact match and F1.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "quell/model/forward.h"
#include "quell/text/tokenizer/tokenizer.h"

namespace quell {

struct SquadQuestion {
  std::string question;
  std::u32string context;
  std::vector<std::string> answers;
};
/// SQuAD's .json: {"data": [{"paragraphs": [{"context", "qas": [{"question", "answers": [{"text"}]}]}]}]}. Throws
/// Error(kInvalidInput).
std::vector<SquadQuestion> read_squad(const std::filesystem::path& file);
std::vector<SquadQuestion> parse_squad(const Json& json, const std::string& source);

struct SquadScores {
  double exact_match = 0, f1 = 0;  ///< 0..100
};
/// Windows of `max_length` tokens that share 128 tokens; the best span of at most 30 tokens over the 20 best starts and ends.
SquadScores evaluate_squad(const ForwardModel& model, const Tokenizer& tokenizer, const std::vector<SquadQuestion>& questions,
                           std::int64_t max_length, ExecContext& ctx);

/// Lower case, without punctuation, articles and extra spaces.
std::string normalize_answer(const std::string& text);
double answer_f1(const std::string& prediction, const std::string& answer);  ///< 0..1

}  // namespace quell
