#include <algorithm>
#include <set>

#include "quell/base/error.h"
#include "quell/base/log.h"
#include "quell/model/config_keys.h"
#include "quell/model/model.h"
#include "quell/model/quantized_checkpoint.h"
#include "quell/model/stored_codes.h"
#include "quell/model/tensor_names.h"
#include "quell/quant/quantize.h"

namespace quell {
namespace fs = std::filesystem;
namespace {

/// "{}" becomes the index, "{/n}" index / n, "{%n}" index % n, "{-n}" index - n.
std::string fill_layer(const std::string& pattern, int layer) {
  std::string out;
  for (std::size_t at = 0; at < pattern.size();) {
    const std::size_t open = std::min(pattern.find('{', at), pattern.size()),
                      close = pattern.find('}', open);
    out += pattern.substr(at, open - at);
    if (open == pattern.size()) break;
    const std::string inside = pattern.substr(open + 1, close - open - 1);
    const int n = inside.size() > 1 ? std::stoi(inside.substr(1)) : 1;
    out += std::to_string(inside.empty()     ? layer
                          : inside[0] == '/' ? layer / n
                          : inside[0] == '%' ? layer % n
                                             : layer - n);
    at = close + 1;
  }
  return out;
}

/// Matrices and their codes alone: what else a module has is small.
void spill_param(Param& p, const std::shared_ptr<ScratchFile>& scratch) {
  for (Tensor* t : {&p.weight, p.quantized ? &p.quantized->codes : nullptr})
    if (t && t->shape().rank() == 2 && !t->in_scratch()) *t = Tensor::spilled(*t, scratch);
}

/// The weight of `shape` in a stored tensor.
Tensor unpack(const Tensor& stored, const Packing& packing, const Shape& shape) {
  Tensor out = Tensor::f32(shape);
  const std::int64_t rows = shape[0], cols = shape.rank() == 2 ? shape[1] : 1,
                     stored_rows = rows * packing.parts;
  for (std::int64_t r = 0; r < rows; ++r) {
    const std::int64_t from = packed_row(packing, r, rows);
    for (std::int64_t c = 0; c < cols; ++c) {
      const std::int64_t at = packing.transposed ? c * stored_rows + from : from * cols + c;
      out.f32()[static_cast<std::size_t>(r * cols + c)] =
          stored.f32()[static_cast<std::size_t>(at)] + (packing.plus_one ? 1.0F : 0.0F);
    }
  }
  return out;
}

class Loader {
 public:
  Loader(const Checkpoint& checkpoint, const Family& family, std::vector<TensorRule> rules,
         Model& model, bool allow_missing)
      : checkpoint_(checkpoint),
        family_(family),
        rules_(std::move(rules)),
        model_(model),
        allow_missing_(allow_missing) {}

  void load() {
    for (const TensorRule& rule : rules_) {
      std::set<int> layers;
      for (const LayerRef& layer :
           model_.spec.stacks.at(static_cast<std::size_t>(rule.stack)).layers)
        layers.insert(layer.weights);
      if (!rule.per_layer) layers = {-1};
      for (const int layer : layers) add_param(rule, layer);
    }
    tie();
    for (const auto& [name, view] : checkpoint_.tensors())
      if (!used_.contains(name)) model_.unused_tensors.push_back(name);
    connect();
  }

 private:
  std::optional<std::string> locate(const std::string& name) const {
    return locate_tensor(checkpoint_, family_.prefix, name);
  }

  /// The same of a weight, whose packed codes may be all that the file holds: then the name that
  /// the weight would have.
  std::optional<std::string> locate_weight(const std::string& name) const {
    if (auto found = locate(name)) return found;
    auto packed = locate(name + kPackedSuffix);
    if (packed) packed->resize(packed->size() - std::string_view(kPackedSuffix).size());
    return packed;
  }

  const std::string& find(const std::string& name) {
    const auto found = locate(name);
    if (!found) tensor_is_missing(checkpoint_, name);
    return *used_.insert(*found).first;
  }

  static std::string weight_name_of(const TensorRule& rule) {
    return rule.weight_name.empty() ? rule.module + ".weight" : rule.weight_name;
  }

  /// The name under which the table is stored that others are tied to: its own, or else the first
  /// of theirs.
  std::optional<std::string> locate_table(const TensorRule& rule) const {
    if (const auto own = locate_weight(weight_name_of(rule))) return own;
    for (const TensorRule& other : rules_)
      if (other.tied_to == rule.slot)
        if (const auto found = locate_weight(weight_name_of(other))) return found;
    return std::nullopt;
  }

