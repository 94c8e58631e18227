// BERT (Devlin et al. 2019): post-norm encoder with learned positions and token types.
#include "quell/model/bert_like.h"

namespace quell {
namespace {

// Of the pooler of the first multilingual checkpoints; nobody reads them.
constexpr KeyRule kKeys[] = {{"directionality"},
                             {"pooler_fc_size"},
                             {"pooler_num_*"},
                             {"pooler_size_per_head"},
                             {"pooler_type"}};

void build(ModelBuilder& g, const Config& c) {
  const EncoderSizes sizes = read_encoder(g, c);
  const std::int64_t positions = g.spec.max_position_embeddings;

  ValueId h = kNoValue;
  {
    const auto scope = g.scope("bert.embeddings");
    h = bert_embeddings(g, c, sizes, {}, positions, g.spec.hidden_size);
  }
  g.hidden_state(h);
  for (std::int64_t l = 0; l < sizes.num_layers; ++l) {
    const auto layer = g.layer("bert.encoder.layer", l);
    h = post_norm_layer(g, sizes, h);
    g.hidden_state(h);
  }

  EncoderHead head;
  head.pooler = [&](ValueId x) { return first_token_pooler(g, x, "bert.pooler.dense"); };
  head.masked_lm = [&](ValueId x) {
    return masked_lm_head(g, c, x, g.spec.hidden_size, sizes.activation, sizes.norm_eps,
                          {.dense = "cls.predictions.transform.dense",
                           .norm = "cls.predictions.transform.LayerNorm",
                           .decoder = "cls.predictions.decoder",
                           .bias_name = "cls.predictions.bias",
                           .table = "bert.embeddings.word_embeddings"});
  };
  build_encoder_head(g, c, "Bert", h, head);
}

}  // namespace

extern const Family k_bert;
const Family k_bert = {"bert",
                       "bert.",
                       build,
                       "BERT, sentence-transformers, MiniLM",
                       "BertModel BertForMaskedLM BertForPreTraining BertForSequenceClassification "
                       "BertForTokenClassification "
                       "BertForQuestionAnswering",
                       kKeys};

}  // namespace quell
