// BART (Lewis et al. 2020): post-norm encoder and decoder with learned positions and a shared
// embedding.
#include <cmath>

#include "quell/base/error.h"
#include "quell/model/blocks.h"
#include "quell/model/family.h"

namespace quell {
namespace {

constexpr std::int32_t kPositionOffset = 2;  // rows 0 and 1 of the position tables are not used

constexpr KeyRule::Effect kChanges = KeyRule::Effect::kChangesResults;
constexpr KeyRule kKeys[] = {
    {"is_encoder_decoder", kChanges, "[null, true]", "one half of the model alone"},
    // Of the first implementation, which had other models of the family in one class.
    {"normalize_before", kChanges, "[null, false]", "norms in front of the branches"},
    {"add_final_layer_norm", kChanges, "[null, false]", "a norm behind the last layer"},
    {"normalize_embedding", kChanges, "[null, true]", "embeddings without a norm"},
    {"add_bias_logits", kChanges, "[null, false]", "a bias of the logits"},
    {"static_position_embeddings", kChanges, "[null, false]", "sinusoidal positions"},
    {"extra_pos_embeddings", kChanges, "[null, 2]", "another number of unused positions"},
    {"classif_dropout"},
};

std::int64_t ffn_size(const Config& config, bool decoder) {
  return read_int(config, decoder ? "decoder_ffn_dim" : "encoder_ffn_dim", 1, kMaxDim, 4096);
}

constexpr double kNormEps = 1e-5;

/// The side's embeddings. `tied_to`: the table of both sides, of which each may have a copy.
ValueId embeddings(ModelBuilder& g, const Config& c, const std::string& tied_to) {
  const ModelSpec& s = g.spec;
  ParamOptions table;
  table.tied_to = tied_to;
  table.only_if_different = !tied_to.empty();
  ValueId h = g.embedding("word_embeddings", "embed_tokens", g.token_ids(),
                          {s.vocab_size, s.hidden_size}, table);
  if (read_bool(c, "scale_embedding", false))
    h = g.scale(sqrt_of(static_cast<double>(s.hidden_size)), h);

  const ValueId positions = g.position_ids({PositionRule::kIndex, kPositionOffset});
  h = g.add(h, g.embedding("position_embeddings", "embed_positions", positions,
                           {s.max_position_embeddings + kPositionOffset, s.hidden_size}));
  return g.layer_norm("embedding_norm", "layernorm_embedding", h, kNormEps);
}

AttentionModules attention_modules(const std::string& prefix, const std::string& label_prefix) {
  return {.query = prefix + ".q_proj",
          .key = prefix + ".k_proj",
          .value = prefix + ".v_proj",
          .out = prefix + ".out_proj",
          .label_prefix = label_prefix};
}

/// Embeddings and layers of one side; `memory` is the encoder's result for the decoder.
ValueId build_side(ModelBuilder& g, const Config& c, const std::string& table, ValueId memory) {
  const bool decoder = memory != kNoValue;
  const ModelSpec& s = g.spec;
  AttentionRecipe attention = read_attention(
      c, s.hidden_size, 16, decoder ? "decoder_attention_heads" : "num_attention_heads");
  AttentionRecipe cross = attention;
  attention.causal = decoder;
  cross.cross = true;
  const ActivationKind act = read_activation(c, "activation_function", "gelu");
  const std::int64_t ffn = ffn_size(c, decoder);
  const std::string layers_key = decoder ? "decoder_layers" : "num_hidden_layers";
  const std::int64_t num_layers = read_int(c, layers_key, 1, kMaxLayers, 12);

  ValueId h = embeddings(g, c, table);
  g.hidden_state(h);
  for (std::int64_t l = 0; l < num_layers; ++l) {
    const auto layer = g.layer("layers", l);
    h = g.add(h, self_attention(g, attention, h, attention_modules("self_attn", "")));
    h = g.layer_norm("attention_norm", "self_attn_layer_norm", h, kNormEps);
    if (decoder) {
      h = g.add(h,
                cross_attention(g, cross, h, memory, attention_modules("encoder_attn", "cross_")));
      h = g.layer_norm("cross_norm", "encoder_attn_layer_norm", h, kNormEps);
    }
    h = g.add(h, mlp(g, act, h, ffn, {.fc1 = "fc1", .fc2 = "fc2"}));
    h = g.layer_norm("ffn_norm", "final_layer_norm", h, kNormEps);
    g.hidden_state(h);
  }
  return h;
}

/// `table`: the token embedding to which the head is tied, or "".
void build_head(ModelBuilder& g, const Config& c, const std::string& table, ValueId h) {
  const std::string name = architecture_of(c);
  g.output("last_hidden_state", h);
  g.begin_head();

  if (name == "BartForSequenceClassification") {
    g.spec.head = Head::kSequenceClassification;
    const ValueId end = g.select_eos(h, g.spec.eos_token_ids);
    const ValueId dense = g.linear("head_dense", "classification_head.dense", end,
                                   g.spec.hidden_size, {.bias = true});
    g.output("logits", g.linear("classifier", "classification_head.out_proj",
                                g.activation(ActivationKind::kTanh, dense), num_labels(c, 3),
                                {.bias = true, .role = Role::kClassifier}));
    return;
  }
  const bool known = name.empty() || name == "BartForConditionalGeneration" || name == "BartModel";
  if (!known) refuse_architecture(name, "bart");
  g.spec.head = Head::kSeq2SeqLm;
  g.output("logits", g.linear("lm_head", "lm_head", h, g.spec.vocab_size,
                              {.bias = true,
                               .role = Role::kLmHead,
                               .bias_name = "final_logits_bias",
                               .zero_bias_if_missing = true,
                               .tied_to = table}));
}

void build(ModelBuilder& g, const Config& file) {
  // The general names are those of the encoder's keys.
  const Config c = file.with_aliases({{"hidden_size", "d_model"},
                                      {"num_attention_heads", "encoder_attention_heads"},
                                      {"num_hidden_layers", "encoder_layers"}});
  ModelSpec& s = g.spec;
  s.vocab_size = read_int(c, "vocab_size", 1, kMaxDim, 50265);
  s.hidden_size = read_int(c, "hidden_size", 1, kMaxDim, 1024);
  s.intermediate_size = ffn_size(c, false);
  s.max_position_embeddings = read_int(c, "max_position_embeddings", 1, kMaxDim, 1024);
  read_special_ids(c, s, 1, 2);
  s.decoder_start_token_id =
      static_cast<std::int32_t>(read_int(c, "decoder_start_token_id", 0, kMaxDim, 2));

  // Quell once wrote false where only the head had codes of its own.
  const bool tied = read_bool(c, "tie_word_embeddings", true) || c.has("quell");
  const std::string table = tied ? "model.shared" : "";
  if (tied)
    g.shared_table(table, {s.vocab_size, s.hidden_size},
                   {"lm_head", "model.decoder.embed_tokens", "model.encoder.embed_tokens"});

  ValueId memory = kNoValue;
  {
    const auto encoder = g.encoder("model.encoder");
    memory = build_side(g, c, table, kNoValue);
  }
  ValueId h = kNoValue;
  {
    const auto decoder = g.decoder("model.decoder");
    h = build_side(g, c, table, memory);
  }
  build_head(g, c, table, h);
}

}  // namespace

extern const Family k_bart;
const Family k_bart = {"bart",
                       "model.",
                       build,
                       "BART: encoder-decoder, cross-attention",
                       "BartModel BartForConditionalGeneration BartForSequenceClassification",
                       kKeys};

}  // namespace quell
