#include "quell/model/parameter_loader.h"

#include <algorithm>
#include <set>

#include "quell/base/error.h"
#include "quell/base/log.h"
#include "quell/graph/forms.h"
#include "quell/model/quantized_checkpoint.h"
#include "quell/model/quantized_layout.h"
#include "quell/model/stored_codes.h"
#include "quell/model/tensor_names.h"
#include "quell/quant/quantize.h"

namespace quell {
namespace {

/// Matrices and their codes alone: what else a module has is small.
void spill_param(Param& p, const std::shared_ptr<ScratchFile>& scratch) {
  for (Tensor* t : {&p.weight, p.quantized ? &p.quantized->codes : nullptr,
                    p.table_codes ? &p.table_codes->codes : nullptr})
    if (t && t->shape().rank() == 2 && !t->in_scratch()) *t = Tensor::spilled(*t, scratch);
}

/// The weight of `shape` in a stored tensor.
Tensor unpack(const Tensor& stored, const Packing& packing, const Shape& shape) {
  Tensor out = Tensor::f32(shape);
  const std::int64_t rows = shape[0], cols = shape.rank() == 2 ? shape[1] : 1;
  // Along a row the step is the same, but for convolutions, which are small.
  const bool is_kernel = packing.taps() > 0;
  const std::int64_t step = packing.transposed ? rows * packing.parts : 1;
  for (std::int64_t r = 0; r < rows; ++r) {
    const std::int64_t first = packed_index(packing, r, 0, shape);
    for (std::int64_t c = 0; c < cols; ++c) {
      const std::int64_t at = is_kernel ? packed_index(packing, r, c, shape) : first + c * step;
      out.f32()[static_cast<std::size_t>(r * cols + c)] =
          stored.f32()[static_cast<std::size_t>(at)] + (packing.plus_one ? 1.0F : 0.0F);
    }
  }
  return out;
}

class Loader {
 public:
  Loader(const Checkpoint& checkpoint, std::string_view prefix, bool allow_missing, Model& model)
      : checkpoint_(checkpoint),
        layout_(layout_of(checkpoint, *model.config)),
        prefix_(prefix),
        allow_missing_(allow_missing),
        model_(model) {}

  void load() {
    settle_ties();
    for (ParamId p = 0; p < graph().num_params(); ++p) add_param(p);
    for (const auto& [name, view] : checkpoint_.tensors())
      if (!used_.contains(name)) model_.unused_tensors.push_back(name);
    set_weight_quantizers();
    set_input_quantizers();
  }

 private:
  Graph& graph() { return model_.graph; }

  std::optional<std::string> locate(const std::string& name) const {
    return locate_tensor(checkpoint_, prefix_, name);
  }

  /// The same of a weight, whose packed codes may be all that the file holds: then the name that
  /// the weight would have.
  std::optional<std::string> locate_weight(const std::string& name) const {
    if (auto found = locate(name)) return found;
    auto packed = locate(name + kPackedSuffix);
    if (packed) packed->resize(packed->size() - std::string_view(kPackedSuffix).size());
    return packed;
  }

  /// The name under which the table is stored that others are tied to: its own, or else the first
  /// of theirs.
  std::optional<std::string> locate_table(const ParamDef& def) const {
    if (const auto own = locate_weight(def.weight_tensor())) return own;
    for (const std::string& module : def.stand_ins)
      if (const auto found = locate_weight(module + ".weight")) return found;
    if (!def.stand_ins.empty()) return std::nullopt;
    for (const ParamDef& other : model_.graph.params()) {
      if (other.tied_to == kNoParam || &model_.graph.param(other.tied_to) != &def) continue;
      if (const auto found = locate_weight(other.weight_tensor())) return found;
    }
    return std::nullopt;
  }

  /// Which weights are their own, and which only other names of a table.
  void settle_ties() {
    std::vector<ParamId> only_names;
    for (ParamId p = 0; p < graph().num_params(); ++p) {
      const ParamDef& def = graph().param(p);
      if (def.tied_to == kNoParam) continue;
      if (is_different(def)) {
        graph().untie(p);
        continue;
      }
      if (const auto copy = locate(def.weight_tensor())) used_.insert(*copy);
      if (!def.only_if_different) continue;
      graph().redirect_param(p, def.tied_to);
      only_names.push_back(p);
    }
    graph().drop_params(only_names);
  }

