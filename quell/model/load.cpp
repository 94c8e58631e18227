#include <algorithm>

#include "quell/base/error.h"
#include "quell/base/log.h"
#include "quell/io/json.h"
#include "quell/model/config_keys.h"
#include "quell/model/family.h"
#include "quell/model/fold_batch_norm.h"
#include "quell/model/model.h"
#include "quell/model/parameter_loader.h"
#include "quell/model/quantized_checkpoint.h"
#include "quell/model/quantized_layout.h"
#include "quell/model/tensor_names.h"

namespace quell {
namespace {

/// Errors of `f` are those of config.json.
template <typename F>
auto in_config(const std::string& source, F f) {
  try {
    return f();
  } catch (const Error& e) {
    throw Error(e.code(), source + ": " + e.what());
  } catch (const Json::exception& e) {
    throw Error(ErrorCode::kInvalidInput, source + ": " + e.what());
  }
}

void read_sentence_settings(const ModelDirectory& directory, Model& model) {
  SentenceFiles files = read_sentence_files(directory, model.spec, model.graph);
  model.sentence = std::move(files.pipeline);
  model.text = files.text;
  const std::int64_t positions = model.spec.max_position_embeddings;
  const bool is_sentence_model = files.has_modules || model.sentence.defined();
  if (is_sentence_model)
    model.max_seq_length =
        files.text.max_length > 0 ? std::min(files.text.max_length, positions) : positions;
}

/// Models that make vectors are often saved without what would stand on them: encoders without
/// pooler, decoders without the head of a language model. Its output is not offered then.
void leave_out_missing_head(const Checkpoint& checkpoint, const Family& family, Model& model) {
  Graph& graph = model.graph;
  const std::string architecture = architecture_of(checkpoint.config());
  const bool bare = architecture.empty() ||
                    (architecture.ends_with("Model") && !architecture.ends_with("LMHeadModel"));
  const bool has_head = graph.head_begin != kNoNode && graph.head_begin < graph.num_nodes();
  if (!bare || !has_head) return;

  bool has_table = false;  // a checkpoint without any tensor is not one without a head
  for (const ParamDef& p : graph.params()) {
    bool there = false;  // a part of a head is a damaged one, not none
    for (const char* tensor : {".weight", ".bias", ".weight_packed"})
      there |= locate_tensor(checkpoint, family.prefix, p.module + tensor).has_value();
    const bool is_head = p.role == Role::kPooler || p.role == Role::kLmHead;
    if (is_head && (there || p.tied_to != kNoParam)) return;
    has_table |= p.role == Role::kTokenTable && there;
  }
  if (!has_table) return;

  log_once(LogLevel::kInfo, checkpoint.dir().string() + ": saved without " +
                                graph.outputs.back().first + ", which is left out");
  model.spec.head = Head::kNone;
  graph.truncate(graph.head_begin);
}

/// "is_causal": false turns a decoder into an encoder, as transformers does.
void read_is_causal(const Config& config, const Family& family, Architecture& architecture) {
  if (!family.reads_is_causal || read_bool(config, "is_causal", true)) return;

  Graph& graph = architecture.graph;
  for (NodeId n = 0; n < graph.num_nodes(); ++n) {
    if (!graph.node(n).is(op_attention)) continue;
    AttentionRecipe recipe = graph.node(n).attributes.get<AttentionAttributes>().recipe;
    if (!recipe.causal) continue;

    require(!graph.is_encoder_decoder(), ErrorCode::kUnsupported,
            "key \"is_causal\": false is not supported for ", family.model_type,
            ", whose decoder follows an encoder");
    require(recipe.sliding_window == 0, ErrorCode::kUnsupported,
            "key \"is_causal\": false is not supported in layers with a sliding window");
    recipe.causal = false;
    graph.set_attributes(n, Attributes::of(AttentionAttributes(std::move(recipe))));
  }
}

/// Before tensors are read, which takes a while: what config.json says and nobody asked for.
void judge_config(const Checkpoint& checkpoint, const Family& family) {
  std::vector<KeyRule> rules(family.keys.begin(), family.keys.end());
  const std::span<const KeyRule> general = config_key_rules();
  rules.insert(rules.end(), general.begin(), general.end());
  checkpoint.directory().finish(checkpoint.config(), rules);

  const Json& names = checkpoint.config().json().value("architectures", Json());
  if (names.is_array() && names.size() > 1)
    log_once(LogLevel::kWarning, checkpoint.config().file() + ": key \"architectures\": of " +
                                     names.dump() + " the first is used");
}

const Family& family_of(const Settings& config, const std::string& source) {
  std::string type = json_string(config, "model_type", "");
  // A network that config.json describes op by op has no type.
  if (type.empty() && config.contains("graph")) type = "graph";
  // Nor have the settings of LSTR.
  if (type.empty() && config.contains("system") && config.contains("db")) type = "lstr";
  require(!type.empty(), ErrorCode::kInvalidInput, source, ": key \"model_type\" is missing");
  const Family* family = in_config(source, [&] { return &find_family(type); });
  return *family;
}

/// The parts of a model that its checkpoint fills.
Model fill(const Checkpoint& checkpoint, const Family& family, Architecture architecture,
           const LoadOptions& options, const std::string& source) {
  Model model;
  model.config = normalize_config(checkpoint.config().json());
  model.dir = checkpoint.directory();
  model.scratch = options.scratch;
  model.spec = std::move(architecture.spec);
  model.graph = std::move(architecture.graph);

  in_config(source, [&] {
    leave_out_missing_head(checkpoint, family, model);
    check_quell_section(checkpoint.config());
    check_layout(checkpoint);
    return 0;
  });
  judge_config(checkpoint, family);

  in_config(source, [&] {
    model.folded_batch_norms = folded_batch_norms_of(*model.config);
    leave_out_batch_norms(model.graph, model.folded_batch_norms);
    return 0;
  });
  load_parameters(checkpoint, family.prefix, options.allow_missing, model);
  in_config(source, [&] {
    read_quell_section(checkpoint, model);
    return 0;
  });
  return model;
}

}  // namespace

Architecture build_architecture(const Settings& config, const Family& family,
                                const Checkpoint* checkpoint) {
  const std::string source = config.file().empty() ? "config.json" : config.file();
  return in_config(source, [&] {
    ModelBuilder g(checkpoint);
    family.build(g, config);
    Architecture made{std::move(g.spec), g.take()};
    made.spec.model_type = std::string(family.model_type);
    read_is_causal(config, family, made);
    return made;
  });
}

Architecture build_architecture(const Settings& config) {
  const std::string source = config.file().empty() ? "config.json" : config.file();
  return build_architecture(config, family_of(config, source));
}

Architecture build_architecture(const Checkpoint& checkpoint) {
  const Settings& config = checkpoint.config();
  return build_architecture(config, family_of(config, config.file()), &checkpoint);
}

Model load_model(const Checkpoint& checkpoint, const LoadOptions& options) {
  const std::string source = checkpoint.config().file();
  const Settings& config = checkpoint.config();
  const Family& family = options.family ? *options.family : family_of(config, source);
  Architecture architecture = build_architecture(config, family, &checkpoint);

  // A hostile layer count must not cost time before the tensors are seen to be missing.
  const std::size_t layers = architecture.graph.blocks.size();
  require(layers <= checkpoint.tensors().size(), ErrorCode::kInvalidInput, source, ": ", layers,
          " layers, and the checkpoint holds only ", checkpoint.tensors().size(), " tensors");

  Model model = fill(checkpoint, family, std::move(architecture), options, source);
  read_sentence_settings(checkpoint.directory(), model);
  if (!options.allow_missing)
    warn_about_tensors(checkpoint, suspicious_tensors(checkpoint, model.unused_tensors));
  return model;
}

namespace {

Model model_of(Architecture architecture, const Checkpoint& checkpoint, bool allow_missing) {
  Model model;
  model.spec = std::move(architecture.spec);
  model.graph = std::move(architecture.graph);
  load_parameters(checkpoint, "", allow_missing, model);
  return model;
}

}  // namespace

Model make_model(Architecture architecture, std::map<std::string, Tensor> weights) {
  return model_of(std::move(architecture), Checkpoint::in_memory(std::move(weights)), false);
}

Model make_zero_model(Architecture architecture) {
  Model model = model_of(std::move(architecture), Checkpoint(), true);
  model.missing_tensors.clear();
  return model;
}

}  // namespace quell
