// Runs a model over token sequences without padding: sorted by length, one behind the other.
#pragma once

#include <functional>
#include <vector>

#include "quell/engine/engines.h"

namespace quell {

/// `sink(index of the sequence, batch, its place in the batch, outputs)`, each sequence once, in
/// any order.
using PackedSink =
    std::function<void(std::size_t, const TokenBatch&, std::int64_t, const ForwardOutputs&)>;

/// Batches of at most `max_tokens` tokens (at least one sequence) each; where the model cannot take
/// packed batches, of sequences of one length. `embedding_only` as in ForwardOutputs.
void for_each_packed(const ForwardModel& model, const std::vector<TokenSequence>& sequences,
                     bool embedding_only, std::int64_t max_tokens, const PackedSink& sink,
                     ExecContext& ctx);

/// The rows of an output that belong to sequence `b` of `batch`: one, or one a token.
std::vector<std::vector<float>> rows_of_sequence(const Tensor& output, const TokenBatch& batch,
                                                 std::int64_t b);

/// The rows of output `name` ("embedding", "logits") of every sequence, in order.
std::vector<std::vector<std::vector<float>>> run_packed(const ForwardModel& model,
                                                        const std::vector<TokenSequence>& sequences,
                                                        const std::string& name, ExecContext& ctx);

}  // namespace quell
