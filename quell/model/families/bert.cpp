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

ModelSpec read_spec(const Settings& config) {
  ModelSpec s = bert_like_spec(config);
  set_encoder_head(s, config, "Bert", bert_pooler(),
                   bert_masked_lm(read_activation(config, "hidden_act", "gelu")));
  return s;
}

std::vector<TensorRule> tensors(const ModelSpec& s, const Settings& config) {
  const std::int64_t h = s.hidden_size;
  std::vector<TensorRule> rules = bert_like_tensors(s, config, "bert.");
  if (s.head == Head::kNone || s.head == Head::kSequenceClassification)
    rules.push_back({Slot::kPooler, false, "bert.pooler.dense", {h, h}, true, true});
  add_encoder_head(rules, s, config);
  if (s.head == Head::kMaskedLm) {
    const Slot tied =
        read_bool(config, "tie_word_embeddings", true) ? Slot::kWordEmbedding : Slot::kNone;
    const std::string p = "cls.predictions.";
    rules.push_back({Slot::kHeadDense, false, p + "transform.dense", {h, h}, true, true});
    rules.push_back({Slot::kHeadNorm, false, p + "transform.LayerNorm", {h}, true, true});
    rules.push_back(
        {Slot::kLmHead, false, p + "decoder", {s.vocab_size, h}, true, true, tied, p + "bias"});
  }
  return rules;
}

}  // namespace

extern const Family k_bert;
const Family k_bert = {"bert",
                       "bert.",
                       read_spec,
                       tensors,
                       "BERT, sentence-transformers, MiniLM",
                       "BertModel BertForMaskedLM BertForPreTraining BertForSequenceClassification "
                       "BertForTokenClassification "
                       "BertForQuestionAnswering",
                       kKeys};

}  // namespace quell
