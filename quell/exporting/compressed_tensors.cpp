#include "quell/exporting/compressed_tensors.h"

#include <algorithm>

#include "quell/base/error.h"
#include "quell/base/log.h"
#include "quell/engine/engines.h"
#include "quell/exporting/module_names.h"
#include "quell/exporting/own_features.h"
#include "quell/exporting/sentence_modules.h"
#include "quell/exporting/side_files.h"
#include "quell/graph/forms.h"
#include "quell/graph/image_ops.h"
#include "quell/io/json.h"
#include "quell/io/output_file.h"
#include "quell/io/safetensors.h"
#include "quell/model/family.h"
#include "quell/model/quantized_checkpoint.h"
#include "quell/model/stored_codes.h"
#include "quell/quant/packed_codes.h"
#include "quell/quant/quantize.h"

namespace quell {
namespace fs = std::filesystem;
namespace {

Json quantizer_args(const QuantSpec& spec, bool weights) {
  Json args = {{"num_bits", spec.num_bits},   {"type", "int"},
               {"symmetric", spec.symmetric}, {"strategy", granularity_name(spec.granularity)},
               {"group_size", nullptr},       {"dynamic", spec.dynamic}};
  if (spec.granularity == Granularity::kPerGroup) args["group_size"] = spec.group_size;
  args["observer"] = weights        ? "memoryless_minmax"
                     : spec.dynamic ? "memoryless_minmax"
                                    : "static_minmax";
  args["observer_kwargs"] = Json::object();
  return args;
}

/// Codes of one stored matrix.
struct CodeLayout {
  std::string weight_name, module;  ///< as the library's class calls them
  bool packed = false;              ///< several codes a word
  bool by_row = false;  ///< a step for the whole tensor is written once a row, which means the same
                        ///< (of several matrices in one tensor)
};

/// Signed codes of a convolution as they lie in the file, [out, in, height, width].
Tensor stored_kernel_codes(const Param& p) {
  const QTensor& q = *p.quantized;
  const int offset = q.spec.symmetric ? 0 : 1 << (q.spec.num_bits - 1);
  Tensor out(DType::kI8, packed_shape(p.packing, q.codes.shape()));
  const std::span<const std::int16_t> codes = q.codes.as<std::int16_t>();
  const std::int64_t columns = q.codes.cols();
  for (std::int64_t r = 0; r < q.codes.rows(); ++r)
    for (std::int64_t c = 0; c < columns; ++c) {
      const std::int64_t to = packed_index(p.packing, r, c, q.codes.shape());
      const int code = codes[static_cast<std::size_t>(r * columns + c)] - offset;
      out.as<std::int8_t>()[static_cast<std::size_t>(to)] = static_cast<std::int8_t>(code);
    }
  q.codes.drop_pages();
  return out;
}

/// Signed codes of `parts` as they lie in the file, one a byte.
Tensor stored_codes(const Parts& parts) {
  const Param& first = *parts.front();
  if (first.packing.taps() > 0) return stored_kernel_codes(first);
  return pack<std::int8_t>(
      DType::kI8, parts, first.quantized->codes.cols(), first.packing.transposed,
      [](const Param& p) {
        const QuantSpec& spec = p.quantized->spec;
        const int offset =
            spec.symmetric ? 0 : 1 << (spec.num_bits - 1);  // the format stores signed codes
        std::vector<int> codes;
        for (const std::int16_t c : p.quantized->codes.as<std::int16_t>())
          codes.push_back(c - offset);
        p.quantized->codes.drop_pages();
        return codes;
      });
}

void add_codes(const Parts& parts, const CodeLayout& layout, StoredKind kind, TensorSet& out) {
  const Param& first = *parts.front();
  const QTensor& q = *first.quantized;
  Shape shape = packed_shape(static_cast<std::int64_t>(parts.size()), q.codes.rows(),
                             q.codes.cols(), first.packing.transposed);
  if (first.packing.taps() > 0) shape = packed_shape(first.packing, q.codes.shape());
  const int bits = q.spec.num_bits;
  if (!layout.packed) {
    out.add(
        layout.weight_name, DType::kI8, shape, [parts] { return stored_codes(parts); }, kind);
    return;
  }
  const Shape words = {shape[0], packed_words(shape[1], bits)};
  out.add(
      layout.weight_name + kPackedSuffix, DType::kI32, words,
      [=] { return pack_stored_codes(stored_codes(parts), bits); }, kind);
  const std::array<std::int64_t, 2> sizes = {shape[0], shape[1]};
  out.add(layout.weight_name + kShapeSuffix, Tensor::from<std::int64_t>(sizes, {2}),
          StoredKind::kSteps);
}

void add_steps(const Parts& parts, const CodeLayout& layout, TensorSet& out) {
  const QTensor& q = *parts.front()->quantized;
  const int bits = q.spec.num_bits, offset = q.spec.symmetric ? 0 : 1 << (bits - 1);
  const std::int64_t rows = q.codes.rows(), steps = q.qparams.scale.numel();
  const bool whole = steps == 1 && !layout.by_row;
  const std::int64_t per_row = steps == 1 ? 1 : steps / rows;
  const auto spread = [&](auto values) {
    using T = typename decltype(values)::value_type;
    return steps == 1 && layout.by_row ? std::vector<T>(static_cast<std::size_t>(rows), values[0])
                                       : values;
  };
  Tensor scale = pack<float>(DType::kF32, parts, per_row, false, [&](const Param& p) {
    const auto s = p.quantized->qparams.scale.f32();
    return spread(std::vector<float>(s.begin(), s.end()));
  });
  if (whole) scale.reshape({1});
  const Shape scale_shape = scale.shape();
  out.add(layout.module + ".weight_scale", std::move(scale), StoredKind::kSteps);
  if (q.spec.symmetric) return;

  Tensor zero = pack<std::int8_t>(DType::kI8, parts, per_row, false, [&](const Param& p) {
    std::vector<int> zeros;
    for (const std::int32_t z : p.quantized->qparams.zero_point.as<std::int32_t>())
      zeros.push_back(z - offset);
    return spread(zeros);
  });
  zero.reshape(scale_shape);
  out.add(layout.module + ".weight_zero_point",
          layout.packed && !whole ? pack_stored_zero_points(zero, bits) : std::move(zero),
          StoredKind::kSteps);
}

void add_input_steps(const ActivationQuant& input, const CodeLayout& layout, TensorSet& out) {
  if (input.spec.dynamic) return;
  Tensor input_scale = Tensor::f32({1});
  input_scale.f32()[0] = input.qparams.scale;
  out.add(layout.module + ".input_scale", std::move(input_scale), StoredKind::kSteps);
  if (input.spec.symmetric) return;
  Tensor input_zero(DType::kI8, {1});
  input_zero.as<std::int8_t>()[0] =
      static_cast<std::int8_t>(input.qparams.zero_point - (1 << (input.spec.num_bits - 1)));
  out.add(layout.module + ".input_zero_point", std::move(input_zero), StoredKind::kSteps);
}

class Exporter {
 public:
  explicit Exporter(const Model& model)
      : model_(model),
        source_(original_of(model)),
        names_(model),
        own_features_(quell::own_features(model)),
        narrow_(float_type_of(source_)) {
    for (NodeId n = 0; n < model.graph.num_nodes(); ++n)
      if (model.graph.node(n).param >= 0 && !reads_constant_input(n))
        node_of_[model.graph.node(n).param] = n;
    for (const Param& p : model.params) by_row_ |= p.packing.parts > 1;
    for (std::size_t i = 0; i < model.params.size(); ++i) add_param(static_cast<int>(i));
    add_second_head();
    add_affines(kRestorePrefix, op_restore);
    add_affines(kExplicitPrefix, op_affine);
    add_clamps();
    for (const ValueId value : bases_with(model.graph, op_quantize)) {
      const ActivationQuant& quant = *input_quant_of(model.graph, value);
      if (quant.groups) add_groups(*quant.groups, kGroupsPrefix + label_of(value));
    }
  }

