// DeBERTa-v2 and v3 (He et al. 2021): BERT with disentangled attention. Queries and keys of the
// relative positions come from q_proj and k_proj themselves (share_att_key), which therefore read
// two values.
#include <algorithm>
#include <cmath>
#include <string>

#include "quell/base/error.h"
#include "quell/io/json.h"
#include "quell/model/bert_like.h"

namespace quell {
namespace {

constexpr EncoderDefaults kDefaults = {.vocab_size = 128100,
                                       .hidden_size = 1536,
                                       .intermediate_size = 6144,
                                       .num_hidden_layers = 24,
                                       .num_attention_heads = 24,
                                       .norm_eps = 1e-7};

constexpr KeyRule::Effect kChanges = KeyRule::Effect::kChangesResults;
constexpr KeyRule kKeys[] = {
    {"legacy"},  // of a head that is not supported
    {"conv_act"},
    {"conv_groups"},
    {"share_att_key"},  // read where it counts, with relative_attention
    {"position_buckets"},
    {"max_relative_positions"},
    {"norm_rel_ebd"},
    {"conv_kernel_size", kChanges, "[null, 0]", "a convolution behind the first layer"},
};

/// Keys that make sense with one value alone.
void check_sizes(const Config& config, const ModelSpec& s, std::int64_t head_dim) {
  for (const auto& [key, expected] : {std::pair("attention_head_size", head_dim),
                                      {"embedding_size", s.hidden_size},
                                      {"pooler_hidden_size", s.hidden_size}})
    if (read_int(config, key, 1, kMaxDim, expected) != expected)
      config.refuse(key, "only " + std::to_string(expected) + " is supported here");
}

bool is_relative(const Config& config) { return read_bool(config, "relative_attention", false); }

std::vector<std::string> position_terms(const Config& config) {
  const Json& types = config.value("pos_att_type");
  std::string all;  // "p2c|c2p" in older files
  if (types.is_string()) all = types.get<std::string>();
  for (const Json& type : types.is_array() ? types : Json::array())
    all += "|" + type.get<std::string>();

  std::vector<std::string> terms;
  for (std::size_t at = 0; at < all.size();) {
    const std::size_t end = std::min(all.find('|', at), all.size());
    std::string term = all.substr(at, end - at);
    std::erase(term, ' ');
    if (!term.empty()) terms.push_back(term);
    at = end + 1;
  }
  for (const std::string& term : terms)
    if (term != "c2p" && term != "p2c")
      config.refuse("pos_att_type", "\"" + term + "\" is not supported");
  return terms;
}

/// Terms of the scores; with `span` 0 where positions are not relative, which leaves the scale
/// alone.
DisentangledSpec read_disentangled(const Config& config, std::int64_t max_position_embeddings) {
  DisentangledSpec d;
  const std::vector<std::string> terms = position_terms(config);
  d.content_to_position = std::find(terms.begin(), terms.end(), "c2p") != terms.end();
  d.position_to_content = std::find(terms.begin(), terms.end(), "p2c") != terms.end();
  if (!is_relative(config)) return d;

  if (!read_bool(config, "share_att_key", false))
    config.refuse("share_att_key",
                  "matrices of their own for relative positions are not supported");
  d.max_distance = read_int(config, "max_relative_positions", -kMaxDim, kMaxDim, -1);
  if (d.max_distance < 1) d.max_distance = max_position_embeddings;
  d.buckets =
      std::max<std::int64_t>(0, read_int(config, "position_buckets", -kMaxDim, kMaxDim, -1));
  d.span = d.buckets > 0 ? d.buckets : d.max_distance;
  return d;
}

bool has_norm(const Config& config) {
  return is_relative(config) &&
         read_string(config, "norm_rel_ebd", "none").find("layer_norm") != std::string::npos;
}

ValueId embeddings(ModelBuilder& g, const Config& c, const EncoderSizes& sizes) {
  const auto scope = g.scope("deberta.embeddings");
  const ModelSpec& s = g.spec;
  ValueId h = g.embedding("word_embeddings", "word_embeddings", g.token_ids(),
                          {s.vocab_size, s.hidden_size});
  if (read_bool(c, "position_biased_input", true))
    h = g.add(h, g.embedding("position_embeddings", "position_embeddings", g.position_ids({}),
                             {s.max_position_embeddings, s.hidden_size}));
  const std::int64_t token_types = read_int(c, "type_vocab_size", 0, kMaxDim, 0);
  if (token_types > 0)
    h = g.add(h, g.embedding("token_type_embeddings", "token_type_embeddings", g.token_type_ids(),
                             {token_types, s.hidden_size}));
  return g.mask_rows(g.layer_norm("embedding_norm", "LayerNorm", h, sizes.norm_eps));
}

/// Relative embeddings, which every layer projects with its own matrices; kNoValue: positions are
/// not relative.
ValueId relative_embeddings(ModelBuilder& g, const Config& c, const EncoderSizes& sizes) {
  if (!is_relative(c)) return kNoValue;
  const std::int64_t rows = 2 * sizes.attention.disentangled.span;
  const ValueId relative =
      g.table("relative_embeddings", "deberta.encoder.rel_embeddings", {rows, g.spec.hidden_size});
  if (!has_norm(c)) return relative;
  return g.layer_norm("relative_norm", "deberta.encoder.LayerNorm", relative, sizes.norm_eps);
}

constexpr EncoderLayerModules kLayer = {.query = "attention.self.query_proj",
                                        .key = "attention.self.key_proj",
                                        .value = "attention.self.value_proj"};

ValueId layer(ModelBuilder& g, const EncoderSizes& sizes, ValueId h, ValueId relative) {
  const AttentionRecipe& recipe = sizes.attention;
  const AttentionModules modules = kLayer.attention();
  const Projections p = project(g, recipe, h, h, modules);
  AttentionInputs inputs;
  if (relative != kNoValue) {
    const std::int64_t size = recipe.num_heads * recipe.head_dim;
    inputs.relative_query = g.linear("q_proj", kLayer.query, relative, size, {.bias = true});
    inputs.relative_key = g.linear("k_proj", kLayer.key, relative, size, {.bias = true});
  }
  const ValueId context = g.attention(recipe, p.query, p.key, p.value, inputs);
  const ValueId attended = project_out(g, context, h, modules);
  h = g.layer_norm("attention_norm", kLayer.attention_norm, g.add(h, attended), sizes.norm_eps);

  const ValueId thought =
      mlp(g, sizes.activation, h, g.spec.intermediate_size, {.fc1 = kLayer.fc1, .fc2 = kLayer.fc2});
  return g.layer_norm("ffn_norm", kLayer.ffn_norm, g.add(h, thought), sizes.norm_eps);
}

void build(ModelBuilder& g, const Config& c) {
  EncoderSizes sizes = read_encoder(g, c, kDefaults);
  AttentionRecipe& a = sizes.attention;
  check_sizes(c, g.spec, a.head_dim);
  a.disentangled = read_disentangled(c, g.spec.max_position_embeddings);
  // Also where positions are not relative.
  const int terms = 1 + (a.disentangled.content_to_position ? 1 : 0) +
                    (a.disentangled.position_to_content ? 1 : 0);
  a.scale = inverse_sqrt_of(static_cast<double>(a.head_dim * terms));
  if (!is_relative(c)) a.disentangled = {};

  ValueId h = embeddings(g, c, sizes);
  const ValueId relative = relative_embeddings(g, c, sizes);
  g.hidden_state(h);
  for (std::int64_t l = 0; l < sizes.num_layers; ++l) {
    const auto scope = g.layer("deberta.encoder.layer", l);
    h = layer(g, sizes, h, relative);
    g.hidden_state(h);
  }

  EncoderHead head;
  const ActivationKind pooler_act = read_activation(c, "pooler_hidden_act", "gelu");
  if (architecture_of(c) == "DebertaV2ForSequenceClassification")
    head.pooler = [&](ValueId x) { return first_token_pooler(g, x, "pooler.dense", pooler_act); };
  build_encoder_head(g, c, "DebertaV2", h, head);
}

}  // namespace

extern const Family k_deberta_v2;
const Family k_deberta_v2 = {"deberta-v2",
                             "deberta.",
                             build,
                             "DeBERTa-v2 and v3: disentangled attention",
                             "DebertaV2Model DebertaV2ForSequenceClassification "
                             "DebertaV2ForTokenClassification DebertaV2ForQuestionAnswering",
                             kKeys};

}  // namespace quell