  /// Whether a weight that config.json ties is one of its own: its tensor is there, and is not the
  /// table's. transformers then does not tie it either.
  bool is_different(const TensorRule& rule) {
    const auto own = locate_weight(weight_name_of(rule));
    if (!own) return false;

    const auto table_rule = std::find_if(rules_.begin(), rules_.end(), [&](const TensorRule& r) {
      return r.slot == rule.tied_to && r.tied_to == Slot::kNone;
    });
    const auto table = table_rule == rules_.end() ? std::nullopt : locate_table(*table_rule);
    if (!table || *table == *own) return false;
    if (is_quantized_module(checkpoint_, *own)) return true;
    if (is_quantized_module(checkpoint_, *table)) return false;
    if (same_values(checkpoint_.tensors().at(*own), checkpoint_.tensors().at(*table))) return false;

    log_once(LogLevel::kWarning,
             str(checkpoint_.source_of(*own), ": tensor \"", *own, "\" differs from \"", *table,
                 "\", to which config.json ties it; it is used as it is (tie_word_embeddings: "
                 "false says so)"));
    return true;
  }

  Tensor read(const std::string& name, const Shape& shape, bool any_rank) {
    if (allow_missing_ && !locate(name)) {
      if (std::count(model_.missing_tensors.begin(), model_.missing_tensors.end(), name) == 0)
        model_.missing_tensors.push_back(name);
      return Tensor::f32(shape);
    }
    const std::string& found = find(name);
    const TensorView& view = checkpoint_.tensors().at(found);
    require(view.shape() == shape || (any_rank && view.numel() == shape.numel()),
            ErrorCode::kInvalidInput, checkpoint_.source_of(found), ": tensor \"", found,
            "\" has shape ", view.shape().to_string(), ", config.json says ", shape.to_string());
    require_float(checkpoint_, found, view);
    Tensor t = to_f32(view, found);
    t.reshape(shape);
    return t;
  }

  /// The part of a tensor that the rule's weight is. Several rules read one tensor in a row, so the
  /// last one is kept.
  Tensor read_weight(const TensorRule& rule, const std::string& name) {
    const Packing& packing = rule.packing;
    if (packing.plain()) return read(name, rule.shape, rule.any_rank);
    const std::int64_t rows = rule.shape[0], stored_rows = rows * packing.parts;
    const std::int64_t cols = rule.shape.rank() == 2 ? rule.shape[1] : 1;
    if (last_name_ != name) {
      const Shape stored = rule.shape.rank() == 1 ? Shape{stored_rows}
                           : packing.transposed   ? Shape{cols, stored_rows}
                                                  : Shape{stored_rows, cols};
      last_ = read(name, stored, rule.any_rank);
      last_name_ = name;
    }
    return unpack(last_, packing, rule.shape);
  }

  void add_param(TensorRule rule, int layer) {
    if (rule.tied_to != Slot::kNone && is_different(rule)) {
      rule.tied_to = Slot::kNone;
    } else if (rule.only_if_different) {
      if (const auto copy = locate(weight_name_of(rule))) used_.insert(*copy);
      return;
    }

    Param p;
    p.slot = rule.slot;
    p.stack = rule.stack;
    p.weights = layer;
    p.packing = rule.packing;
    p.module = fill_layer(rule.module, layer);
    p.weight_name =
        rule.weight_name.empty() ? p.module + ".weight" : fill_layer(rule.weight_name, layer);
    p.bias_name = rule.bias_name.empty() ? p.module + ".bias" : fill_layer(rule.bias_name, layer);
    rule.shape = with_added_channels(model_.config, rule.shape, p);
    if (rule.has_weight && rule.tied_to == Slot::kNone) {
      const auto found = layer < 0 ? locate_table(rule) : locate_weight(p.weight_name);
      const auto table = table_spec(model_.config, p.module);
      const bool codes =
          rule.shape.rank() == 2 && found && is_quantized_module(checkpoint_, *found);
      if (codes && table) {
        p.weight =
            dequantize(read_qtensor(checkpoint_, *found, *table, p.packing, rule.shape, used_));
      } else if (codes) {
        read_quantized_module(checkpoint_, model_.config, *found, rule.shape, p, used_);
        inputs_[static_cast<int>(model_.params.size())] =
            read_input_quant(checkpoint_, model_.config, *found, used_);
      } else {
        p.weight = read_weight(rule, found.value_or(p.weight_name));
        if (rule.any_rank && locate(p.weight_name))
          p.stored_shape = checkpoint_.tensors().at(find(p.weight_name)).shape();
        if (table) p.dequantized = dequantize(quantize_weight(p.weight, *table));
      }
    }
    if (rule.tied_to != Slot::kNone) {
      ties_.emplace_back(static_cast<int>(model_.params.size()), rule.tied_to);
      if (const auto copy = locate(p.weight_name))
        used_.insert(*copy);  // an explicit copy of the tied matrix
    }
    if (rule.has_bias) p.bias = read_bias(rule, p);
    read_added_tensors(checkpoint_, rule.shape, p, used_);
    if (model_.scratch) {
      spill_param(p, model_.scratch);
      checkpoint_.drop_pages();
    }
    model_.params.push_back(std::move(p));
  }

