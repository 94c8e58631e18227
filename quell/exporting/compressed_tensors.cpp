#include "quell/exporting/compressed_tensors.h"

#include <algorithm>

#include "quell/base/error.h"
#include "quell/base/log.h"
#include "quell/exporting/stored_tensors.h"
#include "quell/io/output_file.h"
#include "quell/io/safetensors.h"
#include "quell/model/forward.h"
#include "quell/model/quantized_checkpoint.h"

namespace quell {
namespace fs = std::filesystem;
namespace {

Json quantizer_args(const QuantSpec& spec, bool weights) {
  Json args = {{"num_bits", spec.num_bits},   {"type", "int"},
               {"symmetric", spec.symmetric}, {"strategy", granularity_name(spec.granularity)},
               {"group_size", nullptr},       {"dynamic", spec.dynamic}};
  if (spec.granularity == Granularity::kPerGroup) args["group_size"] = spec.group_size;
  args["observer"] = weights ? "memoryless_minmax" : spec.dynamic ? "memoryless_minmax" : "static_minmax";
  args["observer_kwargs"] = Json::object();
  return args;
}

/// `by_row`: a step for the whole tensor is written once a row, which means the same (tensors that hold several matrices need it).
void add_quantized(const Parts& parts, const ActivationQuant& input, bool by_row, TensorSet& out) {
  const Param& first = *parts.front();
  const QTensor& q = *first.quantized;
  const int offset = q.spec.symmetric ? 0 : 1 << (q.spec.num_bits - 1);  // the format stores signed codes
  const std::int64_t rows = q.codes.rows(), cols = q.codes.cols();
  const bool transposed = first.packing.transposed;
  out.add(first.weight_name, DType::kI8, packed_shape(static_cast<std::int64_t>(parts.size()), rows, cols, transposed), [=] {
    return pack<std::int8_t>(DType::kI8, parts, cols, transposed, [&](const Param& p) {
      std::vector<int> codes;
      for (const std::int16_t c : p.quantized->codes.as<std::int16_t>()) codes.push_back(c - offset);
      p.quantized->codes.drop_pages();
      return codes;
    });
  });
  const std::int64_t steps = q.qparams.scale.numel();
  const bool whole = steps == 1 && !by_row;
  const std::int64_t per_row = steps == 1 ? 1 : steps / rows;
  const auto spread = [&](auto values) {
    using T = typename decltype(values)::value_type;
    return steps == 1 && by_row ? std::vector<T>(static_cast<std::size_t>(rows), values[0]) : values;
  };
  Tensor scale = pack<float>(DType::kF32, parts, per_row, false, [&](const Param& p) {
    const auto s = p.quantized->qparams.scale.f32();
    return spread(std::vector<float>(s.begin(), s.end()));
  });
  if (whole) scale.reshape({1});
  const Shape scale_shape = scale.shape();
  out.add(first.module + ".weight_scale", std::move(scale));
  if (!q.spec.symmetric) {
    Tensor zero = pack<std::int8_t>(DType::kI8, parts, per_row, false, [&](const Param& p) {
      std::vector<int> zeros;
      for (const std::int32_t z : p.quantized->qparams.zero_point.as<std::int32_t>()) zeros.push_back(z - offset);
      return spread(zeros);
    });
    zero.reshape(scale_shape);
    out.add(first.module + ".weight_zero_point", std::move(zero));
  }
  if (input.spec.dynamic) return;
  Tensor input_scale = Tensor::f32({1});
  input_scale.f32()[0] = input.qparams.scale;
  out.add(first.module + ".input_scale", std::move(input_scale));
  if (input.spec.symmetric) return;
  Tensor input_zero(DType::kI8, {1});
  input_zero.as<std::int8_t>()[0] = static_cast<std::int8_t>(input.qparams.zero_point - (1 << (input.spec.num_bits - 1)));
  out.add(first.module + ".input_zero_point", std::move(input_zero));
}

class Exporter {
 public:
  explicit Exporter(const Model& model) : model_(model) {
    for (std::size_t n = 0; n < model.graph.nodes.size(); ++n)
      if (model.node_param[n] >= 0 && !reads_constant_input(static_cast<int>(n)))
        node_of_[model.node_param[n]] = static_cast<int>(n);
    for (const Param& p : model.params) by_row_ |= p.packing.parts > 1;
    for (std::size_t i = 0; i < model.params.size(); ++i) add_param(static_cast<int>(i));
    for (const auto& [prefix, affines] : {std::pair(kRestorePrefix, &model.restore), {kExplicitPrefix, &model.explicit_affine}})
      for (const auto& [value, affine] : *affines) {
        const std::string name = prefix + model.node_name(model.graph.producer[static_cast<std::size_t>(value)]);
        tensors_.add(name + ".scale", affine.scale);
        if (affine.shift.defined()) tensors_.add(name + ".shift", affine.shift);
      }
    for (const auto& [value, quant] : model.input_quant)
      if (quant.groups)
        add_groups(*quant.groups, kGroupsPrefix + model.node_name(model.graph.producer[static_cast<std::size_t>(value)]));
  }

  const TensorSet& tensors() const { return tensors_; }

