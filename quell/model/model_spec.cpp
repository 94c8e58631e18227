#include "quell/model/model_spec.h"

namespace quell {
namespace {

void append(std::vector<Step>& to, const std::vector<Step>& steps) { to.insert(to.end(), steps.begin(), steps.end()); }

}  // namespace

std::string slot_name(Slot slot) {
  static constexpr const char* kNames[] = {"none",
                                           "word_embeddings",
                                           "position_embeddings",
                                           "token_type_embeddings",
                                           "embedding_norm",
                                           "project_in",
                                           "attention_norm",
                                           "q_proj",
                                           "k_proj",
                                           "v_proj",
                                           "out_proj",
                                           "ffn_norm",
                                           "fc1",
                                           "fc2",
                                           "gate_proj",
                                           "up_proj",
                                           "down_proj",
                                           "final_norm",
                                           "project_out",
                                           "lm_head",
                                           "pooler",
                                           "classifier",
                                           "head_dense",
                                           "head_norm"};
  return kNames[static_cast<int>(slot)];
}

std::string head_name(Head head) {
  switch (head) {
    case Head::kNone: return "none";
    case Head::kSequenceClassification: return "sequence classification";
    case Head::kMaskedLm: return "masked LM";
    case Head::kCausalLm: return "causal LM";
  }
  return "?";
}

Step embedding(Slot slot, Value out) { return {StepKind::kEmbedding, slot, {}, out, {}}; }
Step norm(Slot slot, Value in, Value out) { return {StepKind::kNorm, slot, {in}, out, {}}; }
Step linear(Slot slot, Value in, Value out) { return {StepKind::kLinear, slot, {in}, out, {}}; }
Step activation(ActivationKind kind, Value in, Value out) { return {StepKind::kActivation, Slot::kNone, {in}, out, kind}; }
Step add_values(Value a, Value b, Value out) { return {StepKind::kAdd, Slot::kNone, {a, b}, out, {}}; }

std::vector<Step> attention_steps(Value in) {
  return {linear(Slot::kQProj, in, Value::kQuery),
          linear(Slot::kKProj, in, Value::kKey),
          linear(Slot::kVProj, in, Value::kValue),
          {StepKind::kAttention, Slot::kNone, {Value::kQuery, Value::kKey, Value::kValue}, Value::kContext, {}},
          linear(Slot::kOutProj, Value::kContext, Value::kBranch)};
}

std::vector<Step> mlp_steps(ActivationKind kind, Value in) {
  return {linear(Slot::kFc1, in, Value::kUp), activation(kind, Value::kUp, Value::kUp),
          linear(Slot::kFc2, Value::kUp, Value::kBranch)};
}

std::vector<Step> gated_mlp_steps(ActivationKind kind, Value in) {
  return {linear(Slot::kGateProj, in, Value::kGate),
          linear(Slot::kUpProj, in, Value::kUp),
          activation(kind, Value::kGate, Value::kGate),
          {StepKind::kMultiply, Slot::kNone, {Value::kGate, Value::kUp}, Value::kUp, {}},
          linear(Slot::kDownProj, Value::kUp, Value::kBranch)};
}

std::vector<Step> pre_norm_block(const std::vector<Step>& mlp) {
  std::vector<Step> block = {norm(Slot::kAttentionNorm, Value::kHidden, Value::kNormed)};
  append(block, attention_steps(Value::kNormed));
  append(block, {add_values(Value::kHidden, Value::kBranch, Value::kHidden), norm(Slot::kFfnNorm, Value::kHidden, Value::kNormed)});
  append(block, mlp);
  append(block, {add_values(Value::kHidden, Value::kBranch, Value::kHidden)});
  return block;
}

std::vector<Step> post_norm_block(const std::vector<Step>& mlp) {
  std::vector<Step> block = attention_steps(Value::kHidden);
  append(block,
         {add_values(Value::kHidden, Value::kBranch, Value::kHidden), norm(Slot::kAttentionNorm, Value::kHidden, Value::kHidden)});
  append(block, mlp);
  append(block, {add_values(Value::kHidden, Value::kBranch, Value::kHidden), norm(Slot::kFfnNorm, Value::kHidden, Value::kHidden)});
  return block;
}

}  // namespace quell
