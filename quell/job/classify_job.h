// `quell classify`: labels of texts and of tokens, with probabilities.
#pragma once

#include "quell/job/text_job.h"

namespace quell {

struct ClassifyJob {
  TextJob text;            ///< rows may be pairs, unless tokens are classified
  std::int64_t top_k = 1;  ///< labels of a text, best first; 0: all
};

/// A JSON value a row, as transformers' pipelines give it: {"label", "score"}, or a list of them
/// where `top_k` is not 1; for token classification the list of {"entity", "score", "index",
/// "word", "start", "end"} of all tokens whose label is not "O" (start and end in characters).
void run_classify_job(const ClassifyJob& job, std::istream& in, std::ostream& out,
                      ExecContext& ctx);

/// How logits become scores: as transformers decides by problem_type and the number of labels.
enum class ScoreFunction { kNone, kSigmoid, kSoftmax };
ScoreFunction score_function(const Json& config, std::int64_t labels);
std::vector<float> scores_of(ScoreFunction function, std::span<const float> logits);
/// id2label, with "LABEL_i" where it says nothing.
std::vector<std::string> label_names(const Json& config, std::int64_t labels);

}  // namespace quell
