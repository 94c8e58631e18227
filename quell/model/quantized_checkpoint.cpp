#include "quell/model/quantized_checkpoint.h"

#include <algorithm>
#include <cmath>
#include <functional>

#include "quell/base/error.h"
#include "quell/graph/forms.h"
#include "quell/graph/image_ops.h"
#include "quell/io/json.h"
#include "quell/model/family.h"
#include "quell/model/stored_codes.h"
#include "quell/model/tensor_names.h"
#include "quell/quant/quantize.h"

namespace quell {
namespace {

/// The group of quantization_config that describes the linears; Quell reads checkpoints with one.
const Json& config_group(const Json& config, const std::string& weight_name) {
  const auto it = config.find("quantization_config");
  require(
      it != config.end() && it->is_object(), ErrorCode::kInvalidInput,
      "config.json: key \"quantization_config\" is missing, and \"", weight_name,
      "\" lies there as integers; restore the section that the tool which wrote them put there");
  return *it->at("config_groups").begin();  // one, as check_quantization_config saw to
}

QuantSpec read_args(const Json& args, const char* what) {
  require(args.is_object(), ErrorCode::kInvalidInput, "quantization_config: ", what, " is missing");
  require(json_string(args, "type", "int") == "int", ErrorCode::kUnsupported,
          "quantization_config: only integer types are supported");
  QuantSpec spec;
  spec.num_bits = static_cast<int>(json_int(args, "num_bits", 2, 8));
  spec.symmetric = json_bool(args, "symmetric", true);
  spec.dynamic = json_bool(args, "dynamic", false);
  spec.codes = CodeRange::kFull;
  spec.step_rule = StepRule::kHalfRange;
  const std::string strategy = json_string(args, "strategy", "tensor");
  bool known = false;
  for (const Granularity g : {Granularity::kPerTensor, Granularity::kPerChannel,
                              Granularity::kPerToken, Granularity::kPerGroup})
    if (granularity_name(g) == strategy) {
      spec.granularity = g;
      known = true;
    }
  require(known, ErrorCode::kUnsupported, "quantization_config: strategy \"", strategy,
          "\" is not supported");
  spec.group_size = json_int(args, "group_size", -1, kMaxDim, 0);
  require(spec.granularity != Granularity::kPerGroup || spec.group_size > 0,
          ErrorCode::kInvalidInput, "quantization_config: ", what,
          ": strategy \"group\" needs a group_size");
  return spec;
}

const Json& member(const Json& object, const char* key) {
  static const Json kNull;
  const auto it = object.find(key);
  return it == object.end() ? kNull : *it;
}

std::string module_of(const std::string& weight_name) {
  return weight_name.substr(0, weight_name.size() - std::string(".weight").size());
}

Tensor read_vector(const Checkpoint& checkpoint, const std::string& name, std::int64_t size) {
  const auto it = checkpoint.tensors().find(name);
  if (it == checkpoint.tensors().end()) return {};
  require(it->second.numel() == size, ErrorCode::kInvalidInput, checkpoint.source_of(name),
          ": tensor \"", name, "\" has ", it->second.numel(), " elements, expected ", size);
  Tensor t = to_f32(it->second, name);
  t.reshape({size});
  return t;
}

/// What a static quantizer has instead of its one step.
ChannelGroups read_channel_groups(const Checkpoint& checkpoint, const std::string& name,
                                  const QuantSpec& spec) {
  std::set<std::string> used;
  ChannelGroups groups;
  groups.channels = to_i32(need_tensor(checkpoint, name + ".channels", used), name + ".channels");
  const std::vector<std::int32_t> zeros =
      to_i32(need_tensor(checkpoint, name + ".zero_point", used), name + ".zero_point");
  const auto count = static_cast<std::int64_t>(zeros.size());
  const Tensor scales =
      read_scales(need_tensor(checkpoint, name + ".scale", used), name + ".scale", count);
  std::vector<std::int32_t> sorted = groups.channels;
  std::sort(sorted.begin(), sorted.end());
  bool fits = count > 0 && static_cast<std::int64_t>(sorted.size()) % count == 0;
  for (std::size_t j = 0; j < sorted.size(); ++j) fits &= sorted[j] == static_cast<std::int32_t>(j);
  for (std::size_t g = 0; g < zeros.size(); ++g) {
    groups.steps.push_back({scales.f32()[g], zeros[g]});
    fits &= zeros[g] >= spec.min_code() && zeros[g] <= spec.max_code();
  }
  require(fits, ErrorCode::kInvalidInput, checkpoint.dir().string(), ": tensors \"", name,
          ".*\" are no groups of ", sorted.size(), " channels with steps of their own");
  return groups;
}

}  // namespace

void check_quell_section(const Settings& config) {
  constexpr std::int64_t kVersion = 3;

  const Settings ours = config.section(kQuellKey);
  const std::int64_t version = json_int(ours, "version", 1, std::int64_t{1} << 31, 1);
  require(version <= kVersion, ErrorCode::kUnsupported, "section \"quell\": version ", version,
          " was written by a later Quell; this one reads ", kVersion);
  for (const char* key :
       {"input_codes", "input_step", "residual_after_quant", "added_channels", "attention",
        "embeddings", "accepted", "folded_batch_norms", "inputs", "coded_heads"})
    ours.value(key);
}

std::vector<std::string> folded_batch_norms_of(const Json& config) {
  const Json& modules = member(member(config, kQuellKey), "folded_batch_norms");
  std::vector<std::string> out;
  if (modules.is_null()) return out;
  require(modules.is_array(), ErrorCode::kInvalidInput,
          "section \"quell\": folded_batch_norms must be a list of modules");
  for (const Json& module : modules) {
    require(module.is_string(), ErrorCode::kInvalidInput,
            "section \"quell\": folded_batch_norms must be a list of modules, and holds ",
            module.dump());
    out.push_back(module.get<std::string>());
  }
  return out;
}

bool is_quantized_module(const Checkpoint& checkpoint, const std::string& weight_name) {
  return checkpoint.tensors().contains(module_of(weight_name) + ".weight_scale");
}

std::optional<QuantSpec> table_spec(const Json& config, const std::string& module) {
  const Json& embeddings = member(member(config, kQuellKey), "embeddings");
  const Json& tables = member(embeddings, "tables");
  if (!tables.is_array() || std::find(tables.begin(), tables.end(), Json(module)) == tables.end())
    return std::nullopt;
  QuantSpec spec = read_args(embeddings, "embeddings");
  if (json_string(embeddings, "codes", "full") == "restricted") spec.codes = CodeRange::kRestricted;
  if (json_string(embeddings, "step", "half_range") == "max_code")
    spec.step_rule = StepRule::kMaxCode;
  require(spec.granularity == Granularity::kPerChannel && !spec.dynamic, ErrorCode::kInvalidInput,
          "section \"quell\": embeddings need one step a row");
  return spec;
}

void record_table(const QuantSpec& spec, const std::string& module, Json& config) {
  Json& embeddings = config[kQuellKey]["embeddings"];
  if (embeddings.is_null())
    embeddings = {{"num_bits", spec.num_bits},
                  {"symmetric", spec.symmetric},
                  {"strategy", granularity_name(spec.granularity)},
                  {"codes", spec.codes == CodeRange::kRestricted ? "restricted" : "full"},
                  {"step", spec.step_rule == StepRule::kMaxCode ? "max_code" : "half_range"},
                  {"tables", Json::array()}};
  Json& tables = embeddings["tables"];
  if (std::find(tables.begin(), tables.end(), Json(module)) == tables.end())
    tables.push_back(module);
}

bool is_coded_head(const Json& config, const std::string& module) {
  const Json& heads = member(member(config, kQuellKey), "coded_heads");
  return heads.is_array() && std::find(heads.begin(), heads.end(), Json(module)) != heads.end();
}

QTensor read_qtensor(const Checkpoint& checkpoint, const std::string& weight_name,
                     const QuantSpec& spec, const Packing& packing, const Shape& shape,
                     std::set<std::string>& used) {
  const std::string module = module_of(weight_name);
  const std::int64_t rows = shape[0], cols = shape[1], stored_rows = rows * packing.parts;
  const bool is_kernel = packing.taps() > 0;
  Shape stored = packing.transposed ? Shape{cols, stored_rows} : Shape{stored_rows, cols};
  if (is_kernel) stored = packed_shape(packing, shape);
  if (spec.granularity == Granularity::kPerGroup)
    validate(spec, cols, "tensor \"" + weight_name + "\"");
  require(packing.parts == 1 || spec.granularity != Granularity::kPerTensor,
          ErrorCode::kUnsupported, "tensor \"", weight_name,
          "\": one step for a tensor that holds several matrices is not supported");
  const std::vector<std::int32_t> all =
      read_stored_codes(checkpoint, weight_name, stored, spec.num_bits, used);
  QTensor q;
  q.spec = spec;
  q.codes = Tensor(DType::kI16, shape);
  const int offset =
      spec.symmetric ? 0 : 1 << (spec.num_bits - 1);  // the format stores signed codes
  const std::string source = checkpoint.source_of(module + ".weight_scale");
  const int min_code = spec.min_code(), max_code = spec.max_code();
  const std::span<std::int16_t> to = q.codes.as<std::int16_t>();
  for (std::int64_t r = 0; r < rows; ++r) {
    const std::int64_t from = packed_row(packing, r, rows);
    for (std::int64_t c = 0; c < cols; ++c) {
      std::int64_t at = packing.transposed ? c * stored_rows + from : from * cols + c;
      if (is_kernel) at = packed_index(packing, r, c, shape);
      const std::int32_t found = all[static_cast<std::size_t>(at)];
      require(found + offset >= min_code && found + offset <= max_code, ErrorCode::kInvalidInput,
              source, ": tensor \"", weight_name, "\": code ", found, " does not fit ",
              spec.num_bits, " bits");
      to[static_cast<std::size_t>(r * cols + c)] = static_cast<std::int16_t>(found + offset);
    }
  }
  // Steps and zero points lie row by row of the stored matrix, one or a group's worth each.
  const std::int64_t groups = num_groups(q.codes, spec), per_row = groups / rows;
  const auto rows_of = [&](const auto& from, auto target) {
    if (packing.parts == 1) {
      std::copy(from.begin(), from.end(), target.begin());
      return;
    }
    for (std::int64_t r = 0; r < rows; ++r)
      std::copy_n(from.begin() + packed_row(packing, r, rows) * per_row, per_row,
                  target.begin() + r * per_row);
  };
  const std::string scale_name = module + ".weight_scale",
                    zero_name = module + ".weight_zero_point";
  const Tensor scales =
      read_scales(need_tensor(checkpoint, scale_name, used), scale_name, groups * packing.parts);
  q.qparams.scale = Tensor::f32({groups});
  rows_of(scales.f32(), q.qparams.scale.f32());
  q.qparams.zero_point = Tensor(DType::kI32, {groups});
  if (spec.symmetric) return q;

  const bool whole = spec.granularity == Granularity::kPerTensor;
  std::vector<std::int32_t> zeros = read_stored_zero_points(
      checkpoint, weight_name, whole ? 1 : stored_rows, whole ? 1 : per_row, spec.num_bits, used);
  for (std::int32_t& z : zeros) {
    z += offset;
    require(z >= 0 && z <= spec.max_code(), ErrorCode::kInvalidInput, "tensor \"", zero_name,
            "\": zero point ", z - offset, " does not fit ", spec.num_bits, " bits");
  }
  rows_of(zeros, q.qparams.zero_point.as<std::int32_t>());
  return q;
}

QTensor read_quantized_weight(const Checkpoint& checkpoint, const Json& config,
                              const std::string& weight_name, const Packing& packing,
                              const Shape& shape, std::set<std::string>& used) {
  const QuantSpec spec = read_args(member(config_group(config, weight_name), "weights"), "weights");
  return read_qtensor(checkpoint, weight_name, spec, packing, shape, used);
}

ActivationQuant read_input_quant(const Checkpoint& checkpoint, const Json& config,
                                 const std::string& weight_name, std::set<std::string>& used) {
  const Json& group = config_group(config, weight_name);
  ActivationQuant quant;
  quant.spec = read_args(member(group, "input_activations"), "input_activations");
  const Json& ours = member(config, kQuellKey);
  if (json_string(ours, "input_codes", "full") == "restricted")
    quant.spec.codes = CodeRange::kRestricted;
  if (json_string(ours, "input_step", "half_range") == "max_code")
    quant.spec.step_rule = StepRule::kMaxCode;
  if (quant.spec.dynamic) return quant;
  const std::string scale = module_of(weight_name) + ".input_scale",
                    zero = module_of(weight_name) + ".input_zero_point";
  quant.qparams.scale = read_scales(need_tensor(checkpoint, scale, used), scale, 1).f32()[0];
  if (!quant.spec.symmetric) {
    const std::vector<std::int32_t> zeros = to_i32(need_tensor(checkpoint, zero, used), zero);
    require(zeros.size() == 1, ErrorCode::kInvalidInput, "tensor \"", zero,
            "\": expected one element");
    quant.qparams.zero_point = zeros[0] + (1 << (quant.spec.num_bits - 1));
    require(quant.qparams.zero_point >= 0 && quant.qparams.zero_point <= quant.spec.max_code(),
            ErrorCode::kInvalidInput, "tensor \"", zero, "\": zero point ", zeros[0],
            " does not fit ", quant.spec.num_bits, " bits");
  }
  return quant;
}

Shape with_added_channels(const Json& config, Shape shape, Param& p) {
  const Json& added = member(member(config, kQuellKey), "added_channels");
  if (!added.is_object() || !added.contains(p.module)) return shape;
  const Json& counts = added[p.module];
  require(shape.rank() == 2 && p.packing.parts == 1 && counts.is_object(), ErrorCode::kInvalidInput,
          "section \"quell\": added_channels of \"", p.module, "\" do not fit that module");
  p.added_rows = json_int(counts, "rows", 0, kMaxDim, 0);
  p.added_columns = json_int(counts, "columns", 0, kMaxDim, 0);
  return {shape[0] + p.added_rows, shape[1] + p.added_columns};
}

std::string added_tensor_name(const Param& p, const std::string& suffix) {
  return kAddedPrefix + p.module + (p.packing.parts > 1 ? "." + p.label : "") + suffix;
}

void read_added_tensors(const Checkpoint& checkpoint, const Shape& weight_shape, Param& p,
                        std::set<std::string>& used) {
  const auto read = [&](const char* suffix, Tensor& to, bool& added) {
    const std::string name = added_tensor_name(p, suffix);
    Tensor found = read_vector(checkpoint, name, weight_shape[0]);
    if (!found.defined()) return;
    used.insert(name);
    to = std::move(found);
    added = true;
  };
  if (weight_shape.rank() == 1) read(".weight", p.weight, p.added_weight);
  read(".bias", p.bias, p.added_bias);
}

Json activation_quant_to_json(const ActivationQuant& quant) {
  return {{"num_bits", quant.spec.num_bits},
          {"symmetric", quant.spec.symmetric},
          {"strategy", granularity_name(quant.spec.granularity)},
          {"dynamic", quant.spec.dynamic},
          {"group_size", quant.spec.group_size},
          {"codes", quant.spec.codes == CodeRange::kRestricted ? "restricted" : "full"},
          {"step", quant.spec.step_rule == StepRule::kMaxCode ? "max_code" : "half_range"},
          {"scale", quant.qparams.scale},
          {"zero_point", quant.qparams.zero_point}};
}

ActivationQuant activation_quant_from_json(const Json& json) {
  ActivationQuant quant;
  quant.spec = read_args(json, "activation quantizer");
  quant.spec.codes = json_string(json, "codes", "full") == "restricted" ? CodeRange::kRestricted
                                                                        : CodeRange::kFull;
  quant.spec.step_rule = json_string(json, "step", "half_range") == "max_code"
                             ? StepRule::kMaxCode
                             : StepRule::kHalfRange;
  quant.qparams.scale = static_cast<float>(json_number(json, "scale", 1.0));
  require(quant.qparams.scale > 0 && std::isfinite(quant.qparams.scale), ErrorCode::kInvalidInput,
          "key \"scale\": must be positive and fit f32");
  quant.qparams.zero_point = static_cast<std::int32_t>(
      json_int(json, "zero_point", quant.spec.min_code(), quant.spec.max_code(), 0));
  return quant;
}

namespace {

using NodeOf = std::function<NodeId(const std::string& label)>;

/// Scales and shifts of channels, by the label of what computes the value.
void read_affines(const Checkpoint& checkpoint, const std::string& prefix, const NodeOf& node_of,
                  Model& model) {
  const std::string suffix = ".scale";
  for (const auto& [name, view] : checkpoint.tensors()) {
    if (!name.starts_with(prefix) || !name.ends_with(suffix)) continue;
    const std::string label =
        name.substr(prefix.size(), name.size() - prefix.size() - suffix.size());
    const ValueId value = model.graph.node(node_of(label)).out;
    std::int64_t size = model.graph.value(value).type.columns;
    for (const NodeId reader : readers_of(model.graph, value))  // a linear may be wider (fc2)
      if (model.graph.node(reader).is(op_linear)) size = model.param_of(reader).weight.cols();

    ChannelAffine affine{read_vector(checkpoint, name, size),
                         read_vector(checkpoint, prefix + label + ".shift", size)};
    if (prefix == kRestorePrefix)
      set_restore(model.graph, value, std::move(affine));
    else
      set_explicit_affine(model.graph, value, std::move(affine));
  }
}

/// A ReLU6 whose channels were scaled.
void read_clamps(const Checkpoint& checkpoint, const NodeOf& node_of, Model& model) {
  const std::string prefix = kClampPrefix;
  const std::string suffix = ".high";
  for (const auto& [name, view] : checkpoint.tensors()) {
    if (!name.starts_with(prefix) || !name.ends_with(suffix)) continue;
    const std::string label =
        name.substr(prefix.size(), name.size() - prefix.size() - suffix.size());
    const NodeId n = node_of(label);
    const std::int64_t channels = model.graph.value(model.graph.node(n).out).type.columns;
    const Tensor high = read_vector(checkpoint, name, channels);
    const bool is_relu6 = model.graph.node(n).is(op_activation) &&
                          activation_of(model.graph.node(n)) == ActivationKind::kRelu6;
    require(is_relu6, ErrorCode::kInvalidInput, checkpoint.source_of(name), ": tensor \"", name,
            "\": \"", label, "\" is no ReLU6");
    for (const float bound : high.f32())
      require(bound > 0.0F, ErrorCode::kInvalidInput, checkpoint.source_of(name), ": tensor \"",
              name, "\": a bound is not positive");

    Node by = model.graph.node(n);
    by.op = &op_clamp;
    by.attributes = Attributes::of(ClampAttributes{{high.f32().begin(), high.f32().end()}});
    model.graph.replace(n, std::move(by));
  }
}

void read_groups(const Checkpoint& checkpoint, const NodeOf& node_of, Model& model) {
  const std::string prefix = kGroupsPrefix;
  const std::string suffix = ".channels";
  for (const auto& [name, view] : checkpoint.tensors()) {
    if (!name.starts_with(prefix) || !name.ends_with(suffix)) continue;
    const std::string whole = name.substr(0, name.size() - suffix.size());
    const std::string label = whole.substr(prefix.size());
    const ValueId value = model.graph.node(node_of(label)).out;
    const ActivationQuant* found = input_quant_of(model.graph, value);
    require(found && is_static_per_tensor(*found), ErrorCode::kInvalidInput,
            checkpoint.source_of(name), ": tensor \"", name, "\": nothing reads \"", label,
            "\" with static steps");

    ActivationQuant quant = *found;
    ChannelGroups groups = read_channel_groups(checkpoint, whole, quant.spec);
    for (const NodeId reader : readers_of(model.graph, value))
      require(!model.graph.node(reader).is(op_linear) ||
                  model.param_of(reader).weight.cols() ==
                      static_cast<std::int64_t>(groups.channels.size()),
              ErrorCode::kInvalidInput, checkpoint.source_of(name), ": tensor \"", name,
              "\" does not fit what reads it");
    quant.groups = std::make_shared<const ChannelGroups>(std::move(groups));
    model.graph.set_attributes(quantize_node(model.graph, value), Attributes::of(quant));
  }
}

/// Quantizers of values that no module of the file reads: pools of means do, and heads that are
/// tied to a table.
void read_inputs(const Json& ours, const NodeOf& node_of, Model& model) {
  const Json& inputs = member(ours, "inputs");
  if (inputs.is_null()) return;
  require(inputs.is_object(), ErrorCode::kInvalidInput,
          "section \"quell\": inputs must be an object of values and their quantizers");
  for (const auto& [name, json] : inputs.items()) {
    const ValueId value = model.graph.node(node_of(name)).out;
    set_input_quant(
        model.graph, value, activation_quant_from_json(json), model.residual_after_quant,
        [&](const Node& product) { return model.param(product.param).quantized.has_value(); });
  }
}

}  // namespace

void read_quell_section(const Checkpoint& checkpoint, Model& model) {
  const Json& ours = member(*model.config, kQuellKey);
  if (ours.is_null()) return;
  model.residual_after_quant = json_bool(ours, "residual_after_quant", false);
  // What a family computes, in floats; not what earlier lines of the file have put in.
  std::map<std::string, NodeId> nodes;
  for (NodeId n = 0; n < model.graph.num_nodes(); ++n)
    if (!model.graph.is_inserted(n) && !model.graph.node(n).is(op_position_ids))
      nodes[model.node_name(n)] = n;
  const NodeOf node_of = [&](const std::string& name) {
    const auto it = nodes.find(name);
    require(it != nodes.end(), ErrorCode::kInvalidInput, "section \"quell\" names \"", name,
            "\", which this model does not have");
    return it->second;
  };
  const Json& attention = member(ours, "attention");
  if (attention.is_object())
    for (const auto& [name, points] : attention.items()) {
      AttentionQuant found;
      const auto quant = found.points();
      for (std::size_t i = 0; i < quant.size(); ++i)
        if (points.contains(AttentionQuant::kNames[i]))
          *quant[i] = activation_quant_from_json(points[AttentionQuant::kNames[i]]);
      const NodeId node = node_of(name);
      require(model.graph.node(node).is(op_attention), ErrorCode::kInvalidInput,
              "section \"quell\": \"", name, "\" is no attention");
      set_attention_quant(model.graph, node, std::move(found));
    }
  read_clamps(checkpoint, node_of, model);
  read_affines(checkpoint, kExplicitPrefix, node_of, model);
  read_affines(checkpoint, kRestorePrefix, node_of, model);
  if (model.residual_after_quant)
    for (const ValueId v : bases_with(model.graph, op_quantize)) {
      const ActivationQuant quant = *input_quant_of(model.graph, v);
      set_input_quant(model.graph, v, quant, true, [](const Node&) { return false; });
    }
  read_groups(checkpoint, node_of, model);
  read_inputs(ours, node_of, model);
  std::erase_if(model.unused_tensors, [](const std::string& n) { return n.starts_with("quell."); });
}

}  // namespace quell
