// What a model computes, as data: lists of steps over named values. The forward pass, the capture
// of activations, the fan-outs, lowering and training all read this one description.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
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
  kQNorm,
  kKNorm,
  kPostAttentionNorm,
  kPostFfnNorm,
  kCrossNorm,
  kCrossQProj,
  kCrossKProj,
  kCrossVProj,
  kCrossOutProj,
  kRelativeBias,
  kRelativeEmbedding,
  kRelativeNorm,
  kPatchProj,
  kClassToken,
};
std::string slot_name(Slot slot);

enum class StepKind {
  kEmbedding,  ///< rows of a table: by token, position or token type
  kTable,      ///< all rows of a table
  kNorm,
  kHeadNorm,  ///< a norm over each head's dimensions
  kLinear,
  kActivation,
  kMultiply,
  kAdd,
  kScale,      ///< times `number`
  kSoftCap,    ///< number * tanh(x / number)
  kMaskRows,   ///< 0 at padding
  kAttention,  ///< q, k, v, and where the family has them: a bias table (T5), or projected relative
               ///< embeddings (DeBERTa)
  kRelativeBias,  ///< [heads * N, N] from a table [buckets, heads] (T5)
  kSelectFirst,   ///< the first token of each sequence
  kSelectLast,    ///< the last token whose mask is 1 and that is not the padding token
  kSelectEos,     ///< the last end-of-sequence token of the input
  kSelectColumn,  ///< column `number` of [T, C] as [T, 1]
  kPatches,       ///< pixels to flattened patches [B * P, channels * height * width]
  kPrependToken,  ///< a learned row in front of each sequence
};
inline constexpr int kNumStepKinds = static_cast<int>(StepKind::kPrependToken) + 1;
std::string_view step_kind_name(StepKind kind);

/// Names of values inside a stack's step lists. kHidden goes from block to block; a step may write
/// a name again.
enum class Value {
  kNone,
  kHidden,
  kNormed,
  kQuery,
  kKey,
  kValue,
  kContext,
  kBranch,
  kBranch2,
  kGate,
  kUp,
  kEmbedded,
  kPooled,
  kLogits,
  kStartLogits,
  kEndLogits,
  kMemory,        ///< what an encoder hands to a decoder
  kPositionBias,  ///< T5
  kRelative,      ///< DeBERTa's relative embeddings
  kRelativeQuery,
  kRelativeKey
};

inline constexpr std::size_t kMaxOperands = 5;

struct Step {
  StepKind kind = StepKind::kAdd;
  Slot slot = Slot::kNone;
  std::array<Value, kMaxOperands> in = {};
  Value out = Value::kNone;
  ActivationKind activation = ActivationKind::kRelu;
  float number = 0.0F;
  bool cross = false;  ///< attention whose keys and values come from the encoder
  bool operator==(const Step&) const = default;
};

/// DeBERTa's disentangled attention (He et al. 2021): content-to-position and position-to-content
/// terms.
struct DisentangledSpec {
  std::int64_t span = 0;  ///< the table has 2 * span rows; 0: ordinary attention
  std::int64_t buckets = 0, max_distance = 0;
  bool content_to_position = false, position_to_content = false;
  bool operator==(const DisentangledSpec&) const = default;
};

/// "normed = norm attention_norm(hidden)": for people.
std::string describe_step(const Step& step);

struct AttentionSpec {
  std::int64_t num_heads = 0, num_kv_heads = 0, head_dim = 0;
  bool causal = false;
  std::int64_t sliding_window = 0;  ///< a token sees itself and the window - 1 before it; 0: all
  float scale = 1.0F;
  float soft_cap = 0.0F;            ///< of the scores (Gemma 2); 0: none
  std::vector<float> alibi_slopes;  ///< one a head (Press et al. 2022); empty: none
  DisentangledSpec disentangled;
  /// Where the papers' scheme quantizes q: after the multiplication by `scale` (OPT) or before it
  /// (BERT, LLaMA).
  bool quantize_scaled_query = false;
  std::vector<float> rotary_inv_freq;  ///< empty: no rotary embedding
  float rotary_amplitude = 1.0F;
  bool operator==(const AttentionSpec&) const = default;
};

/// One layer: which weights it uses (an index, so that layers may share them) and its attention.
struct LayerRef {
  int weights = 0;
  AttentionSpec attention;
  bool operator==(const LayerRef&) const = default;
};