  Tensor read_bias(const TensorRule& rule, const Param& p) {
    const std::int64_t rows = rule.shape[0], stored = rows * rule.packing.parts;
    if (rule.zero_bias_if_missing && !locate(p.bias_name)) return Tensor::f32({rows});

    // A bias under two names is the linear's own, where the file holds both.
    std::string name = p.bias_name;
    if (const auto own = locate(p.module + ".bias");
        own && name != p.module + ".bias" && !rule.zero_bias_if_missing) {
      if (const auto other = locate(name)) used_.insert(*other);
      name = p.module + ".bias";
    }
    const Packing rows_alone = {.part = rule.packing.part,
                                .parts = rule.packing.parts,
                                .interleaved_heads = rule.packing.interleaved_heads};
    return unpack(read(name, {stored}, true), rows_alone, {rows});
  }

  void tie() {
    for (const auto& [index, slot] : ties_) {
      const auto table = std::find_if(model_.params.begin(), model_.params.end(),
                                      [&](const Param& p) { return p.slot == slot; });
      if (table != model_.params.end())
        model_.params[static_cast<std::size_t>(index)].tied_to =
            static_cast<int>(table - model_.params.begin());
    }
  }

  void connect() {
    std::map<std::tuple<int, int, Slot>, int> own, shared;
    for (std::size_t i = 0; i < model_.params.size(); ++i) {
      const Param& p = model_.params[i];
      own[{p.stack, p.weights, p.slot}] =
          static_cast<int>(i);  // a table of the stack's own comes behind the shared one
      shared.emplace(std::tuple(p.stack, p.weights, p.slot), static_cast<int>(i));
    }
    for (std::size_t n = 0; n < model_.graph.nodes.size(); ++n) {
      const Node& node = model_.graph.nodes[n];
      int param = -1;
      if (node.slot != Slot::kNone) {
        const std::tuple here(node.stack, node.weights, node.slot);
        const std::tuple of_first_stack(0, node.weights,
                                        node.slot);  // a decoder may use the encoder's embedding
        require(own.contains(here) || shared.contains(of_first_stack), ErrorCode::kUnsupported,
                "family ", family_.model_type, " has no tensor rule for ", slot_name(node.slot));
        param = own.contains(here) ? own.at(here) : shared.at(of_first_stack);
      }
      model_.node_param.push_back(param);
      const bool constant =
          node.in[0] != kNoValue && model_.graph.constant[static_cast<std::size_t>(node.in[0])];
      if (param >= 0 && inputs_.contains(param) && !constant)
        model_.input_quant[node.in[0]] = inputs_[param];
    }
  }

