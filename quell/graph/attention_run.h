// One attention, run: the stages that all engines and searches go through, in their order, whatever
// the products are made of (f32 rows, codes, a KV cache).
//   query, key, value   rotated; the query scaled where the scheme does so first   tap, quantizer
//   scores              q k^T times the scale, and the terms by distance            tap
//   map                 soft cap, mask, softmax: the probabilities                  tap, quantizer
//   context             map v                                                       tap
#pragma once

#include <array>
#include <functional>
#include <span>

#include "quell/graph/attention_call.h"

namespace quell {

enum class AttentionStage { kQuery, kKey, kValue, kScores, kMap, kContext };

/// What a tap is shown of a stage, in front of its quantizer. It may change the values.
struct StageView {
  AttentionStage stage;
  /// Query, key and value as they go into the products, and the context: all rows of them. Scores
  /// and map of one sequence and head: [queries, keys].
  TensorSpan values;
  std::int64_t sequence = -1;  ///< -1: all
  std::int64_t head = -1;      ///< of the whole attention; -1: all
};

/// Scores and maps come from several threads, each sequence and head once.
using AttentionTap = std::function<void(const StageView&)>;

/// How to run an attention, beside what the graph says of it.
struct AttentionRun {
  const AttentionQuant* quant = nullptr;      ///< null, or empty points: none there
  Rounding rounding = Rounding::kReciprocal;  ///< of the quantizers
  /// What the result of each stage is rounded to, as in a model of f16 or bf16 tensors.
  DType arithmetic = DType::kF32;
  /// Sees the query as a quantizer would, whether there is one or not.
  AttentionTap tap = nullptr;

  /// Whether the query is multiplied by the scale in front of the product, instead of the scores
  /// behind it.
  bool scales_query(const AttentionSpec& spec) const;
};

/// Whether the quantizer of this operand reads what its producer gives, so that codes of one are
/// codes of the other: nothing rotates or scales it in between.
bool reads_codes_directly(const AttentionSpec& spec, std::size_t operand);

/// Query, key and value on their way into the products, by AttentionOperand.
class AttentionOperands {
 public:
  /// Borrows them; what changes is copied first.
  AttentionOperands(TensorView query, TensorView key, TensorView value);
  /// Changed in place.
  AttentionOperands(Tensor&& query, Tensor&& key, Tensor&& value);

  const TensorView& operator[](std::size_t operand) const { return views_[operand]; }
  /// To be changed.
  Tensor& own(std::size_t operand);
  /// Instead of the one that is there.
  void give(std::size_t operand, Tensor&& x);

  float scale = 1.0F;  ///< what the scores are still to be multiplied by

 private:
  std::array<TensorView, 3> views_;
  std::array<Tensor, 3> owned_;  ///< what the views refer to, where it is not borrowed
};

// The stages one by one, for engines with products of their own.
/// Rotates, scales and rounds.
void transform_operands(const AttentionCall& call, const AttentionRun& run,
                        AttentionOperands& operands, ExecContext& ctx);
/// Shows them to the tap and quantizes them, in f32.
void quantize_operands(const AttentionRun& run, AttentionOperands& operands, ExecContext& ctx);
/// Both.
void prepare_operands(const AttentionCall& call, const AttentionRun& run,
                      AttentionOperands& operands, ExecContext& ctx);
/// What is added to the scores: ALiBi, T5's bias, DeBERTa's terms, or nothing. Reads operands that
/// are prepared; refers to all it is given.
ProbsHook score_terms(const AttentionCall& call, const AttentionOperands& operands);
/// Probabilities of any number of queries, as the product with v reads them.
void quantize_map(const AttentionRun& run, std::span<float> map);

/// Scores, map and context of prepared operands, in f32: [rows of q, columns of q].
Tensor attend(const AttentionCall& call, const AttentionRun& run, const AttentionOperands& operands,
              ExecContext& ctx);

/// All stages.
Tensor run_attention(const AttentionCall& call, const AttentionRun& run, AttentionOperands operands,
                     ExecContext& ctx);

/// From the gradients of what transform_operands has made of query and key to those of what it was
/// given.
void transform_gradients(const AttentionCall& call, const AttentionRun& run, Tensor& query,
                         Tensor& key, ExecContext& ctx);

}  // namespace quell
