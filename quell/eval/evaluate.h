// Tasks: what a model is measured by.
#pragma once

#include <string>
#include <vector>

#include "quell/model/forward.h"
#include "quell/text/data/dataset.h"

namespace quell {

struct MetricResult {
  std::string metric;  ///< spearman, pearson, cosine_mean, cosine_min, accuracy, f1, matthews, perplexity, kl, top1_agreement
  double value = 0;
  std::int64_t samples = 0;
};

struct EvalOptions {
  std::string task;         ///< sts, classification, masked-lm, perplexity
  std::string protocol;     ///< perplexity: gptq or windows
  std::int64_t window = 0;  ///< perplexity: tokens (gptq) or targets (windows) a window; 0: 2048 or the model's context
  std::int64_t limit = 0;   ///< rows or windows at most; 0: all
  std::int64_t skip = 0;    ///< rows or windows left out at the beginning
  std::int64_t max_seq_length = 0;
};

/// Tokens and labels of a task, read and tokenized once for all engines.
struct EvalSet {
  std::vector<TokenSequence> sequences;  ///< sts: two per row
  std::vector<double> labels;
  std::string source;
};

std::vector<std::string> task_names();

/// Throws Error(kInvalidInput | kUsage) when data and task do not fit.
EvalSet load_eval_set(const EvalOptions& options, const Dataset& data, const Tokenizer* tokenizer, const Model& model);

/// The float model that others are compared with; its sentence embeddings are computed once per EvalSet.
struct Reference {
  const ForwardModel* model = nullptr;
  std::vector<std::vector<float>> embeddings;
};

/// `reference` (may be null) adds cosine to its embeddings (sts), or KL divergence and top-1 agreement (the other tasks).
std::vector<MetricResult> evaluate(const ForwardModel& model, Reference* reference, const EvalOptions& options, const EvalSet& set,
                                   ExecContext& ctx);

}  // namespace quell
