// Tasks: what a model is measured by. docs/evaluation.md has the formulas.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "quell/engine/engines.h"
#include "quell/eval/language_tasks.h"
#include "quell/eval/linear_probe.h"
#include "quell/eval/perplexity.h"
#include "quell/eval/squad.h"
#include "quell/eval/token_statistics.h"
#include "quell/text/data/dataset.h"

namespace quell {

struct MetricResult {
  std::string metric;  ///< spearman, accuracy, perplexity, kl, ...
  double value = 0;
  std::int64_t samples = 0;
};

struct EvalOptions {
  std::string task;      ///< one of task_names()
  std::string protocol;  ///< perplexity: gptq, windows, llama.cpp, lm-eval
  std::int64_t window =
      0;  ///< perplexity: tokens a window; 0: the protocol's own, at most the model's context
  std::int64_t limit = 0;  ///< rows, windows or documents at most; 0: all
  std::int64_t skip = 0;   ///< left out at the beginning
  std::int64_t max_seq_length = 0;
  std::filesystem::path
      probe;  ///< classification: a linear probe on the encoder instead of the model's own head
};

/// Tokens and labels of a task, read and tokenized once for all engines.
struct EvalSet {
  std::vector<TokenSequence> sequences;  ///< sts and pair probes: two a row
  std::vector<double> labels;
  std::string source;
  std::vector<ChoiceQuestion> questions;  ///< multiple choice, LAMBADA
  SquadSet squad;
  std::optional<Tokenizer> tokenizer;  ///< squad
  std::int64_t max_length = 0;         ///< squad
  std::optional<LinearProbe> probe;
  double words = 0, bytes = 0;  ///< perplexity by lm-eval's protocol
};

/// sts, classification (and sst2, mrpc, cola, rte: the same with GLUE's columns), stsb, masked-lm,
/// perplexity, piqa, hellaswag, arc_easy, winogrande, lambada, squad.
const std::vector<std::string>& task_names();
bool is_perplexity(const std::string& task);

/// Reads the task's data. Throws Error(kInvalidInput | kUsage) when data and task do not fit.
EvalSet load_eval_set(const EvalOptions& options, const DataChoice& data, const Model& model);

/// The float model that others are compared with; its sentence embeddings are computed once per
/// EvalSet.
struct Reference {
  const ForwardModel* model = nullptr;
  std::vector<std::vector<float>> embeddings = {};
  TokenStatistics tokens = {};  ///< perplexity: filled by evaluate()
};

/// `reference` (may be null) adds cosine to its embeddings (sts), or KL divergence and top-1
/// agreement (tasks with logits).
std::vector<MetricResult> evaluate(const ForwardModel& model, Reference* reference,
                                   const EvalOptions& options, const EvalSet& set,
                                   ExecContext& ctx);

}  // namespace quell