  const TensorSet& tensors() const { return tensors_; }
  const std::vector<std::string>& own_features() const { return own_features_; }

  Json config() const {
    Json config = *model_.config;
    const Param* first = nullptr;
    const ActivationQuant* input = nullptr;
    for (std::size_t i = 0; i < model_.params.size(); ++i)
      if (has_module_of_codes(model_.params[i])) {
        first = &model_.params[i];
        input = &input_of(static_cast<int>(i));
      }
    require(first, ErrorCode::kUsage, "nothing is quantized, so there is nothing to export");
    const QuantSpec weights = weight_spec(first->quantized->spec);
    const std::string format = format_name(weights);
    // Readers of compressed-tensors look at the group's own format, older ones at the one above.
    config["quantization_config"] = {{"quant_method", "compressed-tensors"},
                                     {"format", format},
                                     {"quantization_status", "compressed"},
                                     {"global_compression_ratio", nullptr},
                                     {"kv_cache_scheme", nullptr},
                                     {"ignore", ignored_modules(model_)},
                                     {"config_groups",
                                      {{"group_0",
                                        {{"targets", {"Linear"}},
                                         {"format", format},
                                         {"weights", quantizer_args(weights, true)},
                                         {"input_activations", quantizer_args(input->spec, false)},
                                         {"output_activations", nullptr}}}}}};
    config[kQuellKey].update(own_section(*input));
    return config;
  }

