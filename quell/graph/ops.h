// The ops that come with Quell and what each is told: an op is the file of its name in ops/.
#pragma once

#include <string>
#include <vector>

#include "quell/graph/op.h"
#include "quell/ops/elementwise.h"
#include "quell/quant/quant_spec.h"

namespace quell {

// Sources.
extern const OpDef op_embedding;      ///< rows of a table by ids: EmbeddingAttributes
extern const OpDef op_table;          ///< all rows of a table
extern const OpDef op_position_ids;   ///< of the tokens: PositionAttributes
extern const OpDef op_patches;        ///< pixels to rows, one a patch: PatchAttributes
extern const OpDef op_prepend_token;  ///< a learned row in front of each sequence

// With weights.
extern const OpDef op_linear;         ///< x weight^T + bias
extern const OpDef op_norm;           ///< over the columns: NormAttributes
extern const OpDef op_head_norm;      ///< over each head's columns: NormAttributes
extern const OpDef op_relative_bias;  ///< [heads * N, N] from a table [buckets, heads] (T5)

// Element by element.
extern const OpDef op_activation;  ///< ActivationKind
extern const OpDef op_multiply;
extern const OpDef op_add;
extern const OpDef op_scale;      ///< times a Factor
extern const OpDef op_soft_cap;   ///< cap * tanh(x / cap): double
extern const OpDef op_mask_rows;  ///< 0 at padding

extern const OpDef op_attention;  ///< AttentionAttributes; operands by AttentionOperand

// What passes put in.
extern const OpDef op_quantize;         ///< ActivationQuant
extern const OpDef op_quantize_weight;  ///< of a matrix: WeightQuantAttributes
extern const OpDef op_affine;           ///< (x - shift) / scale by channel: ChannelAffine
extern const OpDef op_restore;          ///< x * scale + shift by channel: ChannelAffine

// Rows and columns of tokens.
extern const OpDef op_select_first;   ///< the first token of each sequence
extern const OpDef op_select_last;    ///< the last token: SelectLastAttributes
extern const OpDef op_select_eos;     ///< the last of certain tokens: SelectEosAttributes
extern const OpDef op_select_column;  ///< one column of [T, C] as [T, 1]: its index, std::int64_t

struct EmbeddingAttributes {
  std::string_view what;  ///< "token id": for messages
  /// Training changes the row of the padding token like any other; else look-ups of it have no
  /// gradient.
  bool learns_padding = false;
};

/// How position ids come about: 0, 1, 2, ...; counted over the tokens whose mask is 1; or over
/// those that are not the padding token, which itself gets the id of the padding token (RoBERTa).
enum class PositionRule { kIndex, kMaskCount, kNonPadCount };

struct PositionAttributes {
  PositionRule rule = PositionRule::kIndex;
  std::int32_t offset = 0;        ///< the first position's id
  std::int32_t pad_token_id = 0;  ///< kNonPadCount
};
/// Ids of every token of a batch.
std::vector<std::int32_t> position_ids(const PositionAttributes& positions,
                                       const TokenBatch& batch);

struct NormAttributes {
  NormKind kind = NormKind::kLayerNorm;
  double eps = 1e-5;
};

struct PatchAttributes {
  std::int64_t image_size = 0;
  std::int64_t num_channels = 0;
  std::int64_t patch_size = 0;
  std::int64_t num_patches() const {
    const std::int64_t side = image_size / patch_size;
    return side * side;
  }
};

/// T5's bias by the distance of key and query, in buckets (Raffel et al. 2020).
struct RelativeBiasAttributes {
  std::int64_t buckets = 0;
  std::int64_t max_distance = 0;
  bool bidirectional = false;
};

/// The last token whose mask is 1 and that is not the padding token, where the model has one.
struct SelectLastAttributes {
  std::optional<std::int32_t> pad_token_id;
};

/// The last of these tokens of the input (of which a decoder's tokens are a copy shifted right).
struct SelectEosAttributes {
  std::vector<std::int32_t> tokens;
};

/// DeBERTa's disentangled attention (He et al. 2021): content-to-position and position-to-content
/// terms.
struct DisentangledSpec {
  std::int64_t span = 0;  ///< the table has 2 * span rows; 0: ordinary attention
  std::int64_t buckets = 0;
  std::int64_t max_distance = 0;
  bool content_to_position = false;
  bool position_to_content = false;
  bool operator==(const DisentangledSpec&) const = default;
};

/// Rotary positions (Su et al. 2021) as config.json says them: what frequencies are made of.
struct RotaryRecipe {
  enum class Kind { kPlain, kLinear, kLlama3, kYarn, kLongRope, kProportional };
  Kind kind = Kind::kPlain;
  double theta = 10000;
  std::int64_t head_dim = 0;
  std::int64_t dim = 0;  ///< of a head that are rotated
  double factor = 1;
  double low_freq_factor = 1;        ///< kLlama3
  double high_freq_factor = 1;       ///< kLlama3
  double original_positions = 0;     ///< kLlama3: before the context was extended
  double low = 0;                    ///< kYarn: the ramp's ends, in pairs of dimensions
  double high = 0;                   ///< kYarn
  double amplitude = 1;              ///< of cosines and sines
  std::vector<double> factors = {};  ///< kLongRope: one a pair
  bool operator==(const RotaryRecipe&) const = default;
};
/// One a pair of dimensions, in f32 as the reference computes them.
std::vector<float> rotary_frequencies(const RotaryRecipe& recipe);
/// The same in double throughout.
std::vector<double> exact_rotary_frequencies(const RotaryRecipe& recipe);

/// An attention as the family says it; numbers exact or as recipes.
struct AttentionRecipe {
  std::int64_t num_heads = 0;
  std::int64_t num_kv_heads = 0;
  std::int64_t head_dim = 0;
  bool causal = false;
  bool cross = false;               ///< keys and values are the encoder's
  std::int64_t sliding_window = 0;  ///< a token sees itself and the window - 1 before it; 0: all
  Factor scale;
  double soft_cap = 0;  ///< of the scores (Gemma 2); 0: none
  bool alibi = false;   ///< scores grow with positions, by a slope a head (Press et al. 2022)
  DisentangledSpec disentangled;
  /// Where the papers' scheme quantizes q: after the multiplication by `scale` (OPT) or before it
  /// (BERT, LLaMA).
  bool quantize_scaled_query = false;
  std::optional<RotaryRecipe> rotary;
  /// rotary, ALiBi
  bool needs_positions() const { return rotary.has_value() || alibi; }
};

/// The same, rounded for engines in f32.
struct AttentionSpec {
  std::int64_t num_heads = 0;
  std::int64_t num_kv_heads = 0;
  std::int64_t head_dim = 0;
  bool causal = false;
  bool cross = false;
  std::int64_t sliding_window = 0;
  float scale = 1.0F;
  float soft_cap = 0.0F;
  std::vector<float> alibi_slopes;  ///< one a head; empty: none
  DisentangledSpec disentangled;
  bool quantize_scaled_query = false;
  std::vector<float> rotary_inv_freq;  ///< empty: no rotary embedding
  float rotary_amplitude = 1.0F;
  bool operator==(const AttentionSpec&) const = default;
};

struct AttentionAttributes {
  explicit AttentionAttributes(AttentionRecipe said);
  AttentionRecipe recipe;
  AttentionSpec f32;  ///< `recipe`, rounded once
  /// Of q, k and v, as they go into the product of scores, and of the probabilities; empty points
  /// stay as they are.
  AttentionQuant quant;
};

/// Of nodes that use one parameter. The matrix may be another's, to which it is tied.
struct WeightQuantAttributes {
  QuantSpec spec;
  ParamId readers = kNoParam;
};

/// By channel, for migrated values: their scale and shift.
struct ChannelAffine {
  Tensor scale;  ///< [C]
  Tensor shift;  ///< [C] or undefined
};

/// Operands of a linear: x [rows, in], and a matrix [out, in].
enum LinearOperand : std::size_t { kLinearInput, kLinearWeight };

/// Operands of an attention; the last three may be left out (kNoValue).
enum AttentionOperand : std::size_t {
  kQueryOperand,
  kKeyOperand,
  kValueOperand,
  kBiasOperand,           ///< T5: [heads * N, N], added to the scores
  kRelativeQueryOperand,  ///< DeBERTa: projected relative embeddings
  kRelativeKeyOperand,
  kPositionsOperand,  ///< ids of the tokens: rotary embedding, ALiBi
  kNumAttentionOperands
};

/// Of an attention node.
const AttentionSpec& attention_of(const Node& node);
/// Its quantizers; null where no point has one, and of other nodes.
const AttentionQuant* attention_quant_of(const Node& node);
/// The same attention with these quantizers.
void set_attention_quant(Graph& graph, NodeId node, AttentionQuant quant);
/// Attention nodes with quantizers, ascending.
std::vector<NodeId> quantized_attentions(const Graph& graph);
/// Of a quantize node, of one of a matrix; of an affine or restore node.
const ActivationQuant& quantizer_of(const Node& node);
const WeightQuantAttributes& weight_quantizer_of(const Node& node);
const ChannelAffine& affine_of(const Node& node);
/// Of an activation node.
ActivationKind activation_of(const Node& node);
/// Of a norm or head norm.
const NormAttributes& norm_of(const Node& node);
/// Of the graph's first norm; a layer norm where it has none.
NormAttributes first_norm(const Graph& graph);

}  // namespace quell