  /// Whether a weight that config.json ties is one of its own: its tensor is there, and is not the
  /// table's. transformers then does not tie it either.
  bool is_different(const ParamDef& def) {
    const auto own = locate_weight(def.weight_tensor());
    if (!own) return false;

    const auto table = locate_table(graph().param(def.tied_to));
    if (!table || *table == *own) return false;
    if (is_quantized_module(checkpoint_, *own)) return true;
    if (is_quantized_module(checkpoint_, *table)) return false;
    const TensorView& ours = checkpoint_.tensors().at(*own);
    const TensorView& theirs = checkpoint_.tensors().at(*table);
    if (same_values(ours, theirs)) return false;

    log_once(LogLevel::kWarning,
             str(checkpoint_.source_of(*own), ": tensor \"", *own, "\" differs from \"", *table,
                 "\", to which config.json ties it; it is used as it is (tie_word_embeddings: "
                 "false says so)"));
    return true;
  }

  const std::string& find(const std::string& name) {
    const auto found = locate(name);
    if (!found) tensor_is_missing(checkpoint_, name);
    return *used_.insert(*found).first;
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

  /// The part of a tensor that the weight is. Several parameters read one tensor in a row, so the
  /// last one is kept.
  Tensor read_weight(const ParamDef& def, const Shape& shape, const std::string& name) {
    const Packing& packing = def.packing;
    if (packing.plain()) return read(name, shape, def.any_rank);

    if (last_name_ != name) {
      last_ = read(name, packed_shape(packing, shape), def.any_rank);
      last_name_ = name;
    }
    return unpack(last_, packing, shape);
  }

  void add_param(ParamId id) {
    const ParamDef& def = graph().param(id);
    Param p;
    p.module = def.module;
    p.label = def.label;
    p.role = def.role;
    p.tied_to = def.tied_to;
    p.packing = def.packing;
    p.weight_name = def.weight_tensor();
    p.bias_name = def.bias_tensor();

    const Shape shape = with_added_channels(*model_.config, def.shape, p);
    float bias_scale = 1.0F;
    if (def.has_weight && def.tied_to == kNoParam) bias_scale = add_weight(id, def, shape, p);
    if (def.has_bias) p.bias = read_bias(def, shape[0]);
    if (bias_scale != 1.0F)
      for (float& b : p.bias.f32()) b *= bias_scale;
    for (const std::string& name : def.vectors) {
      p.vector_names.push_back(def.module + "." + name);
      p.vectors.push_back(read(p.vector_names.back(), {shape[0]}, true));
      if (name == "running_var") check_variance(p.vectors.back(), p.vector_names.back());
    }
    read_added_tensors(checkpoint_, shape, p, used_);
    if (model_.scratch) {
      spill_param(p, model_.scratch);
      checkpoint_.drop_pages();
    }
    model_.params.push_back(std::move(p));
  }

  static void check_variance(const Tensor& variance, const std::string& name) {
    for (const float v : variance.f32())
      require(v >= 0.0F, ErrorCode::kInvalidInput, "tensor \"", name, "\": a variance of ", v);
  }

  /// Returns what the bias in the file is multiplied by.
  float add_weight(ParamId id, const ParamDef& def, const Shape& shape, Param& p) {
    const auto found = locate_table(def);
    const auto table = table_spec(*model_.config, p.module);
    const bool is_matrix = shape.rank() == 2 && found;
    if (is_matrix && table && is_quantized_module(checkpoint_, *found)) {
      p.table_codes = read_qtensor(checkpoint_, *found, *table, p.packing, shape, used_);
      p.weight = dequantize(*p.table_codes);
      return 1.0F;
    }
    if (is_matrix && layout_->holds(graph(), id, *found)) {
      QuantizedModule module = layout_->read(def, *found, shape, used_);
      p.weight = dequantize(module.weight);
      p.quantized = std::move(module.weight);
      inputs_[id] = module.input;
      return module.bias_scale;
    }

    p.weight = read_weight(def, shape, found.value_or(p.weight_name));
    if (def.any_rank && locate(p.weight_name))
      p.stored_shape = checkpoint_.tensors().at(find(p.weight_name)).shape();
    if (table) tables_[id] = *table;
    return 1.0F;
  }

  Tensor read_bias(const ParamDef& def, std::int64_t rows) {
    std::string name = def.bias_tensor();
    if (def.zero_bias_if_missing && !locate(name)) return Tensor::f32({rows});

    // A bias under two names is the linear's own, where the file holds both.
    const std::string own_name = def.module + ".bias";
    const auto own = locate(own_name);
    if (own && name != own_name && !def.zero_bias_if_missing) {
      if (const auto other = locate(name)) used_.insert(*other);
      name = own_name;
    }
    const Packing rows_alone = {.part = def.packing.part,
                                .parts = def.packing.parts,
                                .interleaved_heads = def.packing.interleaved_heads};
    return unpack(read(name, {rows * def.packing.parts}, true), rows_alone, {rows});
  }

  void set_weight_quantizers() {
    for (ParamId p = 0; p < graph().num_params(); ++p) {
      const Param& param = model_.param(p);
      if (param.quantized) set_weight_quant(graph(), p, param.quantized->spec);
      if (param.table_codes) model_.set_table_codes(p, *param.table_codes);
      if (is_coded_head(*model_.config, param.module)) set_head_codes(p);
    }
    for (const auto& [p, spec] : tables_)
      model_.set_table_codes(p, quantize_weight(model_.param(p).weight, spec));
  }

  void set_head_codes(ParamId head) {
    const Param& p = model_.param(head);
    const bool has_codes = p.tied_to != kNoParam && model_.param(p.tied_to).table_codes;
    require(has_codes, ErrorCode::kInvalidInput, "section \"quell\": \"", p.module,
            "\" is tied to no table of codes");
    model_.set_codes(head, model_.param(p.tied_to).table_codes->clone());
  }

  void set_input_quantizers() {
    std::vector<std::pair<ValueId, const ActivationQuant*>> inputs;
    for (const Node& node : graph().nodes()) {
      if (!node.op->product || graph().is_constant(node.in[0])) continue;
      const auto found = inputs_.find(node.param);
      if (found != inputs_.end()) inputs.emplace_back(node.in[0], &found->second);
    }
    for (const auto& [value, quant] : inputs)
      set_input_quant(graph(), value, *quant, false, [&](const Node& linear) {
        return model_.param(linear.param).quantized.has_value();
      });
  }

  const Checkpoint& checkpoint_;
  std::unique_ptr<QuantizedLayout> layout_;
  std::string_view prefix_;
  bool allow_missing_;
  Model& model_;
  std::set<std::string> used_;
  std::map<ParamId, ActivationQuant> inputs_;
  std::map<ParamId, QuantSpec> tables_;
  std::string last_name_;
  Tensor last_;
};

}  // namespace

void load_parameters(const Checkpoint& checkpoint, std::string_view prefix, bool allow_missing,
                     Model& model) {
  Loader(checkpoint, prefix, allow_missing, model).load();
}

ActivationQuantizers quantizers_of(const Model& model) {
  ActivationQuantizers out;
  for (const ValueId v : bases_with(model.graph, op_quantize))
    out.inputs[v] = *input_quant_of(model.graph, v);
  for (const NodeId n : quantized_attentions(model.graph))
    out.attention[n] = *attention_quant_of(model.graph.node(n));
  return out;
}

void Model::spill() {
  for (Param& p : params)
    if (scratch) spill_param(p, scratch);
}

void Model::drop_pages(NodeId node) const {
  const ParamId param_id = graph.node(node).param;
  if (!scratch || param_id == kNoParam) return;
  const Param& p = param(param_id);
  weight_of(p).drop_pages();
  if (p.quantized) p.quantized->codes.drop_pages();
}

void Model::set_codes(ParamId p, QTensor codes) {
  set_weight_quant(graph, p, codes.spec);
  param(p).quantized = std::move(codes);
}

void Model::set_table_codes(ParamId p, const QTensor& codes) {
  set_weight_quant(graph, p, codes.spec);
  param(p).packed_table = PackedTable(codes);
}

void Model::replace_table(ParamId p, QTensor codes) {
  set_weight_quant(graph, p, codes.spec);
  param(p).weight = dequantize(codes);
  param(p).packed_table = PackedTable(codes);
  param(p).table_codes = std::move(codes);
}

void Model::clear_weight_quantizers() {
  clear_weight_quants(graph);
  for (Param& p : params) {
    p.quantized.reset();
    p.packed_table = PackedTable();
    p.table_codes.reset();
  }
}

bool Model::is_quantized() const {
  return std::any_of(params.begin(), params.end(),
                     [](const Param& p) { return p.quantized.has_value(); });
}

}  // namespace quell
