// BERT (Devlin et al. 2019): post-norm encoder; heads: none (embeddings), sequence classification, masked LM.
#include "quell/base/error.h"
#include "quell/model/family.h"

namespace quell {
namespace {

Head read_head(const Json& config) {
  const std::string name = architecture_of(config);
  if (name.empty() || name == "BertModel") return Head::kNone;
  if (name == "BertForSequenceClassification") return Head::kSequenceClassification;
  if (name == "BertForMaskedLM" || name == "BertForPreTraining") return Head::kMaskedLm;
  throw Error(ErrorCode::kUnsupported, "architecture \"" + name + "\" is not supported for bert");
}

ModelSpec read_spec(const Json& config) {
  ModelSpec s;
  s.vocab_size = json_int(config, "vocab_size", 1, kMaxDim);
  s.hidden_size = json_int(config, "hidden_size", 1, kMaxDim);
  s.intermediate_size = json_int(config, "intermediate_size", 1, kMaxDim);
  s.max_position_embeddings = json_int(config, "max_position_embeddings", 1, kMaxDim, 512);
  s.pad_token_id = static_cast<std::int32_t>(json_int(config, "pad_token_id", 0, kMaxDim, 0));
  s.norm_eps = json_number(config, "layer_norm_eps", 1e-12);
  const std::string positions = json_string(config, "position_embedding_type", "absolute");
  require(positions == "absolute", ErrorCode::kUnsupported, "key \"position_embedding_type\": \"", positions,
          "\" is not supported");
  require(!json_bool(config, "is_decoder", false), ErrorCode::kUnsupported,
          "key \"is_decoder\": BERT as a decoder is not supported");

  const AttentionSpec attention = read_attention(config, s.hidden_size);
  const ActivationKind act = read_activation(config, "hidden_act", "gelu");
  Stack stack;
  stack.prologue = {embedding(Slot::kWordEmbedding, Value::kHidden),
                    embedding(Slot::kTokenTypeEmbedding, Value::kEmbedded),
                    add_values(Value::kHidden, Value::kEmbedded, Value::kHidden),
                    embedding(Slot::kPositionEmbedding, Value::kEmbedded),
                    add_values(Value::kHidden, Value::kEmbedded, Value::kHidden),
                    norm(Slot::kEmbeddingNorm, Value::kHidden, Value::kHidden)};
  stack.block = post_norm_block(mlp_steps(act, Value::kHidden));
  stack.layers = plain_layers(json_int(config, "num_hidden_layers", 1, kMaxLayers), attention);
  s.stacks.push_back(std::move(stack));

  s.head = read_head(config);
  const std::vector<Step> pooler = {{StepKind::kSelectFirst, Slot::kNone, {Value::kHidden}, Value::kPooled, {}},
                                    linear(Slot::kPooler, Value::kPooled, Value::kPooled),
                                    activation(ActivationKind::kTanh, Value::kPooled, Value::kPooled)};
  s.outputs = {{"last_hidden_state", Value::kHidden}};
  if (s.head != Head::kMaskedLm) {
    s.head_steps = pooler;
    s.outputs.emplace_back("pooler_output", Value::kPooled);
  }
  if (s.head == Head::kSequenceClassification) {
    s.head_steps.push_back(linear(Slot::kClassifier, Value::kPooled, Value::kLogits));
    s.outputs.emplace_back("logits", Value::kLogits);
  } else if (s.head == Head::kMaskedLm) {
    s.head_steps = {linear(Slot::kHeadDense, Value::kHidden, Value::kBranch), activation(act, Value::kBranch, Value::kBranch),
                    norm(Slot::kHeadNorm, Value::kBranch, Value::kBranch), linear(Slot::kLmHead, Value::kBranch, Value::kLogits)};
    s.outputs.emplace_back("logits", Value::kLogits);
  }
  return s;
}

std::vector<TensorRule> tensors(const ModelSpec& s, const Json& config) {
  const std::int64_t h = s.hidden_size, f = s.intermediate_size;
  const std::string e = "bert.embeddings.", l = "bert.encoder.layer.{}.";
  std::vector<TensorRule> rules = {
      {Slot::kWordEmbedding, false, e + "word_embeddings", {s.vocab_size, h}},
      {Slot::kPositionEmbedding, false, e + "position_embeddings", {s.max_position_embeddings, h}},
      {Slot::kTokenTypeEmbedding, false, e + "token_type_embeddings", {json_int(config, "type_vocab_size", 1, kMaxDim, 2), h}},
      {Slot::kEmbeddingNorm, false, e + "LayerNorm", {h}, true, true},
      {Slot::kQProj, true, l + "attention.self.query", {h, h}, true, true},
      {Slot::kKProj, true, l + "attention.self.key", {h, h}, true, true},
      {Slot::kVProj, true, l + "attention.self.value", {h, h}, true, true},
      {Slot::kOutProj, true, l + "attention.output.dense", {h, h}, true, true},
      {Slot::kAttentionNorm, true, l + "attention.output.LayerNorm", {h}, true, true},
      {Slot::kFc1, true, l + "intermediate.dense", {f, h}, true, true},
      {Slot::kFc2, true, l + "output.dense", {h, f}, true, true},
      {Slot::kFfnNorm, true, l + "output.LayerNorm", {h}, true, true}};
  if (s.head != Head::kMaskedLm) rules.push_back({Slot::kPooler, false, "bert.pooler.dense", {h, h}, true, true});
  if (s.head == Head::kSequenceClassification) {
    const auto labels = config.find("id2label");
    const std::int64_t count = labels != config.end() && labels->is_object() ? static_cast<std::int64_t>(labels->size()) : 2;
    rules.push_back({Slot::kClassifier, false, "classifier", {json_int(config, "num_labels", 1, kMaxDim, count), h}, true, true});
  }
  if (s.head == Head::kMaskedLm) {
    const Slot tied = json_bool(config, "tie_word_embeddings", true) ? Slot::kWordEmbedding : Slot::kNone;
    const std::string p = "cls.predictions.";
    rules.push_back({Slot::kHeadDense, false, p + "transform.dense", {h, h}, true, true});
    rules.push_back({Slot::kHeadNorm, false, p + "transform.LayerNorm", {h}, true, true});
    rules.push_back({Slot::kLmHead, false, p + "decoder", {s.vocab_size, h}, true, true, tied, p + "bias"});
  }
  return rules;
}

}  // namespace

extern const Family k_bert;
const Family k_bert = {"bert", "bert.", read_spec, tensors};

}  // namespace quell
