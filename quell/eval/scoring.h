// Runs models over token sequences in batches and scores labelled tokens: what all language tasks
// share.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "quell/engine/engines.h"

namespace quell {

/// `sink(index of the sequence, batch, row of the batch, output)` for every sequence, in batches of
/// similar length. Throws Error(kUsage) when the model gives no such output.
using OutputSink = std::function<void(std::size_t, const TokenBatch&, std::int64_t, const Tensor&)>;
void for_each_output(const ForwardModel& model, const std::vector<TokenSequence>& sequences,
                     const std::string& output, const OutputSink& sink, const std::string& stage,
                     ExecContext& ctx);

/// The same with the whole of what a forward pass leaves.
using ForwardSink =
    std::function<void(std::size_t, const TokenBatch&, std::int64_t, const ForwardOutputs&)>;
void for_each_forward(const ForwardModel& model, const std::vector<TokenSequence>& sequences,
                      bool hidden_states, const ForwardSink& sink, const std::string& stage,
                      ExecContext& ctx);

/// Log-likelihood of the labelled tokens of one sequence.
struct SequenceScore {
  double log_likelihood = 0;
  std::int64_t count = 0;
  bool greedy = true;  ///< every labelled token is the most likely one
};
std::vector<SequenceScore> score_labels(const ForwardModel& model,
                                        const std::vector<TokenSequence>& sequences,
                                        ExecContext& ctx);

/// Row `i` of `t`.
std::span<const float> row_of(const Tensor& t, std::int64_t i);

}  // namespace quell