  Json config() const {
    Json config = model_.config;
    const Param* first = nullptr;
    const ActivationQuant* input = nullptr;
    std::vector<std::string> ignore;
    for (std::size_t i = 0; i < model_.params.size(); ++i) {
      const Param& p = model_.params[i];
      if (p.quantized) {
        first = &p;
        input = &input_of(static_cast<int>(i));
      } else if (p.weight.shape().rank() == 2 && is_linear(static_cast<int>(i))) {
        ignore.push_back(p.module);
      } else if (p.tied_to >= 0) {
        ignore.push_back(p.module);
      }
    }
    ignore.erase(std::unique(ignore.begin(), ignore.end()), ignore.end());
    require(first, ErrorCode::kUsage, "nothing is quantized, so there is nothing to export");
    config["quantization_config"] = {{"quant_method", "compressed-tensors"},
                                     {"format", "int-quantized"},
                                     {"quantization_status", "compressed"},
                                     {"global_compression_ratio", nullptr},
                                     {"kv_cache_scheme", nullptr},
                                     {"ignore", ignore},
                                     {"config_groups",
                                      {{"group_0",
                                        {{"targets", {"Linear"}},
                                         {"weights", quantizer_args(weight_spec(first->quantized->spec), true)},
                                         {"input_activations", quantizer_args(input->spec, false)},
                                         {"output_activations", nullptr}}}}}};
    config[kQuellKey] = own_section(*input);
    return config;
  }

 private:
  bool is_linear(int param) const {
    const auto it = node_of_.find(param);
    return it != node_of_.end() && model_.graph.nodes[static_cast<std::size_t>(it->second)].kind == StepKind::kLinear;
  }

  const ActivationQuant& input_of(int param) const {
    return model_.input_quant.at(model_.graph.nodes[static_cast<std::size_t>(node_of_.at(param))].in[0]);
  }

  bool reads_constant_input(int n) const {
    return model_.graph.nodes[static_cast<std::size_t>(n)].kind == StepKind::kLinear && reads_constant(model_, n);
  }

  QuantSpec weight_spec(QuantSpec spec) const {
    if (by_row_ && spec.granularity == Granularity::kPerTensor) spec.granularity = Granularity::kPerChannel;
    return spec;
  }

  void add_param(int index) {
    const Param& p = model_.params[static_cast<std::size_t>(index)];
    if (p.bias.defined() && p.added_bias) tensors_.add(added_tensor_name(p, ".bias"), p.bias);
    if (p.packing.part > 0) return;  // written with the first part
    const Parts parts = parts_of(model_, p);
    if (p.quantized) {
      for (const Param* part : parts)
        require(part->quantized.has_value(), ErrorCode::kUsage, p.weight_name,
                ": holds several matrices, of which only some are quantized; quantize or ignore all of them");
      add_quantized(parts, input_of(index), by_row_, tensors_);
    } else if (p.dequantized.numel()) {
      tensors_.add(p.weight_name, p.dequantized);
    } else if (p.tied_to < 0 && p.weight.defined() && p.added_weight) {
      tensors_.add(added_tensor_name(p, ".weight"), p.weight);
    } else if (p.tied_to < 0 && p.weight.defined()) {
      add_weight(parts, tensors_);
    }
    if (!p.bias.defined() || p.added_bias) return;
    tensors_.add(p.bias_name, stored_bias(parts));
  }

  void add_groups(const ChannelGroups& groups, const std::string& name) {
    const auto count = static_cast<std::int64_t>(groups.steps.size());
    Tensor channels(DType::kI32, {static_cast<std::int64_t>(groups.channels.size())}), zero(DType::kI32, {count});
    Tensor scale = Tensor::f32({count});
    std::copy(groups.channels.begin(), groups.channels.end(), channels.as<std::int32_t>().begin());
    for (std::size_t g = 0; g < groups.steps.size(); ++g) {
      scale.f32()[g] = groups.steps[g].scale;
      zero.as<std::int32_t>()[g] = groups.steps[g].zero_point;
    }
    tensors_.add(name + ".channels", std::move(channels));
    tensors_.add(name + ".scale", std::move(scale));
    tensors_.add(name + ".zero_point", std::move(zero));
  }

  Json own_section(const ActivationQuant& input) const {
    Json own = {{"version", 1},
                {"input_codes", input.spec.codes == CodeRange::kRestricted ? "restricted" : "full"},
                {"input_step", input.spec.step_rule == StepRule::kMaxCode ? "max_code" : "half_range"},
                {"residual_after_quant", model_.residual_after_quant}};
    if (const std::vector<std::string> accepted = model_.dir.accepted().met(); !accepted.empty()) own["accepted"] = accepted;
    for (const Param& p : model_.params)
      if (p.added_rows + p.added_columns > 0)
        own["added_channels"][p.module] = {{"rows", p.added_rows}, {"columns", p.added_columns}};
    for (const auto& [node, quant] : model_.attention_quant) {
      Json points = Json::object();
      for (std::size_t i = 0; i < quant.points().size(); ++i)
        if (const auto& point = *quant.points()[i]) points[AttentionQuant::kNames[i]] = activation_quant_to_json(*point);
      own["attention"][model_.node_name(node)] = points;
    }
    return own;
  }

  const Model& model_;
  std::map<int, int> node_of_;
  TensorSet tensors_;
  bool by_row_ = false;  ///< some tensor holds several matrices
};

}  // namespace

void export_compressed_tensors(const Model& model, const fs::path& out, bool replace) {
  const Exporter exporter(model);
  OutputDirectory directory(out, replace);
  copy_side_files(model.dir.path(), directory.staging());
  write_text_file(directory.staging() / "config.json", exporter.config().dump(2) + "\n");
  write_safetensors(directory.staging() / "model.safetensors", exporter.tensors().sources(), {{"format", "pt"}});
  directory.commit();
}

}  // namespace quell
