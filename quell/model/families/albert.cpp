// ALBERT (Lan et al. 2020): BERT with one set of weights for all layers (or one for each group of
// layers), and a narrower embedding.
#include "quell/base/error.h"
#include "quell/model/bert_like.h"

namespace quell {
namespace {

constexpr EncoderDefaults kDefaults = {.vocab_size = 30000,
                                       .hidden_size = 4096,
                                       .intermediate_size = 16384,
                                       .num_attention_heads = 64,
                                       .activation = "gelu_new",
                                       .eos_token_id = 3};

// Of the checkpoints' first implementation; nobody reads them.
constexpr KeyRule kKeys[] = {{"net_structure_type"},
                             {"gap_size"},
                             {"num_memory_blocks"},
                             {"down_scale_factor"},
                             {"layers_to_keep"}};

std::int64_t inner_layers(const Settings& config) {
  return read_int(config, "inner_group_num", 1, kMaxLayers, 1);
}
std::int64_t embedding_size(const Settings& config) {
  return read_int(config, "embedding_size", 1, kMaxDim, 128);
}

ModelSpec read_spec(const Settings& config) {
  ModelSpec s = bert_like_spec(config, kDefaults);
  Stack& stack = s.stacks[0];
  stack.prologue.push_back(linear(Slot::kProjectIn, Value::kHidden, Value::kHidden));
  const AttentionSpec attention = stack.layers[0].attention;
  const auto count = static_cast<std::int64_t>(stack.layers.size());
  const std::int64_t groups = read_int(config, "num_hidden_groups", 1, count, 1),
                     inner = inner_layers(config);
  require(count * inner <= kMaxLayers, ErrorCode::kInvalidInput,
          "key \"inner_group_num\": too many layers");
  stack.layers.clear();
  for (std::int64_t i = 0; i < count; ++i)
    for (std::int64_t k = 0; k < inner; ++k)
      stack.layers.push_back({static_cast<int>(i * groups / count * inner + k), attention});
  set_encoder_head(s, config, "Albert", bert_pooler(),
                   bert_masked_lm(read_activation(config, "hidden_act", kDefaults.activation)));
  return s;
}

std::vector<TensorRule> tensors(const ModelSpec& s, const Settings& config) {
  const std::int64_t h = s.hidden_size, f = s.intermediate_size, e = embedding_size(config);
  const std::string n = std::to_string(inner_layers(config)), emb = "albert.embeddings.";
  const std::string l =
      "albert.encoder.albert_layer_groups.{/" + n + "}.albert_layers.{%" + n + "}.";
  std::vector<TensorRule> rules = {
      {Slot::kWordEmbedding, false, emb + "word_embeddings", {s.vocab_size, e}},
      {Slot::kPositionEmbedding,
       false,
       emb + "position_embeddings",
       {s.max_position_embeddings, e}},
      {Slot::kTokenTypeEmbedding,
       false,
       emb + "token_type_embeddings",
       {read_int(config, "type_vocab_size", 1, kMaxDim, kDefaults.type_vocab_size), e}},
      {Slot::kEmbeddingNorm, false, emb + "LayerNorm", {e}, true, true},
      {Slot::kProjectIn, false, "albert.encoder.embedding_hidden_mapping_in", {h, e}, true, true},
      {Slot::kQProj, true, l + "attention.query", {h, h}, true, true},
      {Slot::kKProj, true, l + "attention.key", {h, h}, true, true},
      {Slot::kVProj, true, l + "attention.value", {h, h}, true, true},
      {Slot::kOutProj, true, l + "attention.dense", {h, h}, true, true},
      {Slot::kAttentionNorm, true, l + "attention.LayerNorm", {h}, true, true},
      {Slot::kFc1, true, l + "ffn", {f, h}, true, true},
      {Slot::kFc2, true, l + "ffn_output", {h, f}, true, true},
      {Slot::kFfnNorm, true, l + "full_layer_layer_norm", {h}, true, true}};
  if (s.head == Head::kNone || s.head == Head::kSequenceClassification)
    rules.push_back({Slot::kPooler, false, "albert.pooler", {h, h}, true, true});
  add_encoder_head(rules, s, config);
  if (s.head == Head::kMaskedLm) {
    const Slot tied =
        read_bool(config, "tie_word_embeddings", true) ? Slot::kWordEmbedding : Slot::kNone;
    rules.push_back({Slot::kHeadDense, false, "predictions.dense", {e, h}, true, true});
    rules.push_back({Slot::kHeadNorm, false, "predictions.LayerNorm", {e}, true, true});
    rules.push_back({Slot::kLmHead,
                     false,
                     "predictions.decoder",
                     {s.vocab_size, e},
                     true,
                     true,
                     tied,
                     "predictions.bias"});
  }
  return rules;
}

}  // namespace

extern const Family k_albert;
const Family k_albert = {
    "albert",
    "albert.",
    read_spec,
    tensors,
    "ALBERT: layers that share weights, narrow embedding",
    "AlbertModel AlbertForMaskedLM AlbertForPreTraining AlbertForSequenceClassification "
    "AlbertForTokenClassification AlbertForQuestionAnswering",
    kKeys};

}  // namespace quell
