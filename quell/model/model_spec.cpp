#include "quell/model/model_spec.h"

namespace quell {

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
                                           "head_norm",
                                           "q_norm",
                                           "k_norm",
                                           "post_attention_norm",
                                           "post_ffn_norm",
                                           "cross_norm",
                                           "cross_q_proj",
                                           "cross_k_proj",
                                           "cross_v_proj",
                                           "cross_out_proj",
                                           "relative_attention_bias",
                                           "relative_embeddings",
                                           "relative_norm",
                                           "patch_proj",
                                           "class_token"};
  return kNames[static_cast<int>(slot)];
}

std::string head_name(Head head) {
  switch (head) {
    case Head::kNone: return "none";
    case Head::kSequenceClassification: return "sequence classification";
    case Head::kTokenClassification: return "token classification";
    case Head::kQuestionAnswering: return "question answering";
    case Head::kMaskedLm: return "masked LM";
    case Head::kCausalLm: return "causal LM";
    case Head::kSeq2SeqLm: return "sequence-to-sequence LM";
    case Head::kImageClassification: return "image classification";
  }
  return "?";
}

std::string_view step_kind_name(StepKind kind) {
  static constexpr std::string_view kNames[kNumStepKinds] = {
      "embedding",  "table",         "norm",          "head_norm",    "linear",
      "activation", "multiply",      "add",           "scale",        "soft_cap",
      "mask_rows",  "attention",     "relative_bias", "select_first", "select_last",
      "select_eos", "select_column", "patches",       "prepend_token"};
  return kNames[static_cast<int>(kind)];
}

namespace {

std::string value_name(Value value) {
  static constexpr const char* kNames[] = {
      "none",     "hidden",         "normed",       "query",      "key",    "value",
      "context",  "branch",         "branch2",      "gate",       "up",     "embedded",
      "pooled",   "logits",         "start_logits", "end_logits", "memory", "position_bias",
      "relative", "relative_query", "relative_key"};
  return kNames[static_cast<int>(value)];
}

}  // namespace

std::string describe_step(const Step& step) {
  std::string text = value_name(step.out) + " = " + std::string(step_kind_name(step.kind));
  if (step.kind == StepKind::kActivation)
    text += " " + std::string(activation_name(step.activation));
  if (step.cross) text += " cross";
  if (step.slot != Slot::kNone) text += " " + slot_name(step.slot);
  std::string operands;
  for (const Value in : step.in)
    if (in != Value::kNone) operands += (operands.empty() ? "" : ", ") + value_name(in);
  return text + "(" + operands + ")";
}

Step embedding(Slot slot, Value out) {
  return {.kind = StepKind::kEmbedding, .slot = slot, .out = out};
}
Step norm(Slot slot, Value in, Value out) {
  return {.kind = StepKind::kNorm, .slot = slot, .in = {in}, .out = out};
}
Step linear(Slot slot, Value in, Value out) {
  return {.kind = StepKind::kLinear, .slot = slot, .in = {in}, .out = out};
}
Step activation(ActivationKind kind, Value in, Value out) {
  return {.kind = StepKind::kActivation, .in = {in}, .out = out, .activation = kind};
}
Step add_values(Value a, Value b, Value out) {
  return {.kind = StepKind::kAdd, .in = {a, b}, .out = out};
}
Step scaled(float factor, Value in, Value out) {
  return simple_step(StepKind::kScale, in, out, factor);
}
Step simple_step(StepKind kind, Value in, Value out, float number) {
  return {.kind = kind, .in = {in}, .out = out, .number = number};
}

void append(std::vector<Step>& to, const std::vector<Step>& steps) {
  to.insert(to.end(), steps.begin(), steps.end());
}

std::vector<Step> attention_steps(Value in) {
  return {linear(Slot::kQProj, in, Value::kQuery),
          linear(Slot::kKProj, in, Value::kKey),
          linear(Slot::kVProj, in, Value::kValue),
          {.kind = StepKind::kAttention,
           .in = {Value::kQuery, Value::kKey, Value::kValue},
           .out = Value::kContext},
          linear(Slot::kOutProj, Value::kContext, Value::kBranch)};
}

std::vector<Step> cross_attention_steps(Value in) {
  return {linear(Slot::kCrossQProj, in, Value::kQuery),
          linear(Slot::kCrossKProj, Value::kMemory, Value::kKey),
          linear(Slot::kCrossVProj, Value::kMemory, Value::kValue),
          {.kind = StepKind::kAttention,
           .in = {Value::kQuery, Value::kKey, Value::kValue},
           .out = Value::kContext,
           .cross = true},
          linear(Slot::kCrossOutProj, Value::kContext, Value::kBranch)};
}

std::vector<Step> mlp_steps(ActivationKind kind, Value in, Value out) {
  return {linear(Slot::kFc1, in, Value::kUp), activation(kind, Value::kUp, Value::kUp),
          linear(Slot::kFc2, Value::kUp, out)};
}

std::vector<Step> gated_mlp_steps(ActivationKind kind, Value in) {
  return {linear(Slot::kGateProj, in, Value::kGate),
          linear(Slot::kUpProj, in, Value::kUp),
          activation(kind, Value::kGate, Value::kGate),
          {.kind = StepKind::kMultiply, .in = {Value::kGate, Value::kUp}, .out = Value::kUp},
          linear(Slot::kDownProj, Value::kUp, Value::kBranch)};
}

std::vector<Step> pre_norm_branch(Slot slot, const std::vector<Step>& branch) {
  std::vector<Step> steps = {norm(slot, Value::kHidden, Value::kNormed)};
  append(steps, branch);
  steps.push_back(add_values(Value::kHidden, Value::kBranch, Value::kHidden));
  return steps;
}

std::vector<Step> post_norm_branch(Slot slot, const std::vector<Step>& branch) {
  std::vector<Step> steps = branch;
  append(steps, {add_values(Value::kHidden, Value::kBranch, Value::kHidden),
                 norm(slot, Value::kHidden, Value::kHidden)});
  return steps;
}

std::vector<Step> pre_norm_block(const std::vector<Step>& mlp, const std::vector<Step>& attention) {
  std::vector<Step> block = pre_norm_branch(Slot::kAttentionNorm, attention);
  append(block, pre_norm_branch(Slot::kFfnNorm, mlp));
  return block;
}

std::vector<Step> post_norm_block(const std::vector<Step>& mlp,
                                  const std::vector<Step>& attention) {
  std::vector<Step> block = post_norm_branch(Slot::kAttentionNorm, attention);
  append(block, post_norm_branch(Slot::kFfnNorm, mlp));
  return block;
}

}  // namespace quell
