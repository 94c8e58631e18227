// T5 (Raffel et al. 2020): pre-norm encoder and decoder with RMSNorm, no scale of the scores, and a
// bias by distance that the first layer of each side holds for all. v1.0 with ReLU, v1.1 with a
// gated MLP and an untied head.
#include <cmath>

#include "quell/base/error.h"
#include "quell/model/blocks.h"
#include "quell/model/family.h"

namespace quell {
namespace {

constexpr KeyRule kKeys[] = {
    {"is_encoder_decoder", KeyRule::Effect::kChangesResults, "[null, true]",
     "one half of the model alone"},
    {"n_positions"},  // relative positions know no limit
};

struct FeedForward {
  bool gated = false;
  ActivationKind activation = ActivationKind::kRelu;
};
FeedForward read_feed_forward(const Config& config) {
  std::string name = read_string(config, "feed_forward_proj", "relu");
  FeedForward f;
  f.gated = name.starts_with("gated-");
  if (f.gated) name = name.substr(6);
  if (f.gated && name == "gelu") name = "gelu_new";  // as transformers reads it

  // Where the file holds what follows from it, that counts.
  f.gated = read_bool(config, "is_gated_act", f.gated);
  f.activation = read_activation(config, "dense_act_fn", name);
  return f;
}

/// The table of both sides, which files may hold under several names.
constexpr const char* kTable = "shared";

AttentionModules attention_modules(const std::string& prefix, const std::string& label_prefix) {
  return {.query = prefix + ".q",
          .key = prefix + ".k",
          .value = prefix + ".v",
          .out = prefix + ".o",
          .qkv_bias = false,
          .out_bias = false,
          .label_prefix = label_prefix};
}

ValueId feed_forward(ModelBuilder& g, const FeedForward& f, const std::string& layer, ValueId x) {
  const std::string dense = layer + ".DenseReluDense.";
  const std::int64_t size = g.spec.intermediate_size;
  if (f.gated)
    return gated_mlp(g, f.activation, x, size,
                     {.gate = dense + "wi_0", .up = dense + "wi_1", .down = dense + "wo"});
  return mlp(g, f.activation, x, size, {.fc1 = dense + "wi", .fc2 = dense + "wo", .bias = false});
}

/// Embedding and layers of one side; `memory` is the encoder's result for the decoder.
ValueId build_side(ModelBuilder& g, const Config& c, ValueId memory) {
  const bool decoder = memory != kNoValue;
  const ModelSpec& s = g.spec;
  const double eps = read_number(c, "layer_norm_epsilon", 1e-6);
  const FeedForward f = read_feed_forward(c);
  AttentionRecipe attention = read_attention_with_head_dim(c, s.hidden_size, 8, 64);
  attention.scale = {};
  AttentionRecipe cross = attention;
  attention.causal = decoder;
  cross.cross = true;
  std::int64_t num_layers = read_num_layers(c, 6);
  if (decoder)
    num_layers = read_optional_int(c, "num_decoder_layers", 1, kMaxLayers).value_or(num_layers);

  ValueId h =
      g.embedding("word_embeddings", "embed_tokens", g.token_ids(), {s.vocab_size, s.hidden_size},
                  {.tied_to = kTable, .only_if_different = true, .learns_padding = true});
  const RelativeBiasAttributes buckets{
      read_int(c, "relative_attention_num_buckets", 2, kMaxDim, 32),
      read_int(c, "relative_attention_max_distance", 2, kMaxDim, 128), !decoder};
  const ValueId bias = g.relative_bias("relative_attention_bias",
                                       "block.0.layer.0.SelfAttention.relative_attention_bias",
                                       attention.num_heads, buckets);
  g.hidden_state(h);
  for (std::int64_t l = 0; l < num_layers; ++l) {
    const auto layer = g.layer("block", l);
    const ValueId x = g.rms_norm("attention_norm", "layer.0.layer_norm", h, eps);
    h = g.add(h, self_attention(g, attention, x, attention_modules("layer.0.SelfAttention", ""),
                                {.bias = bias}));
    if (decoder) {
      const ValueId y = g.rms_norm("cross_norm", "layer.1.layer_norm", h, eps);
      h = g.add(h, cross_attention(g, cross, y, memory,
                                   attention_modules("layer.1.EncDecAttention", "cross_")));
    }
    const std::string last = decoder ? "layer.2" : "layer.1";
    const ValueId z = g.rms_norm("ffn_norm", last + ".layer_norm", h, eps);
    h = g.add(h, feed_forward(g, f, last, z));
    g.hidden_state(h);
  }
  h = g.rms_norm("final_norm", "final_layer_norm", h, eps);
  g.last_hidden_state(h);
  return h;
}

void build(ModelBuilder& g, const Config& file) {
  const Config c = file.with_aliases({{"hidden_size", "d_model"},
                                      {"num_attention_heads", "num_heads"},
                                      {"num_hidden_layers", "num_layers"},
                                      {"head_dim", "d_kv"}});
  const std::string name = architecture_of(c);
  const bool known = name.empty() || name == "T5ForConditionalGeneration" || name == "T5Model";
  if (!known) refuse_architecture(name, "t5");

  ModelSpec& s = g.spec;
  s.vocab_size = read_int(c, "vocab_size", 1, kMaxDim, 32128);
  s.hidden_size = read_int(c, "hidden_size", 1, kMaxDim, 512);
  s.intermediate_size = read_int(c, "d_ff", 1, kMaxDim, 2048);
  s.max_position_embeddings = kUnlimitedPositions;  // buckets know no limit
  read_special_ids(c, s, 0, 1);
  s.decoder_start_token_id = static_cast<std::int32_t>(
      read_optional_int(c, "decoder_start_token_id", 0, kMaxDim, s.pad_token_id)
          .value_or(s.pad_token_id));
  s.head = Head::kSeq2SeqLm;
  g.shared_table(kTable, {s.vocab_size, s.hidden_size},
                 {"encoder.embed_tokens", "decoder.embed_tokens", "lm_head"});

  ValueId memory = kNoValue;
  {
    const auto encoder = g.encoder("encoder");
    memory = build_side(g, c, kNoValue);
  }
  ValueId h = kNoValue;
  {
    const auto decoder = g.decoder("decoder");
    h = build_side(g, c, memory);
  }

  g.output("last_hidden_state", h);
  g.begin_head();
  // The key says whether the decoder's output is scaled; the tables are tied wherever the file does
  // not hold two.
  const bool scaled_by_default = read_bool(c, "tie_word_embeddings", true);
  if (read_bool(c, "scale_decoder_outputs", scaled_by_default))
    h = g.scale({std::pow(static_cast<double>(s.hidden_size), -0.5)}, h);
  g.output("logits", g.linear("lm_head", "lm_head", h, s.vocab_size,
                              {.role = Role::kLmHead, .tied_to = kTable}));
}

}  // namespace

extern const Family k_t5;
const Family k_t5 = {"t5",
                     "",
                     build,
                     "T5 v1.0 and v1.1: encoder-decoder, relative bias",
                     "T5Model T5ForConditionalGeneration",
                     kKeys};

}  // namespace quell