 private:
  std::string format_name(const QuantSpec& weights) const {
    const bool packed = is_packed(weights.num_bits);
    if (own_features_.empty()) return packed ? "pack-quantized" : "int-quantized";
    return packed ? kOwnPackedFormat : kOwnIntFormat;
  }

  /// Of the node that computes a value.
  const std::string& label_of(ValueId base) const { return model_.graph.producer_of(base).label; }

  void add_affines(const std::string& prefix, const OpDef& op) {
    for (const ValueId value : bases_with(model_.graph, op)) {
      const ChannelAffine& affine = op.name == op_restore.name
                                        ? *restore_of(model_.graph, value)
                                        : *explicit_affine_of(model_.graph, value);
      const std::string name = prefix + label_of(value);
      tensors_.add(name + ".scale", affine.scale.clone());
      if (affine.shift.defined()) tensors_.add(name + ".shift", affine.shift.clone());
    }
  }

  void add_clamps() {
    for (const NodeId n : model_.graph.order()) {
      const Node& node = model_.graph.node(n);
      if (!node.is(op_clamp)) continue;
      const std::vector<float>& high = node.attributes.get<ClampAttributes>().high;
      const auto channels = static_cast<std::int64_t>(high.size());
      tensors_.add(kClampPrefix + node.label + ".high", Tensor::from<float>(high, {channels}));
    }
  }

  const ActivationQuant& input_of(int param) const {
    return *input_quant_of(model_.graph, model_.graph.node(node_of_.at(param)).in[0]);
  }

  /// The codes of a head that is tied to a table are those of the table.
  static bool has_module_of_codes(const Param& p) { return p.quantized && p.tied_to == kNoParam; }

  bool reads_constant_input(int n) const {
    return model_.graph.node(n).is(op_linear) && reads_constant(model_, n);
  }

  QuantSpec weight_spec(QuantSpec spec) const {
    if (by_row_ && spec.granularity == Granularity::kPerTensor)
      spec.granularity = Granularity::kPerChannel;
    return spec;
  }

  /// Codes of convolutions, and of linears beside them, lie one a byte.
  bool is_packed(int num_bits) const {
    const bool has_kernels = model_.graph.has(op_conv2d) || model_.graph.has(op_conv_transpose2d);
    return num_bits <= kMaxPackedBits && !has_kernels;
  }

  CodeLayout layout_of(const Param& p, int num_bits) const {
    const std::string weight = names_.of_class(p.weight_name);
    return {weight, weight.substr(0, weight.size() - std::string_view(".weight").size()),
            is_packed(num_bits), by_row_};
  }

  void add_param(int index) {
    const Param& p = model_.params[static_cast<std::size_t>(index)];
    const std::vector<std::string>& folded = model_.folded_batch_norms;
    if (std::find(folded.begin(), folded.end(), p.module) != folded.end()) return;
    if (p.bias.defined() && p.added_bias) tensors_.add(added_tensor_name(p, ".bias"), p.bias);
    if (p.packing.part > 0) return;  // written with the first part
    const Parts parts = parts_of(model_, p);
    if (has_module_of_codes(p)) {
      for (const Param* part : parts)
        require(part->quantized.has_value(), ErrorCode::kUsage, p.weight_name,
                ": holds several matrices, of which only some are quantized; quantize or ignore "
                "all of them");
      const CodeLayout layout = layout_of(p, p.quantized->spec.num_bits);
      add_codes(parts, layout, StoredKind::kCodes, tensors_);
      add_steps(parts, layout, tensors_);
      add_input_steps(input_of(index), layout, tensors_);
    } else if (p.packed_table.defined()) {
      add_table(p);
    } else if (p.tied_to < 0 && p.weight.defined() && p.added_weight) {
      tensors_.add(added_tensor_name(p, ".weight"), p.weight);
    } else if (p.tied_to < 0 && p.weight.defined()) {
      add_weight(parts, names_.of_class(p.weight_name), kind_of(model_, p), narrow_, tensors_);
    }
    for (std::size_t i = 0; i < p.vectors.size(); ++i)
      tensors_.add(names_.of_class(p.vector_names[i]), p.vectors[i]);
    if (!p.bias.defined() || p.added_bias) return;
    tensors_.add(names_.of_class(p.bias_name), as_stored(stored_bias(parts, source_), narrow_));

    // Classes tie the bias of a language model's head to its second name only together with the
    // weight.
    const std::string own_bias = p.module + ".bias";
    if (p.role == Role::kLmHead && p.tied_to < 0 && p.bias_name != own_bias)
      tensors_.add(names_.of_class(own_bias), as_stored(stored_bias(parts, source_), narrow_));
  }

