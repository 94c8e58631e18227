// What a model computes, as data: lists of steps over named values. The forward pass, the capture of activations, the fan-outs,
// lowering and training all read this one description.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "quell/ops/elementwise.h"

namespace quell {

/// Places that weights go to. Spelled as Hugging Face does where it has one spelling.
enum class Slot {
  kNone,
  kWordEmbedding,
  kPositionEmbedding,
  kTokenTypeEmbedding,
  kEmbeddingNorm,
  kProjectIn,
  kAttentionNorm,
  kQProj,
  kKProj,
  kVProj,
  kOutProj,
  kFfnNorm,
  kFc1,
  kFc2,
  kGateProj,
  kUpProj,
  kDownProj,
  kFinalNorm,
  kProjectOut,
  kLmHead,
  kPooler,
  kClassifier,
  kHeadDense,
  kHeadNorm,
};
std::string slot_name(Slot slot);

enum class StepKind { kEmbedding, kNorm, kLinear, kActivation, kMultiply, kAdd, kAttention, kSelectFirst };

/// Names of values inside a stack's step lists. kHidden goes from block to block; a step may write a name again.
enum class Value { kNone, kHidden, kNormed, kQuery, kKey, kValue, kContext, kBranch, kGate, kUp, kEmbedded, kPooled, kLogits };

struct Step {
  StepKind kind = StepKind::kAdd;
  Slot slot = Slot::kNone;
  std::array<Value, 3> in = {Value::kNone, Value::kNone, Value::kNone};
  Value out = Value::kNone;
  ActivationKind activation = ActivationKind::kRelu;
};

struct AttentionSpec {
  std::int64_t num_heads = 0, num_kv_heads = 0, head_dim = 0;
  bool causal = false;
  float scale = 1.0F;
  /// Where the papers' scheme quantizes q: after the multiplication by `scale` (OPT) or before it (BERT, LLaMA).
  bool quantize_scaled_query = false;
  std::vector<float> rotary_inv_freq;  ///< empty: no rotary embedding
  float rotary_amplitude = 1.0F;
};

/// One layer: which weights it uses (an index, so that layers may share them) and its attention.
struct LayerRef {
  int weights = 0;
  AttentionSpec attention;
};

struct Stack {
  std::vector<Step> prologue, block, epilogue;
  std::vector<LayerRef> layers;
};

enum class Head { kNone, kSequenceClassification, kMaskedLm, kCausalLm };
std::string head_name(Head head);

/// How position ids come about: 0, 1, 2, ..., or counted over the tokens whose mask is 1.
enum class PositionRule { kIndex, kMaskCount };

struct ModelSpec {
  std::string model_type;
  std::int64_t vocab_size = 0, hidden_size = 0, intermediate_size = 0, max_position_embeddings = 0;
  std::int32_t pad_token_id = 0;
  NormKind norm_kind = NormKind::kLayerNorm;
  double norm_eps = 1e-5;
  PositionRule position_rule = PositionRule::kIndex;
  std::int32_t position_offset = 0;
  std::vector<Stack> stacks;
  std::vector<Step> head_steps;
  Head head = Head::kNone;
  /// Which values of head_steps (or the last hidden state) a caller sees: "logits", "last_hidden_state", "pooler_output".
  std::vector<std::pair<std::string, Value>> outputs;
};

// Ready-made step lists keep family files short.
Step embedding(Slot slot, Value out);
Step norm(Slot slot, Value in, Value out);
Step linear(Slot slot, Value in, Value out);
Step activation(ActivationKind kind, Value in, Value out);
Step add_values(Value a, Value b, Value out);
/// q/k/v projections, attention and output projection: `in` -> kBranch.
std::vector<Step> attention_steps(Value in);
/// fc1, activation, fc2: `in` -> kBranch.
std::vector<Step> mlp_steps(ActivationKind kind, Value in);
/// gate, up, activation, product, down: `in` -> kBranch.
std::vector<Step> gated_mlp_steps(ActivationKind kind, Value in);
/// h += attn(norm h); h += mlp(norm h).
std::vector<Step> pre_norm_block(const std::vector<Step>& mlp);
/// h = norm(h + attn h); h = norm(h + mlp h).
std::vector<Step> post_norm_block(const std::vector<Step>& mlp);

}  // namespace quell