  const Checkpoint& checkpoint_;
  const Family& family_;
  std::vector<TensorRule> rules_;
  Model& model_;
  bool allow_missing_;
  std::set<std::string> used_;
  std::vector<std::pair<int, Slot>> ties_;
  std::map<int, ActivationQuant> inputs_;
  std::string last_name_;
  Tensor last_;
};

void read_sentence_settings(const ModelDirectory& directory, Model& model) {
  SentenceFiles files = read_sentence_files(directory, model.spec);
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
void leave_out_missing_head(const Checkpoint& checkpoint, const Family& family, ModelSpec& spec) {
  const std::string architecture = architecture_of(checkpoint.config());
  const bool bare = architecture.empty() ||
                    (architecture.ends_with("Model") && !architecture.ends_with("LMHeadModel"));
  if (!bare || spec.head_steps.empty()) return;

  bool has_table = false;  // a checkpoint without any tensor is not one without a head
  for (const TensorRule& rule : family.tensors(spec, checkpoint.config())) {
    bool there = false;
    for (const char* tensor :
         {".weight", ".bias", ".weight_packed"})  // a part of a head is a damaged one, not none
      there |= locate_tensor(checkpoint, family.prefix, rule.module + tensor).has_value();
    const bool is_head = rule.slot == Slot::kPooler || rule.slot == Slot::kLmHead;
    if (is_head && (there || rule.tied_to != Slot::kNone)) return;
    has_table |= rule.slot == Slot::kWordEmbedding && there;
  }
  if (!has_table) return;

  log_once(LogLevel::kInfo, checkpoint.dir().string() + ": saved without " +
                                spec.outputs.back().first + ", which is left out");
  spec.head = Head::kNone;
  spec.head_steps.clear();
  std::erase_if(spec.outputs, [](const auto& output) { return output.second != Value::kHidden; });
}

/// "is_causal": false turns a decoder into an encoder, as transformers does.
void read_is_causal(const Settings& config, const Family& family, ModelSpec& spec) {
  for (const KeyRule& rule : family.keys)
    if (rule.key == "is_causal") return;  // nobody reads it there
  if (read_bool(config, "is_causal", true)) return;

  for (Stack& stack : spec.stacks)
    for (LayerRef& layer : stack.layers) {
      if (!layer.attention.causal) continue;
      require(spec.stacks.size() == 1, ErrorCode::kUnsupported,
              "key \"is_causal\": false is not supported for ", spec.model_type,
              ", whose decoder follows an encoder");
      require(layer.attention.sliding_window == 0, ErrorCode::kUnsupported,
              "key \"is_causal\": false is not supported in layers with a sliding window");
      layer.attention.causal = false;
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

}  // namespace

Model load_model(const Checkpoint& checkpoint, bool allow_missing,
                 std::shared_ptr<ScratchFile> scratch) {
  const std::string source = (checkpoint.dir() / "config.json").string();
  Model model;
  const Settings& config = checkpoint.config();
  model.config = normalize_config(config.json());
  model.dir = checkpoint.directory();
  model.scratch = std::move(scratch);
  const auto in_config = [&](auto f) {
    try {
      return f();
    } catch (const Error& e) {
      throw Error(e.code(), source + ": " + e.what());
    } catch (const Json::exception& e) {
      throw Error(ErrorCode::kInvalidInput, source + ": " + e.what());
    }
  };
  const std::string type = json_string(config, "model_type", "");
  require(!type.empty(), ErrorCode::kInvalidInput, source, ": key \"model_type\" is missing");
  const Family& family = in_config([&]() -> const Family& { return find_family(type); });
  model.spec = in_config([&] { return family.read_spec(config); });
  model.spec.model_type = type;
  in_config([&] {
    read_is_causal(config, family, model.spec);
    leave_out_missing_head(checkpoint, family, model.spec);
    return 0;
  });
  // A hostile layer count must not cost memory before the tensors are seen to be missing.
  std::size_t layers = 0;
  for (const Stack& stack : model.spec.stacks) layers += stack.layers.size();
  require(layers <= checkpoint.tensors().size(), ErrorCode::kInvalidInput, source, ": ", layers,
          " layers, and the checkpoint holds only ", checkpoint.tensors().size(), " tensors");
  std::vector<TensorRule> rules = in_config([&] {
    check_quell_section(config);
    return family.tensors(model.spec, config);
  });
  if (model.spec.head == Head::kNone && model.spec.head_steps.empty())
    std::erase_if(rules, [](const TensorRule& rule) {
      return rule.slot == Slot::kPooler || rule.slot == Slot::kLmHead;
    });
  judge_config(checkpoint, family);

  model.graph = build_graph(model.spec);
  Loader(checkpoint, family, std::move(rules), model, allow_missing).load();
  in_config([&] {
    read_quell_section(checkpoint, model);
    return 0;
  });
  read_sentence_settings(checkpoint.directory(), model);
  if (!allow_missing)
    warn_about_tensors(checkpoint, suspicious_tensors(checkpoint, model.unused_tensors));
  return model;
}

void Model::spill() {
  for (Param& p : params)
    if (scratch) spill_param(p, scratch);
}

void Model::drop_pages(int node) const {
  const int param = node_param[static_cast<std::size_t>(node)];
  if (!scratch || param < 0) return;
  const Param& p = params[static_cast<std::size_t>(param)];
  weight_of(p).drop_pages();
  if (p.quantized) p.quantized->codes.drop_pages();
}

bool Model::is_quantized() const {
  return std::any_of(params.begin(), params.end(),
                     [](const Param& p) { return p.quantized.has_value(); });
}

std::string Model::node_name(int node) const {
  const Node& n = graph.nodes[static_cast<std::size_t>(node)];
  std::string name = n.layer >= 0 ? "layers." + std::to_string(n.layer) + "." : "";
  if (spec.stacks.size() > 1) name = (n.stack == 0 ? "encoder." : "decoder.") + name;
  if (n.slot != Slot::kNone) return name + slot_name(n.slot);
  int ordinal = 0;
  for (int i = node - 1; i >= 0; --i) {
    const Node& other = graph.nodes[static_cast<std::size_t>(i)];
    if (other.layer != n.layer || other.stack != n.stack) break;
    ordinal += other.kind == n.kind && other.slot == Slot::kNone ? 1 : 0;
  }
  return name + std::string(step_kind_name(n.kind)) +
         (ordinal ? "." + std::to_string(ordinal) : "");
}

const AttentionSpec& Model::attention_of(int node) const {
  const Node& n = graph.nodes[static_cast<std::size_t>(node)];
  return spec.stacks[static_cast<std::size_t>(n.stack)]
      .layers[static_cast<std::size_t>(n.layer)]
      .attention;
}

}  // namespace quell
