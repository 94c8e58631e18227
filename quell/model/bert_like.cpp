#include "quell/model/bert_like.h"

#include "quell/base/error.h"

namespace quell {

ModelSpec bert_like_spec(const Settings& config, const EncoderDefaults& defaults) {
  ModelSpec s;
  s.vocab_size = read_int(config, "vocab_size", 1, kMaxDim, defaults.vocab_size);
  s.hidden_size = read_int(config, "hidden_size", 1, kMaxDim, defaults.hidden_size);
  s.intermediate_size =
      read_int(config, "intermediate_size", 1, kMaxDim, defaults.intermediate_size);
  s.max_position_embeddings =
      read_int(config, "max_position_embeddings", 1, kMaxDim, defaults.max_position_embeddings);
  s.norm_eps = defaults.norm_eps;
  if (defaults.norm_eps_key != nullptr)
    s.norm_eps = read_number(config, defaults.norm_eps_key, defaults.norm_eps);
  read_special_ids(config, s, defaults.pad_token_id, defaults.eos_token_id);

  Stack stack;
  stack.prologue = {embedding(Slot::kWordEmbedding, Value::kHidden),
                    embedding(Slot::kTokenTypeEmbedding, Value::kEmbedded),
                    add_values(Value::kHidden, Value::kEmbedded, Value::kHidden),
                    embedding(Slot::kPositionEmbedding, Value::kEmbedded),
                    add_values(Value::kHidden, Value::kEmbedded, Value::kHidden),
                    norm(Slot::kEmbeddingNorm, Value::kHidden, Value::kHidden)};
  stack.block = post_norm_block(
      mlp_steps(read_activation(config, "hidden_act", defaults.activation), Value::kHidden));
  stack.layers =
      plain_layers(read_int(config, "num_hidden_layers", 1, kMaxLayers, defaults.num_hidden_layers),
                   read_attention(config, s.hidden_size, defaults.num_attention_heads));
  s.stacks.push_back(std::move(stack));
  return s;
}

std::vector<TensorRule> bert_like_tensors(const ModelSpec& s, const Settings& config,
                                          const std::string& prefix,
                                          const EncoderDefaults& defaults) {
  const std::int64_t h = s.hidden_size, f = s.intermediate_size;
  const std::string e = prefix + "embeddings.", l = prefix + "encoder.layer.{}.";
  const std::int64_t positions =
      read_int(config, "max_position_embeddings", 1, kMaxDim, defaults.max_position_embeddings);
  const std::int64_t types =
      read_int(config, "type_vocab_size", 0, kMaxDim, defaults.type_vocab_size);
  return {{Slot::kWordEmbedding, false, e + "word_embeddings", {s.vocab_size, h}},
          {Slot::kPositionEmbedding, false, e + "position_embeddings", {positions, h}},
          {Slot::kTokenTypeEmbedding, false, e + "token_type_embeddings", {types, h}},
          {Slot::kEmbeddingNorm, false, e + "LayerNorm", {h}, true, true},
          {Slot::kQProj, true, l + "attention.self.query", {h, h}, true, true},
          {Slot::kKProj, true, l + "attention.self.key", {h, h}, true, true},
          {Slot::kVProj, true, l + "attention.self.value", {h, h}, true, true},
          {Slot::kOutProj, true, l + "attention.output.dense", {h, h}, true, true},
          {Slot::kAttentionNorm, true, l + "attention.output.LayerNorm", {h}, true, true},
          {Slot::kFc1, true, l + "intermediate.dense", {f, h}, true, true},
          {Slot::kFc2, true, l + "output.dense", {h, f}, true, true},
          {Slot::kFfnNorm, true, l + "output.LayerNorm", {h}, true, true}};
}

std::vector<Step> bert_pooler() {
  return {simple_step(StepKind::kSelectFirst, Value::kHidden, Value::kPooled),
          linear(Slot::kPooler, Value::kPooled, Value::kPooled),
          activation(ActivationKind::kTanh, Value::kPooled, Value::kPooled)};
}

std::vector<Step> bert_masked_lm(ActivationKind act) {
  return {linear(Slot::kHeadDense, Value::kHidden, Value::kBranch),
          activation(act, Value::kBranch, Value::kBranch),
          norm(Slot::kHeadNorm, Value::kBranch, Value::kBranch),
          linear(Slot::kLmHead, Value::kBranch, Value::kLogits)};
}

ModelSpec roberta_spec(const Settings& config, const std::string& name,
                       std::int64_t default_vocab_size) {
  ModelSpec s = bert_like_spec(
      config, {.vocab_size = default_vocab_size, .pad_token_id = 1, .eos_token_id = 2});
  require(s.has_pad_token, ErrorCode::kInvalidInput,
          "key \"pad_token_id\": positions of this family need a padding token");
  // Positions start behind the padding token's row.
  s.position_rule = PositionRule::kNonPadCount;
  s.position_offset = s.pad_token_id + 1;
  s.max_position_embeddings -= s.position_offset;
  require(s.max_position_embeddings > 0, ErrorCode::kInvalidInput,
          "key \"max_position_embeddings\": too small for pad_token_id");
  set_encoder_head(s, config, name, bert_pooler(), bert_masked_lm(ActivationKind::kGelu));
  return s;
}

std::vector<TensorRule> roberta_tensors(const ModelSpec& s, const Settings& config) {
  const std::int64_t h = s.hidden_size;
  std::vector<TensorRule> rules = bert_like_tensors(s, config, "roberta.");
  if (s.head == Head::kNone)
    rules.push_back({Slot::kPooler, false, "roberta.pooler.dense", {h, h}, true, true});
  if (s.head == Head::kSequenceClassification)
    rules.push_back({Slot::kPooler, false, "classifier.dense", {h, h}, true, true});
  add_encoder_head(rules, s, config,
                   s.head == Head::kSequenceClassification ? "classifier.out_proj" : "classifier");
  if (s.head == Head::kMaskedLm) {
    const Slot tied =
        read_bool(config, "tie_word_embeddings", true) ? Slot::kWordEmbedding : Slot::kNone;
    rules.push_back({Slot::kHeadDense, false, "lm_head.dense", {h, h}, true, true});
    rules.push_back({Slot::kHeadNorm, false, "lm_head.layer_norm", {h}, true, true});
    rules.push_back({Slot::kLmHead,
                     false,
                     "lm_head.decoder",
                     {s.vocab_size, h},
                     true,
                     true,
                     tied,
                     "lm_head.bias"});
  }
  return rules;
}

}  // namespace quell