  /// A head that the library's class has and Quell does not compute.
  void add_second_head() {
    if (!architecture_of(Settings(*model_.config)).ends_with("ForPreTraining")) return;
    for (const std::string& module : linears_of_other_classes(model_.spec.model_type))
      for (const char* suffix : {".weight", ".bias"})
        if (const auto it = source_.tensors().find(module + suffix); it != source_.tensors().end())
          tensors_.add(module + suffix, Tensor::copy_of(it->second), StoredKind::kFloatLinears);
  }

  /// A quantized table: its codes; or, where a head multiplies with another, float table, that one,
  /// from which a reader makes the codes.
  void add_table(const Param& p) {
    const int index = static_cast<int>(&p - model_.params.data());
    const bool head_reads_it =
        std::any_of(model_.params.begin(), model_.params.end(),
                    [&](const Param& other) { return other.tied_to == index; });
    if (head_reads_it && !p.table_codes) {
      add_weight({&p}, names_.of_class(p.weight_name), StoredKind::kEmbeddings, narrow_, tensors_);
      return;
    }
    const QuantSpec spec = table_spec(*model_.config, p.module).value();
    coded_tables_.push_back(std::make_unique<Param>());
    Param& coded = *coded_tables_.back();
    coded.quantized = p.table_codes ? p.table_codes->clone() : quantize_weight(p.weight, spec);
    const CodeLayout layout = layout_of(p, spec.num_bits);
    add_codes({&coded}, layout, StoredKind::kEmbeddings, tensors_);
    add_steps({&coded}, layout, tensors_);
  }

  void add_groups(const ChannelGroups& groups, const std::string& name) {
    const auto count = static_cast<std::int64_t>(groups.steps.size());
    Tensor channels(DType::kI32, {static_cast<std::int64_t>(groups.channels.size())}),
        zero(DType::kI32, {count});
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
    std::vector<std::string> coded_heads;
    for (const Param& p : model_.params)
      if (p.quantized && !has_module_of_codes(p)) coded_heads.push_back(p.module);

    Json own = {
        {"version", coded_heads.empty() ? 2 : 3},
        {"input_codes", input.spec.codes == CodeRange::kRestricted ? "restricted" : "full"},
        {"input_step", input.spec.step_rule == StepRule::kMaxCode ? "max_code" : "half_range"},
        {"residual_after_quant", model_.residual_after_quant}};
    if (!coded_heads.empty()) own["coded_heads"] = coded_heads;
    if (const std::vector<std::string> accepted = model_.dir.accepted().met(); !accepted.empty())
      own["accepted"] = accepted;
    for (const Param& p : model_.params)
      if (p.added_rows + p.added_columns > 0)
        own["added_channels"][p.module] = {{"rows", p.added_rows}, {"columns", p.added_columns}};
    if (!model_.folded_batch_norms.empty()) own["folded_batch_norms"] = model_.folded_batch_norms;
    for (const ValueId value : bases_with(model_.graph, op_quantize)) {
      const std::vector<NodeId> readers = readers_of(model_.graph, value);
      const bool is_with_product = std::any_of(readers.begin(), readers.end(), [&](NodeId n) {
        const Node& reader = model_.graph.node(n);
        return reader.op->product && has_module_of_codes(model_.param(reader.param));
      });
      if (!is_with_product)
        own["inputs"][label_of(value)] =
            activation_quant_to_json(*input_quant_of(model_.graph, value));
    }
    for (const NodeId node : quantized_attentions(model_.graph)) {
      const AttentionQuant& quant = *attention_quant_of(model_.graph.node(node));
      Json points = Json::object();
      for (std::size_t i = 0; i < quant.points().size(); ++i)
        if (const auto& point = *quant.points()[i])
          points[AttentionQuant::kNames[i]] = activation_quant_to_json(*point);
      own["attention"][model_.node_name(node)] = points;
    }
    return own;
  }

  const Model& model_;
  const Checkpoint source_;  ///< what the model was read from
  const ModuleNames names_;
  const std::vector<std::string> own_features_;
  const DType narrow_;  ///< of float tensors, where it loses nothing
  std::map<int, int> node_of_;
  std::vector<std::unique_ptr<Param>> coded_tables_;  ///< codes of quantized tables
  TensorSet tensors_;
  bool by_row_ = false;  ///< some tensor holds several matrices
};

}  // namespace

ExportSummary export_compressed_tensors(const Model& model, const fs::path& out, bool replace) {
  const Exporter exporter(model);
  OutputDirectory directory(out, replace);
  ExportSummary summary{
      exporter.tensors().bytes(), exporter.own_features(),
      copy_side_files(model.dir.path(), directory.staging(), sentence_modules_of(model))};
  copy_sentence_modules(model, directory.staging());
  write_text_file(directory.staging() / "config.json", exporter.config().dump(2) + "\n");
  write_safetensors(directory.staging() / "model.safetensors", exporter.tensors().sources(),
                    {{"format", "pt"}});
  directory.commit();
  return summary;
}

}  // namespace quell
