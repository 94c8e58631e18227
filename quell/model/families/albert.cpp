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

constexpr EncoderLayerModules kLayer = {.query = "attention.query",
                                        .key = "attention.key",
                                        .value = "attention.value",
                                        .out = "attention.dense",
                                        .attention_norm = "attention.LayerNorm",
                                        .fc1 = "ffn",
                                        .fc2 = "ffn_output",
                                        .ffn_norm = "full_layer_layer_norm"};

void build(ModelBuilder& g, const Config& c) {
  const EncoderSizes sizes = read_encoder(g, c, kDefaults);
  read_int(c, "type_vocab_size", 1, kMaxDim, 2);  // this family has token types
  const std::int64_t embedding_size = read_int(c, "embedding_size", 1, kMaxDim, 128);
  const std::int64_t count = sizes.num_layers;
  const std::int64_t groups = read_int(c, "num_hidden_groups", 1, count, 1);
  const std::int64_t inner = read_int(c, "inner_group_num", 1, kMaxLayers, 1);
  require(count * inner <= kMaxLayers, ErrorCode::kInvalidInput,
          "key \"inner_group_num\": too many layers");

  ValueId h = kNoValue;
  {
    const auto scope = g.scope("albert.embeddings");
    h = bert_embeddings(g, c, sizes, {}, g.spec.max_position_embeddings, embedding_size);
  }
  h = g.linear("project_in", "albert.encoder.embedding_hidden_mapping_in", h, g.spec.hidden_size,
               {.bias = true, .role = Role::kProjection});
  g.hidden_state(h);

  // Layers of one group are called by the same names: they share their weights.
  for (std::int64_t l = 0; l < count * inner; ++l) {
    const std::string group = std::to_string(l / inner * groups / count);
    const std::string in_group = std::to_string(l % inner);
    const auto layer =
        g.layer(l, "albert.encoder.albert_layer_groups." + group + ".albert_layers." + in_group);
    h = post_norm_layer(g, sizes, h, kLayer);
    g.hidden_state(h);
  }

  EncoderHead head;
  head.pooler = [&](ValueId x) { return first_token_pooler(g, x, "albert.pooler"); };
  head.masked_lm = [&](ValueId x) {
    return masked_lm_head(g, c, x, embedding_size, sizes.activation, sizes.norm_eps,
                          {.dense = "predictions.dense",
                           .norm = "predictions.LayerNorm",
                           .decoder = "predictions.decoder",
                           .bias_name = "predictions.bias",
                           .table = "albert.embeddings.word_embeddings"});
  };
  build_encoder_head(g, c, "Albert", h, head);
}

}  // namespace

extern const Family k_albert;
const Family k_albert = {
    "albert",
    "albert.",
    build,
    "ALBERT: layers that share weights, narrow embedding",
    "AlbertModel AlbertForMaskedLM AlbertForPreTraining AlbertForSequenceClassification "
    "AlbertForTokenClassification AlbertForQuestionAnswering",
    kKeys};

}  // namespace quell
