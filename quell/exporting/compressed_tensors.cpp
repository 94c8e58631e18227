#include "quell/exporting/compressed_tensors.h"

#include <algorithm>

#include "quell/base/error.h"
#include "quell/base/log.h"
#include "quell/io/checkpoint.h"
#include "quell/io/output_file.h"
#include "quell/io/safetensors.h"
#include "quell/model/quantized_checkpoint.h"

namespace quell {
namespace fs = std::filesystem;
namespace {

constexpr std::uintmax_t kMaxCopiedFile = 64U << 20;

Json quantizer_args(const QuantSpec& spec, bool weights) {
  Json args = {{"num_bits", spec.num_bits},   {"type", "int"},
               {"symmetric", spec.symmetric}, {"strategy", granularity_name(spec.granularity)},
               {"group_size", nullptr},       {"dynamic", spec.dynamic}};
  if (spec.granularity == Granularity::kPerGroup) args["group_size"] = spec.group_size;
  args["observer"] = weights ? "memoryless_minmax" : spec.dynamic ? "memoryless_minmax" : "static_minmax";
  args["observer_kwargs"] = Json::object();
  return args;
}

/// Collects tensors; owns those it makes.
class TensorSet {
 public:
  void add(const std::string& name, const Tensor& t) { views_[name] = t.view(); }
  void add(const std::string& name, Tensor&& t) {
    owned_.push_back(std::make_unique<Tensor>(std::move(t)));
    views_[name] = owned_.back()->view();
  }
  const std::map<std::string, TensorView>& views() const { return views_; }

 private:
  std::vector<std::unique_ptr<Tensor>> owned_;
  std::map<std::string, TensorView> views_;
};

Shape scale_shape(const QTensor& q) {
  switch (q.spec.granularity) {
    case Granularity::kPerTensor: return {1};
    case Granularity::kPerGroup: return {q.codes.rows(), q.codes.cols() / q.spec.group_size};
    default: return {q.codes.rows(), 1};
  }
}

void add_quantized(const Param& p, const ActivationQuant& input, TensorSet& out) {
  const QTensor& q = *p.quantized;
  const int offset = q.spec.symmetric ? 0 : 1 << (q.spec.num_bits - 1);  // the format stores signed codes
  Tensor codes(DType::kI8, q.codes.shape());
  for (std::size_t i = 0; i < codes.as<std::int8_t>().size(); ++i)
    codes.as<std::int8_t>()[i] = static_cast<std::int8_t>(q.codes.as<std::int16_t>()[i] - offset);
  out.add(p.module + ".weight", std::move(codes));
  Tensor scale = q.qparams.scale.clone();
  scale.reshape(scale_shape(q));
  out.add(p.module + ".weight_scale", std::move(scale));
  if (!q.spec.symmetric) {
    Tensor zero(DType::kI8, scale_shape(q));
    for (std::size_t i = 0; i < zero.as<std::int8_t>().size(); ++i)
      zero.as<std::int8_t>()[i] = static_cast<std::int8_t>(q.qparams.zero_point.as<std::int32_t>()[i] - offset);
    out.add(p.module + ".weight_zero_point", std::move(zero));
  }
  if (input.spec.dynamic) return;
  Tensor input_scale = Tensor::f32({1});
  input_scale.f32()[0] = input.qparams.scale;
  out.add(p.module + ".input_scale", std::move(input_scale));
  if (input.spec.symmetric) return;
  Tensor input_zero(DType::kI8, {1});
  input_zero.as<std::int8_t>()[0] = static_cast<std::int8_t>(input.qparams.zero_point - (1 << (input.spec.num_bits - 1)));
  out.add(p.module + ".input_zero_point", std::move(input_zero));
}

class Exporter {
 public:
  explicit Exporter(const Model& model) : model_(model) {
    for (std::size_t n = 0; n < model.graph.nodes.size(); ++n)
      if (model.node_param[n] >= 0) node_of_[model.node_param[n]] = static_cast<int>(n);
    for (std::size_t i = 0; i < model.params.size(); ++i) add_param(static_cast<int>(i));
    for (const auto& [prefix, affines] : {std::pair(kRestorePrefix, &model.restore), {kExplicitPrefix, &model.explicit_affine}})
      for (const auto& [value, affine] : *affines) {
        const std::string name = prefix + model.node_name(model.graph.producer[static_cast<std::size_t>(value)]);
        tensors_.add(name + ".scale", affine.scale);
        if (affine.shift.defined()) tensors_.add(name + ".shift", affine.shift);
      }
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
                                         {"weights", quantizer_args(first->quantized->spec, true)},
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

  void add_param(int index) {
    const Param& p = model_.params[static_cast<std::size_t>(index)];
    if (p.quantized) {
      add_quantized(p, input_of(index), tensors_);
    } else if (p.dequantized.numel()) {
      tensors_.add(p.module + ".weight", p.dequantized);
    } else if (p.tied_to < 0 && p.weight.defined()) {
      tensors_.add((p.added_weight ? kAddedPrefix : std::string()) + p.module + ".weight", p.weight);
    }
    if (p.bias.defined()) tensors_.add(p.added_bias ? kAddedPrefix + p.module + ".bias" : p.bias_name, p.bias);
  }

  Json own_section(const ActivationQuant& input) const {
    Json own = {{"version", 1},
                {"input_codes", input.spec.codes == CodeRange::kRestricted ? "restricted" : "full"},
                {"input_step", input.spec.step_rule == StepRule::kMaxCode ? "max_code" : "half_range"},
                {"residual_after_quant", model_.residual_after_quant}};
    for (const auto& [node, quant] : model_.attention_quant) {
      Json points = Json::object();
      for (const auto& [key, point] :
           {std::pair("query", &quant.query), {"key", &quant.key}, {"value", &quant.value}, {"probs", &quant.probs}})
        if (*point) points[key] = activation_quant_to_json(**point);
      own["attention"][model_.node_name(node)] = points;
    }
    return own;
  }

  const Model& model_;
  std::map<int, int> node_of_;
  TensorSet tensors_;
};

/// Tokenizer, pooling and other settings travel with the model; weights, old configs and hidden files do not.
void copy_side_files(const fs::path& from, const fs::path& to) {
  std::error_code ec;
  for (const auto& entry : fs::directory_iterator(from, ec)) {
    const std::string name = entry.path().filename().string(), extension = entry.path().extension().string();
    if (name.starts_with(".") || name == "config.json") continue;
    if (entry.is_directory(ec)) {
      if (!fs::exists(entry.path() / "config.json", ec)) continue;
      fs::create_directory(to / name, ec);
      fs::copy_file(entry.path() / "config.json", to / name / "config.json", ec);
    } else if ((extension == ".json" || extension == ".txt" || extension == ".model") && entry.file_size(ec) <= kMaxCopiedFile &&
               name.find(".safetensors") == std::string::npos && name != "config.v4.json") {
      fs::copy_file(entry.path(), to / name, ec);
    }
    require(!ec, ErrorCode::kIo, entry.path().string(), ": cannot copy to ", to.string(), ": ", ec.message());
  }
}

}  // namespace

void export_compressed_tensors(const Model& model, const fs::path& out, bool replace) {
  const Exporter exporter(model);
  OutputDirectory directory(out, replace);
  copy_side_files(model.dir, directory.staging());
  write_text_file(directory.staging() / "config.json", exporter.config().dump(2) + "\n");
  write_safetensors(directory.staging() / "model.safetensors", exporter.tensors().views(), {{"format", "pt"}});
  directory.commit();
}

}  // namespace quell
