// T5 (Raffel et al. 2020): pre-norm encoder and decoder with RMSNorm, no scale of the scores, and a
// bias by distance that the first layer of each side holds for all. v1.0 with ReLU, v1.1 with a
// gated MLP and an untied head.
#include <cmath>

#include "quell/base/error.h"
#include "quell/model/family.h"

namespace quell {
namespace {

constexpr KeyRule kKeys[] = {
    {"is_encoder_decoder", KeyRule::Effect::kChangesResults, "[null, true]",
     "one half of the model alone"},
    {"n_positions"},  // relative positions know no limit
};

struct FeedForward {
  bool gated = false;
  ActivationKind activation = ActivationKind::kRelu;
};
FeedForward read_feed_forward(const Settings& config) {
  std::string name = read_string(config, "feed_forward_proj", "relu");
  FeedForward f;
  f.gated = name.starts_with("gated-");
  if (f.gated) name = name.substr(6);
  if (f.gated && name == "gelu") name = "gelu_new";  // as transformers reads it

  // Where the file holds what follows from it, that counts.
  f.gated = read_bool(config, "is_gated_act", f.gated);
  f.activation = read_activation(config, "dense_act_fn", name);
  return f;
}

Stack make_stack(const Settings& config, const ModelSpec& s, bool decoder, int first_weights) {
  Stack stack;
  stack.decoder = decoder;
  stack.relative_bias = {read_int(config, "relative_attention_num_buckets", 2, kMaxDim, 32),
                         read_int(config, "relative_attention_max_distance", 2, kMaxDim, 128),
                         !decoder};
  stack.prologue = {
      embedding(Slot::kWordEmbedding, Value::kHidden),
      {.kind = StepKind::kRelativeBias, .slot = Slot::kRelativeBias, .out = Value::kPositionBias}};
  std::vector<Step> attention = attention_steps(Value::kNormed);
  for (Step& step : attention)
    if (step.kind == StepKind::kAttention) step.in[3] = Value::kPositionBias;
  const FeedForward f = read_feed_forward(config);
  stack.block = pre_norm_branch(Slot::kAttentionNorm, attention);
  if (decoder)
    append(stack.block, pre_norm_branch(Slot::kCrossNorm, cross_attention_steps(Value::kNormed)));
  append(stack.block,
         pre_norm_branch(Slot::kFfnNorm, f.gated ? gated_mlp_steps(f.activation, Value::kNormed)
                                                 : mlp_steps(f.activation, Value::kNormed)));
  stack.epilogue = {norm(Slot::kFinalNorm, Value::kHidden, Value::kHidden)};
  AttentionSpec attention_spec = read_attention_with_head_dim(config, s.hidden_size, 8, 64);
  attention_spec.scale = 1.0F;
  attention_spec.causal = decoder;
  std::int64_t layers = read_int(config, "num_hidden_layers", 1, kMaxLayers, 6);
  if (decoder)
    layers = read_optional_int(config, "num_decoder_layers", 1, kMaxLayers).value_or(layers);
  stack.layers = plain_layers(layers, attention_spec, first_weights);
  if (!decoder) stack.result = Value::kMemory;
  return stack;
}

ModelSpec read_spec(const Settings& file) {
  const Settings config = file.with_aliases({{"hidden_size", "d_model"},
                                             {"num_attention_heads", "num_heads"},
                                             {"num_hidden_layers", "num_layers"},
                                             {"head_dim", "d_kv"}});
  const std::string name = architecture_of(config);
  require(name.empty() || name == "T5ForConditionalGeneration" || name == "T5Model",
          ErrorCode::kUnsupported, "architecture \"", name, "\" is not supported for t5");
  ModelSpec s;
  s.vocab_size = read_int(config, "vocab_size", 1, kMaxDim, 32128);
  s.hidden_size = read_int(config, "hidden_size", 1, kMaxDim, 512);
  s.intermediate_size = read_int(config, "d_ff", 1, kMaxDim, 2048);
  s.max_position_embeddings = std::int64_t{1} << 31;  // buckets know no limit
  s.norm_kind = NormKind::kRmsNorm;
  s.norm_eps = read_number(config, "layer_norm_epsilon", 1e-6);
  read_special_ids(config, s, 0, 1);
  s.decoder_start_token_id = static_cast<std::int32_t>(
      read_optional_int(config, "decoder_start_token_id", 0, kMaxDim, s.pad_token_id)
          .value_or(s.pad_token_id));
  s.stacks.push_back(make_stack(config, s, false, 0));
  s.stacks.push_back(make_stack(config, s, true, static_cast<int>(s.stacks[0].layers.size())));
  s.head = Head::kSeq2SeqLm;
  // The key says whether the decoder's output is scaled; the tables are tied wherever the file does
  // not hold two.
  const bool scaled_by_default = read_bool(config, "tie_word_embeddings", true);
  if (read_bool(config, "scale_decoder_outputs", scaled_by_default))
    s.head_steps.push_back(
        scaled(std::pow(static_cast<float>(s.hidden_size), -0.5F), Value::kHidden, Value::kBranch));
  s.head_steps.push_back(linear(
      Slot::kLmHead, s.head_steps.empty() ? Value::kHidden : Value::kBranch, Value::kLogits));
  s.outputs = {{"last_hidden_state", Value::kHidden}, {"logits", Value::kLogits}};
  return s;
}

std::vector<TensorRule> tensors(const ModelSpec& s, const Settings& config) {
  const AttentionSpec& a = s.stacks[0].layers[0].attention;
  const std::int64_t h = s.hidden_size, f = s.intermediate_size, q = a.num_heads * a.head_dim;
  const bool gated = read_feed_forward(config).gated;
  std::vector<TensorRule> rules = {{Slot::kWordEmbedding, false, "shared", {s.vocab_size, h}}};
  for (int stack = 0; stack < 2; ++stack) {
    const std::string first =
        std::to_string(s.stacks[static_cast<std::size_t>(stack)].layers[0].weights);
    const std::string side = stack == 0 ? "encoder." : "decoder.",
                      block = side + "block.{-" + first + "}.layer.";
    const std::string attention = block + "0.", cross = block + "1.",
                      mlp = block + (stack == 0 ? "1." : "2.");
    const auto add = [&](Slot slot, bool per_layer, const std::string& module, const Shape& shape) {
      rules.push_back(TensorRule{slot, per_layer, module, shape}.in_stack(stack));
    };
    add(Slot::kRelativeBias, false, side + "block.0.layer.0.SelfAttention.relative_attention_bias",
        {s.stacks[0].relative_bias.buckets, a.num_heads});
    add(Slot::kAttentionNorm, true, attention + "layer_norm", {h});
    add(Slot::kQProj, true, attention + "SelfAttention.q", {q, h});
    add(Slot::kKProj, true, attention + "SelfAttention.k", {q, h});
    add(Slot::kVProj, true, attention + "SelfAttention.v", {q, h});
    add(Slot::kOutProj, true, attention + "SelfAttention.o", {h, q});
    if (stack == 1) {
      add(Slot::kCrossNorm, true, cross + "layer_norm", {h});
      add(Slot::kCrossQProj, true, cross + "EncDecAttention.q", {q, h});
      add(Slot::kCrossKProj, true, cross + "EncDecAttention.k", {q, h});
      add(Slot::kCrossVProj, true, cross + "EncDecAttention.v", {q, h});
      add(Slot::kCrossOutProj, true, cross + "EncDecAttention.o", {h, q});
    }
    add(Slot::kFfnNorm, true, mlp + "layer_norm", {h});
    if (gated) add(Slot::kGateProj, true, mlp + "DenseReluDense.wi_0", {f, h});
    add(gated ? Slot::kUpProj : Slot::kFc1, true,
        mlp + (gated ? "DenseReluDense.wi_1" : "DenseReluDense.wi"), {f, h});
    add(gated ? Slot::kDownProj : Slot::kFc2, true, mlp + "DenseReluDense.wo", {h, f});
    add(Slot::kFinalNorm, false, side + "final_layer_norm", {h});
  }
  for (int stack = 0; stack < 2; ++stack) {
    const char* name = stack == 0 ? "encoder.embed_tokens" : "decoder.embed_tokens";
    TensorRule rule = {Slot::kWordEmbedding, false, name, {s.vocab_size, h}};
    rules.push_back(std::move(rule).in_stack(stack).another_name_of(Slot::kWordEmbedding));
  }
  rules.push_back(
      {Slot::kLmHead, false, "lm_head", {s.vocab_size, h}, true, false, Slot::kWordEmbedding});
  return rules;
}

}  // namespace

extern const Family k_t5;
const Family k_t5 = {"t5",
                     "",
                     read_spec,
                     tensors,
                     "T5 v1.0 and v1.1: encoder-decoder, relative bias",
                     "T5Model T5ForConditionalGeneration",
                     kKeys};

}  // namespace quell
