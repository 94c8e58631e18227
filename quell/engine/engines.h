// The engines that run node by node: float, bf16 and simulated. engine/lower.h has the integer one.
#pragma once

#include "quell/engine/executor.h"
#include "quell/engine/forward.h"

namespace quell {

/// Runs a whole model. Throws Error(kNumeric) when an output is not finite.
/// `graph`: the model's, or what lowering has made of it.
void run_forward(const Model& model, const Graph& graph, const OpTable& ops,
                 const Quantization& quantization, const TokenBatch& batch, ForwardOutputs& outputs,
                 ExecContext& ctx);

/// Float operators for every linear, on the (migrated) float weights.
OpTable make_float_ops(const Model& model);
/// Simulated operators for quantized linears, float ones for the rest. `exact`: sums in integers.
OpTable make_simulated_ops(const Model& model, bool exact, Isa isa,
                           Rounding rounding = Rounding::kReciprocal);
std::unique_ptr<LinearOp> make_float_op(const Model& model, NodeId node);
/// The simulated operator of one linear, or the float one when it is not quantized.
std::unique_ptr<LinearOp> make_simulated_op(const Model& model, NodeId node, bool exact, Isa isa,
                                            Rounding rounding = Rounding::kReciprocal);
/// The same, made anew for every call, so that it holds no copy of the weights and sees what
/// `model` has become. Keeps a reference.
std::unique_ptr<LinearOp> make_transient_op(const Model& model, NodeId node, bool exact, Isa isa,
                                            Rounding rounding = Rounding::kReciprocal);

/// The input of this linear depends on weights alone (DeBERTa's relative embeddings), so that it
/// has no quantizer of its own.
bool reads_constant(const Model& model, NodeId node);
/// A float operator on the dequantized weights of a quantized linear.
std::unique_ptr<LinearOp> make_dequantized_op(const Model& model, NodeId node);

/// Engines that keep a reference to `model`.
std::unique_ptr<ForwardModel> make_float_model(const Model& model);
/// The float model with its linears' weights in bf16.
std::unique_ptr<ForwardModel> make_bf16_model(const Model& model);
std::unique_ptr<ForwardModel> make_simulated_model(const Model& model, bool exact, Isa isa,
                                                   Rounding rounding = Rounding::kReciprocal);
std::unique_ptr<ForwardModel> make_step_model(const Model& model, OpTable ops,
                                              const Quantization& quantization);

/// Whether the model takes batches whose sequences lie one behind the other without padding: its
/// attention does not depend on the distance of rows.
bool takes_packed_batches(const Model& model);

}  // namespace quell
