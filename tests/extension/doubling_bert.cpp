// A family as somebody outside the project would add it: BERT whose embeddings are doubled.
#include "tests/extension/doubling_bert.h"

#include "quell/model/bert_like.h"
#include "tests/extension/doubling_op.h"

namespace quell::testing {
namespace {

void build(ModelBuilder& g, const Config& c) {
  const EncoderSizes sizes = read_encoder(g, c);
  ValueId h = kNoValue;
  {
    const auto scope = g.scope("bert.embeddings");
    h = bert_embeddings(g, c, sizes, {}, g.spec.max_position_embeddings, g.spec.hidden_size);
  }
  const int times = static_cast<int>(read_int(c, "doublings", 0, 8, 1));
  h = g.node(op_doubling, {h}, Attributes::of(DoublingAttributes{times}));
  g.hidden_state(h);
  for (std::int64_t l = 0; l < sizes.num_layers; ++l) {
    const auto layer = g.layer("bert.encoder.layer", l);
    h = post_norm_layer(g, sizes, h);
    g.hidden_state(h);
  }

  EncoderHead head;
  head.pooler = [&](ValueId x) { return first_token_pooler(g, x, "bert.pooler.dense"); };
  build_encoder_head(g, c, "Bert", h, head);
}

constexpr KeyRule kKeys[] = {
    {"directionality"}, {"pooler_fc_size"}, {"pooler_num_*"}, {"pooler_type"}};

}  // namespace

const Family doubling_bert = {"bert",
                              "bert.",
                              build,
                              "BERT with doubled embeddings",
                              "BertModel BertForSequenceClassification",
                              kKeys};

}  // namespace quell::testing
