// DistilBERT (Sanh et al. 2019): BERT with half the layers, without token types and pooler.
#include "quell/model/bert_like.h"

namespace quell {
namespace {

// Sinusoids are how a model starts, its file holds what became of them.
constexpr KeyRule kKeys[] = {{"sinusoidal_pos_embds"}, {"tie_weights_"}};

ModelSpec read_spec(const Settings& config) {
  const Settings usual = config.with_aliases({{"hidden_size", "dim"},
                                              {"intermediate_size", "hidden_dim"},
                                              {"num_attention_heads", "n_heads"},
                                              {"num_hidden_layers", "n_layers"},
                                              {"hidden_act", "activation"}});
  ModelSpec s = bert_like_spec(usual, {.num_hidden_layers = 6, .norm_eps_key = nullptr});
  s.stacks[0].prologue = {embedding(Slot::kWordEmbedding, Value::kHidden),
                          embedding(Slot::kPositionEmbedding, Value::kEmbedded),
                          add_values(Value::kHidden, Value::kEmbedded, Value::kHidden),
                          norm(Slot::kEmbeddingNorm, Value::kHidden, Value::kHidden)};
  const bool classifier = architecture_of(config) == "DistilBertForSequenceClassification";
  std::vector<Step> pooler;
  if (classifier)
    pooler = {simple_step(StepKind::kSelectFirst, Value::kHidden, Value::kPooled),
              linear(Slot::kPooler, Value::kPooled, Value::kPooled),
              activation(ActivationKind::kRelu, Value::kPooled, Value::kPooled)};
  set_encoder_head(s, config, "DistilBert", pooler,
                   bert_masked_lm(read_activation(usual, "hidden_act", "gelu")));
  return s;
}

std::vector<TensorRule> tensors(const ModelSpec& s, const Settings& config) {
  const std::int64_t h = s.hidden_size, f = s.intermediate_size;
  const std::string e = "distilbert.embeddings.", l = "distilbert.transformer.layer.{}.";
  std::vector<TensorRule> rules = {
      {Slot::kWordEmbedding, false, e + "word_embeddings", {s.vocab_size, h}},
      {Slot::kPositionEmbedding, false, e + "position_embeddings", {s.max_position_embeddings, h}},
      {Slot::kEmbeddingNorm, false, e + "LayerNorm", {h}, true, true},
      {Slot::kQProj, true, l + "attention.q_lin", {h, h}, true, true},
      {Slot::kKProj, true, l + "attention.k_lin", {h, h}, true, true},
      {Slot::kVProj, true, l + "attention.v_lin", {h, h}, true, true},
      {Slot::kOutProj, true, l + "attention.out_lin", {h, h}, true, true},
      {Slot::kAttentionNorm, true, l + "sa_layer_norm", {h}, true, true},
      {Slot::kFc1, true, l + "ffn.lin1", {f, h}, true, true},
      {Slot::kFc2, true, l + "ffn.lin2", {h, f}, true, true},
      {Slot::kFfnNorm, true, l + "output_layer_norm", {h}, true, true}};
  if (s.head == Head::kSequenceClassification)
    rules.push_back({Slot::kPooler, false, "pre_classifier", {h, h}, true, true});
  add_encoder_head(rules, s, config);
  if (s.head == Head::kMaskedLm) {
    const Slot tied =
        read_bool(config, "tie_word_embeddings", true) ? Slot::kWordEmbedding : Slot::kNone;
    rules.push_back({Slot::kHeadDense, false, "vocab_transform", {h, h}, true, true});
    rules.push_back({Slot::kHeadNorm, false, "vocab_layer_norm", {h}, true, true});
    rules.push_back({Slot::kLmHead, false, "vocab_projector", {s.vocab_size, h}, true, true, tied});
  }
  return rules;
}

}  // namespace

extern const Family k_distilbert;
const Family k_distilbert = {
    "distilbert",
    "distilbert.",
    read_spec,
    tensors,
    "DistilBERT",
    "DistilBertModel DistilBertForMaskedLM DistilBertForSequenceClassification "
    "DistilBertForTokenClassification DistilBertForQuestionAnswering",
    kKeys};

}  // namespace quell
