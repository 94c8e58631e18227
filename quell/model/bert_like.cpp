#include "quell/model/bert_like.h"

#include "quell/base/error.h"

namespace quell {

EncoderSizes read_encoder(ModelBuilder& g, const Config& c, const EncoderDefaults& d) {
  ModelSpec& s = g.spec;
  s.vocab_size = read_int(c, "vocab_size", 1, kMaxDim, d.vocab_size);
  s.hidden_size = read_int(c, "hidden_size", 1, kMaxDim, d.hidden_size);
  s.intermediate_size = read_int(c, "intermediate_size", 1, kMaxDim, d.intermediate_size);
  s.max_position_embeddings =
      read_int(c, "max_position_embeddings", 1, kMaxDim, d.max_position_embeddings);
  read_special_ids(c, s, d.pad_token_id, d.eos_token_id);

  EncoderSizes sizes;
  sizes.norm_eps = d.norm_eps;
  if (d.norm_eps_key != nullptr) sizes.norm_eps = read_number(c, d.norm_eps_key, d.norm_eps);
  sizes.activation = read_activation(c, "hidden_act", d.activation);
  sizes.num_layers = read_num_layers(c, d.num_hidden_layers);
  sizes.attention = read_attention(c, s.hidden_size, d.num_attention_heads);
  return sizes;
}

ValueId bert_embeddings(ModelBuilder& g, const Config& c, const EncoderSizes& sizes,
                        const PositionAttributes& positions, std::int64_t position_rows,
                        std::int64_t size) {
  const ValueId words =
      g.embedding("word_embeddings", "word_embeddings", g.token_ids(), {g.spec.vocab_size, size});
  const std::int64_t token_types = read_int(c, "type_vocab_size", 0, kMaxDim, 2);
  const ValueId types = g.embedding("token_type_embeddings", "token_type_embeddings",
                                    g.token_type_ids(), {token_types, size});
  const ValueId typed = g.add(words, types);

  const ValueId places = g.embedding("position_embeddings", "position_embeddings",
                                     g.position_ids(positions), {position_rows, size});
  return g.layer_norm("embedding_norm", "LayerNorm", g.add(typed, places), sizes.norm_eps);
}

ValueId post_norm_layer(ModelBuilder& g, const EncoderSizes& sizes, ValueId h,
                        const EncoderLayerModules& m) {
  const ValueId attended = self_attention(g, sizes.attention, h, m.attention());
  h = g.layer_norm("attention_norm", m.attention_norm, g.add(h, attended), sizes.norm_eps);

  const ValueId thought =
      mlp(g, sizes.activation, h, g.spec.intermediate_size, {.fc1 = m.fc1, .fc2 = m.fc2});
  return g.layer_norm("ffn_norm", m.ffn_norm, g.add(h, thought), sizes.norm_eps);
}

ValueId first_token_pooler(ModelBuilder& g, ValueId h, const std::string& module,
                           ActivationKind kind) {
  const ValueId first = g.select_first(h);
  const ValueId dense =
      g.linear("pooler", module, first, g.columns(h), {.bias = true, .role = Role::kPooler});
  return g.activation(kind, dense);
}

ValueId masked_lm_head(ModelBuilder& g, const Config& config, ValueId h, std::int64_t size,
                       ActivationKind kind, double norm_eps, const MaskedLmModules& m) {
  const ValueId dense = g.linear("head_dense", m.dense, h, size, {.bias = true});
  const ValueId normed = g.layer_norm("head_norm", m.norm, g.activation(kind, dense), norm_eps);
  return g.linear("lm_head", m.decoder, normed, g.spec.vocab_size,
                  {.bias = true,
                   .role = Role::kLmHead,
                   .bias_name = m.bias_name,
                   .tied_to = tied_to_table(config, m.table)});
}

void build_roberta(ModelBuilder& g, const Config& c, const std::string& name,
                   std::int64_t default_vocab_size) {
  const EncoderSizes sizes =
      read_encoder(g, c, {.vocab_size = default_vocab_size, .pad_token_id = 1, .eos_token_id = 2});
  ModelSpec& s = g.spec;
  require(s.has_pad_token, ErrorCode::kInvalidInput,
          "key \"pad_token_id\": positions of this family need a padding token");

  // Positions start behind the padding token's row.
  const PositionAttributes positions{PositionRule::kNonPadCount, s.pad_token_id + 1,
                                     s.pad_token_id};
  const std::int64_t position_rows = s.max_position_embeddings;
  s.max_position_embeddings -= positions.offset;
  require(s.max_position_embeddings > 0, ErrorCode::kInvalidInput,
          "key \"max_position_embeddings\": too small for pad_token_id");

  ValueId h = kNoValue;
  {
    const auto scope = g.scope("roberta.embeddings");
    h = bert_embeddings(g, c, sizes, positions, position_rows, s.hidden_size);
  }
  g.hidden_state(h);
  for (std::int64_t l = 0; l < sizes.num_layers; ++l) {
    const auto layer = g.layer("roberta.encoder.layer", l);
    h = post_norm_layer(g, sizes, h);
    g.hidden_state(h);
  }

  const bool classifies = architecture_of(c) == name + "ForSequenceClassification";
  EncoderHead head;
  head.pooler = [&](ValueId x) {
    return first_token_pooler(g, x, classifies ? "classifier.dense" : "roberta.pooler.dense");
  };
  head.masked_lm = [&](ValueId x) {
    return masked_lm_head(g, c, x, s.hidden_size, ActivationKind::kGelu, sizes.norm_eps,
                          {.dense = "lm_head.dense",
                           .norm = "lm_head.layer_norm",
                           .decoder = "lm_head.decoder",
                           .bias_name = "lm_head.bias",
                           .table = "roberta.embeddings.word_embeddings"});
  };
  if (classifies) head.classifier = "classifier.out_proj";
  build_encoder_head(g, c, name, h, head);
}

}  // namespace quell
