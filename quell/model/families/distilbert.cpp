// DistilBERT (Sanh et al. 2019): BERT with half the layers, without token types and pooler.
#include "quell/model/bert_like.h"

namespace quell {
namespace {

// Sinusoids are how a model starts, its file holds what became of them.
constexpr KeyRule kKeys[] = {{"sinusoidal_pos_embds"}, {"tie_weights_"}};

constexpr EncoderLayerModules kLayer = {.query = "attention.q_lin",
                                        .key = "attention.k_lin",
                                        .value = "attention.v_lin",
                                        .out = "attention.out_lin",
                                        .attention_norm = "sa_layer_norm",
                                        .fc1 = "ffn.lin1",
                                        .fc2 = "ffn.lin2",
                                        .ffn_norm = "output_layer_norm"};

ValueId embeddings(ModelBuilder& g, double norm_eps) {
  const auto scope = g.scope("distilbert.embeddings");
  const std::int64_t size = g.spec.hidden_size;
  const ValueId words =
      g.embedding("word_embeddings", "word_embeddings", g.token_ids(), {g.spec.vocab_size, size});
  const ValueId places = g.embedding("position_embeddings", "position_embeddings",
                                     g.position_ids({}), {g.spec.max_position_embeddings, size});
  return g.layer_norm("embedding_norm", "LayerNorm", g.add(words, places), norm_eps);
}

void build(ModelBuilder& g, const Config& config) {
  const Config c = config.with_aliases({{"hidden_size", "dim"},
                                        {"intermediate_size", "hidden_dim"},
                                        {"num_attention_heads", "n_heads"},
                                        {"num_hidden_layers", "n_layers"},
                                        {"hidden_act", "activation"}});
  const EncoderSizes sizes = read_encoder(g, c, {.num_hidden_layers = 6, .norm_eps_key = nullptr});

  ValueId h = embeddings(g, sizes.norm_eps);
  g.hidden_state(h);
  for (std::int64_t l = 0; l < sizes.num_layers; ++l) {
    const auto layer = g.layer("distilbert.transformer.layer", l);
    h = post_norm_layer(g, sizes, h, kLayer);
    g.hidden_state(h);
  }

  EncoderHead head;
  if (architecture_of(c) == "DistilBertForSequenceClassification")
    head.pooler = [&](ValueId x) {
      return first_token_pooler(g, x, "pre_classifier", ActivationKind::kRelu);
    };
  head.masked_lm = [&](ValueId x) {
    return masked_lm_head(g, c, x, g.spec.hidden_size, sizes.activation, sizes.norm_eps,
                          {.dense = "vocab_transform",
                           .norm = "vocab_layer_norm",
                           .decoder = "vocab_projector",
                           .table = "distilbert.embeddings.word_embeddings"});
  };
  build_encoder_head(g, c, "DistilBert", h, head);
}

}  // namespace

extern const Family k_distilbert;
const Family k_distilbert = {
    "distilbert",
    "distilbert.",
    build,
    "DistilBERT",
    "DistilBertModel DistilBertForMaskedLM DistilBertForSequenceClassification "
    "DistilBertForTokenClassification DistilBertForQuestionAnswering",
    kKeys};

}  // namespace quell