/// T5's bias by the distance of key and query, in buckets (Raffel et al. 2020).
struct RelativeBiasSpec {
  std::int64_t buckets = 0, max_distance = 0;
  bool bidirectional = false;
  bool operator==(const RelativeBiasSpec&) const = default;
};

struct Stack {
  std::vector<Step> prologue, block, epilogue;
  std::vector<LayerRef> layers;
  bool decoder = false;                      ///< reads the decoder's tokens
  bool last_hidden_before_epilogue = false;  ///< what is reported as the last hidden state
  Value result = Value::kHidden;  ///< the name under which later stacks and the head find the last
                                  ///< hidden state
  RelativeBiasSpec relative_bias;
  bool operator==(const Stack&) const = default;
};

enum class Head {
  kNone,
  kSequenceClassification,
  kTokenClassification,
  kQuestionAnswering,
  kMaskedLm,
  kCausalLm,
  kSeq2SeqLm,
  kImageClassification
};
std::string head_name(Head head);

/// How position ids come about: 0, 1, 2, ...; counted over the tokens whose mask is 1; or over
/// those that are not the padding token, which itself gets the id of the padding token (RoBERTa).
enum class PositionRule { kIndex, kMaskCount, kNonPadCount };

struct ModelSpec {
  std::string model_type;
  std::int64_t vocab_size = 0, hidden_size = 0, intermediate_size = 0, max_position_embeddings = 0;
  std::int32_t pad_token_id = 0;  ///< fills batches; 0 where the model has none
  bool has_pad_token = false;  ///< classifiers of decoders read the last token that is another one
  std::vector<std::int32_t> eos_token_ids;
  std::int32_t decoder_start_token_id = 0;  ///< encoder-decoder models
  NormKind norm_kind = NormKind::kLayerNorm;
  double norm_eps = 1e-5;
  PositionRule position_rule = PositionRule::kIndex;
  std::int32_t position_offset = 0;
  std::int64_t image_size = 0, num_channels = 0, patch_size = 0;  ///< vision models
  std::vector<Stack> stacks;
  std::vector<Step> head_steps;
  Head head = Head::kNone;
  /// Which values of head_steps (or the last hidden state) a caller sees: "logits",
  /// "last_hidden_state", "pooler_output".
  std::vector<std::pair<std::string, Value>> outputs;
  bool operator==(const ModelSpec&) const = default;
};

// Ready-made step lists keep family files short.
Step embedding(Slot slot, Value out);
Step norm(Slot slot, Value in, Value out);
Step linear(Slot slot, Value in, Value out);
Step activation(ActivationKind kind, Value in, Value out);
Step add_values(Value a, Value b, Value out);
Step scaled(float factor, Value in, Value out);
/// kSelectFirst, kSelectLast, kSelectEos, kMaskRows, kSoftCap, kSelectColumn.
Step simple_step(StepKind kind, Value in, Value out, float number = 0.0F);
void append(std::vector<Step>& to, const std::vector<Step>& steps);
/// q/k/v projections, attention and output projection: `in` -> kBranch.
std::vector<Step> attention_steps(Value in);
/// Cross-attention to kMemory: `in` -> kBranch.
std::vector<Step> cross_attention_steps(Value in);
/// fc1, activation, fc2: `in` -> `out`.
std::vector<Step> mlp_steps(ActivationKind kind, Value in, Value out = Value::kBranch);
/// gate, up, activation, product, down: `in` -> kBranch.
std::vector<Step> gated_mlp_steps(ActivationKind kind, Value in);
/// h += attn(norm h); h += mlp(norm h).
std::vector<Step> pre_norm_block(const std::vector<Step>& mlp, const std::vector<Step>& attention =
                                                                   attention_steps(Value::kNormed));
/// h = norm(h + attn h); h = norm(h + mlp h).
std::vector<Step> post_norm_block(
    const std::vector<Step>& mlp,
    const std::vector<Step>& attention = attention_steps(Value::kHidden));
/// One residual branch, from kNormed or kHidden to kBranch, with the named norm in front of it or
/// behind the sum.
std::vector<Step> pre_norm_branch(Slot slot, const std::vector<Step>& branch);
std::vector<Step> post_norm_branch(Slot slot, const std::vector<Step>& branch);

}  // namespace quell
