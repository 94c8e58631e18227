// BART (Lewis et al. 2020): post-norm encoder and decoder with learned positions and a shared
// embedding.
#include <cmath>

#include "quell/base/error.h"
#include "quell/model/family.h"

namespace quell {
namespace {

constexpr std::int32_t kPositionOffset = 2;  // rows 0 and 1 of the position tables are not used

constexpr KeyRule::Effect kChanges = KeyRule::Effect::kChangesResults;
constexpr KeyRule kKeys[] = {
    {"is_encoder_decoder", kChanges, "[null, true]", "one half of the model alone"},
    // Of the first implementation, which had other models of the family in one class.
    {"normalize_before", kChanges, "[null, false]", "norms in front of the branches"},
    {"add_final_layer_norm", kChanges, "[null, false]", "a norm behind the last layer"},
    {"normalize_embedding", kChanges, "[null, true]", "embeddings without a norm"},
    {"add_bias_logits", kChanges, "[null, false]", "a bias of the logits"},
    {"static_position_embeddings", kChanges, "[null, false]", "sinusoidal positions"},
    {"extra_pos_embeddings", kChanges, "[null, 2]", "another number of unused positions"},
    {"classif_dropout"},
};

Stack make_stack(const Settings& config, const ModelSpec& s, bool decoder, int first_weights) {
  Stack stack;
  stack.decoder = decoder;
  stack.prologue = {embedding(Slot::kWordEmbedding, Value::kHidden)};
  if (read_bool(config, "scale_embedding", false))
    stack.prologue.push_back(
        scaled(std::sqrt(static_cast<float>(s.hidden_size)), Value::kHidden, Value::kHidden));
  append(stack.prologue, {embedding(Slot::kPositionEmbedding, Value::kEmbedded),
                          add_values(Value::kHidden, Value::kEmbedded, Value::kHidden),
                          norm(Slot::kEmbeddingNorm, Value::kHidden, Value::kHidden)});
  stack.block = post_norm_branch(Slot::kAttentionNorm, attention_steps(Value::kHidden));
  if (decoder)
    append(stack.block, post_norm_branch(Slot::kCrossNorm, cross_attention_steps(Value::kHidden)));
  append(stack.block,
         post_norm_branch(
             Slot::kFfnNorm,
             mlp_steps(read_activation(config, "activation_function", "gelu"), Value::kHidden)));
  AttentionSpec attention = read_attention(
      config, s.hidden_size, 16, decoder ? "decoder_attention_heads" : "num_attention_heads");
  attention.causal = decoder;
  const std::string layers_key = decoder ? "decoder_layers" : "num_hidden_layers";
  stack.layers =
      plain_layers(read_int(config, layers_key, 1, kMaxLayers, 12), attention, first_weights);
  if (!decoder) stack.result = Value::kMemory;
  return stack;
}

std::int64_t ffn_size(const Settings& config, bool decoder) {
  return read_int(config, decoder ? "decoder_ffn_dim" : "encoder_ffn_dim", 1, kMaxDim, 4096);
}

ModelSpec read_spec(const Settings& file) {
  // The general names are those of the encoder's keys.
  const Settings config = file.with_aliases({{"hidden_size", "d_model"},
                                             {"num_attention_heads", "encoder_attention_heads"},
                                             {"num_hidden_layers", "encoder_layers"}});
  ModelSpec s;
  s.vocab_size = read_int(config, "vocab_size", 1, kMaxDim, 50265);
  s.hidden_size = read_int(config, "hidden_size", 1, kMaxDim, 1024);
  s.intermediate_size = ffn_size(config, false);
  s.max_position_embeddings = read_int(config, "max_position_embeddings", 1, kMaxDim, 1024);
  s.position_offset = kPositionOffset;
  read_special_ids(config, s, 1, 2);
  s.decoder_start_token_id =
      static_cast<std::int32_t>(read_int(config, "decoder_start_token_id", 0, kMaxDim, 2));
  s.stacks.push_back(make_stack(config, s, false, 0));
  s.stacks.push_back(make_stack(config, s, true, static_cast<int>(s.stacks[0].layers.size())));

  const std::string name = architecture_of(config);
  s.outputs = {{"last_hidden_state", Value::kHidden}};
  if (name == "BartForSequenceClassification") {
    s.head = Head::kSequenceClassification;
    s.head_steps = {simple_step(StepKind::kSelectEos, Value::kHidden, Value::kPooled),
                    linear(Slot::kHeadDense, Value::kPooled, Value::kPooled),
                    activation(ActivationKind::kTanh, Value::kPooled, Value::kPooled),
                    linear(Slot::kClassifier, Value::kPooled, Value::kLogits)};
  } else {
    require(name.empty() || name == "BartForConditionalGeneration" || name == "BartModel",
            ErrorCode::kUnsupported, "architecture \"", name, "\" is not supported for bart");
    s.head = Head::kSeq2SeqLm;
    s.head_steps = {linear(Slot::kLmHead, Value::kHidden, Value::kLogits)};
  }
  s.outputs.emplace_back("logits", Value::kLogits);
  return s;
}

std::vector<TensorRule> tensors(const ModelSpec& s, const Settings& config) {
  const std::int64_t h = s.hidden_size;
  // Quell once wrote false where only the head had codes of its own.
  const bool tied = read_bool(config, "tie_word_embeddings", true) || config.has("quell");
  const std::string encoder_table = "model.encoder.embed_tokens",
                    decoder_table = "model.decoder.embed_tokens";
  std::vector<TensorRule> rules;
  if (tied) {
    rules.push_back({Slot::kWordEmbedding, false, "model.shared", {s.vocab_size, h}});
  } else {
    rules.push_back({Slot::kWordEmbedding, false, encoder_table, {s.vocab_size, h}});
    rules.push_back(
        TensorRule{Slot::kWordEmbedding, false, decoder_table, {s.vocab_size, h}}.in_stack(1));
  }
  for (int stack = 0; stack < 2; ++stack) {
    const std::int64_t f = ffn_size(config, stack == 1);
    const std::string first =
        std::to_string(s.stacks[static_cast<std::size_t>(stack)].layers[0].weights);
    const std::string side = stack == 0 ? "model.encoder." : "model.decoder.",
                      l = side + "layers.{-" + first + "}.";
    const auto add = [&](Slot slot, bool per_layer, const std::string& module, const Shape& shape) {
      rules.push_back(
          TensorRule{slot, per_layer, module, shape, true, slot != Slot::kPositionEmbedding}
              .in_stack(stack));
    };
    add(Slot::kPositionEmbedding, false, side + "embed_positions",
        {s.max_position_embeddings + kPositionOffset, h});
    add(Slot::kEmbeddingNorm, false, side + "layernorm_embedding", {h});
    add(Slot::kQProj, true, l + "self_attn.q_proj", {h, h});
    add(Slot::kKProj, true, l + "self_attn.k_proj", {h, h});
    add(Slot::kVProj, true, l + "self_attn.v_proj", {h, h});
    add(Slot::kOutProj, true, l + "self_attn.out_proj", {h, h});
    add(Slot::kAttentionNorm, true, l + "self_attn_layer_norm", {h});
    add(Slot::kFc1, true, l + "fc1", {f, h});
    add(Slot::kFc2, true, l + "fc2", {h, f});
    add(Slot::kFfnNorm, true, l + "final_layer_norm", {h});
    if (stack == 0) continue;
    add(Slot::kCrossQProj, true, l + "encoder_attn.q_proj", {h, h});
    add(Slot::kCrossKProj, true, l + "encoder_attn.k_proj", {h, h});
    add(Slot::kCrossVProj, true, l + "encoder_attn.v_proj", {h, h});
    add(Slot::kCrossOutProj, true, l + "encoder_attn.out_proj", {h, h});
    add(Slot::kCrossNorm, true, l + "encoder_attn_layer_norm", {h});
  }
  if (s.head == Head::kSeq2SeqLm) {
    const Slot table = tied ? Slot::kWordEmbedding : Slot::kNone;
    rules.push_back({Slot::kLmHead,
                     false,
                     "lm_head",
                     {s.vocab_size, h},
                     true,
                     true,
                     table,
                     "final_logits_bias"});
    rules.back().zero_bias_if_missing = true;
  } else {
    rules.push_back({Slot::kHeadDense, false, "classification_head.dense", {h, h}, true, true});
    rules.push_back({Slot::kClassifier,
                     false,
                     "classification_head.out_proj",
                     {num_labels(config, 3), h},
                     true,
                     true});
  }
  if (tied) {
    const auto other_name = [&](const std::string& module, int stack) {
      TensorRule rule = {Slot::kWordEmbedding, false, module, {s.vocab_size, h}};
      rules.push_back(std::move(rule).in_stack(stack).another_name_of(Slot::kWordEmbedding));
    };
    other_name(decoder_table, 1);
    other_name(encoder_table, 0);
  }
  return rules;
}

}  // namespace

extern const Family k_bart;
const Family k_bart = {"bart",
                       "model.",
                       read_spec,
                       tensors,
                       "BART: encoder-decoder, cross-attention",
                       "BartModel BartForConditionalGeneration BartForSequenceClassification",
                       kKeys};

}  // namespace quell
