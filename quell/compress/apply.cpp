#include "quell/compress/apply.h"

#include <algorithm>
#include <cmath>
#include <set>

#include "quell/base/error.h"
#include "quell/compress/channel_split.h"
#include "quell/graph/forms.h"
#include "quell/graph/image_ops.h"
#include "quell/io/json.h"
#include "quell/quant/quantize.h"

namespace quell {
namespace {

Tensor filled(std::int64_t n, float value) {
  Tensor t = Tensor::f32({n});
  for (float& v : t.f32()) v = value;
  return t;
}

/// b + W shift.
void add_shifted_bias(Param& p, const ColumnChannels& channels, std::span<const float> shift) {
  if (!p.bias.defined()) {
    p.bias = filled(p.weight.rows(), 0.0F);
    p.added_bias = true;
  }
  for (std::int64_t j = 0; j < p.weight.rows(); ++j) {
    double sum = 0;
    for (std::int64_t k = 0; k < p.weight.cols(); ++k)
      sum += static_cast<double>(p.weight.row(j)[k]) *
             static_cast<double>(shift[static_cast<std::size_t>(channels.of(j, k))]);
    float& b = p.bias.f32()[static_cast<std::size_t>(j)];
    b = static_cast<float>(static_cast<double>(b) + sum);
  }
}

/// gamma / s, (beta - shift) / s; parameters that the norm lacks are added.
void absorb_in_norm(Param& norm, const ShiftScale& item) {
  const std::span<const float> s = item.scale.f32();
  const auto n = static_cast<std::int64_t>(s.size());
  if (!norm.weight.defined()) {
    norm.weight = filled(n, 1.0F);
    norm.added_weight = true;
  }
  if (!norm.bias.defined() && item.shift.defined()) {
    norm.bias = filled(n, 0.0F);
    norm.added_bias = true;
  }
  for (std::size_t j = 0; j < s.size(); ++j) {
    norm.weight.f32()[j] /= s[j];
    // Gemma's checkpoints hold the weight less 1: what is used must be what can be read back.
    if (norm.packing.plus_one) norm.weight.f32()[j] = (norm.weight.f32()[j] - 1.0F) + 1.0F;
    if (norm.bias.defined())
      norm.bias.f32()[j] =
          (norm.bias.f32()[j] - (item.shift.defined() ? item.shift.f32()[j] : 0.0F)) / s[j];
  }
}

/// The change of each row that makes channels.
std::vector<float> by_row(const Tensor& by_channel, const Param& p, const SharedHeads& shared) {
  std::vector<float> out(static_cast<std::size_t>(p.weight.rows()), NAN);
  require(by_channel.numel() == p.weight.rows() * shared.heads, ErrorCode::kUnsupported, p.module,
          ": ", p.weight.rows(), " rows for a change of ", by_channel.numel(), " channels");
  for (std::int64_t c = 0; c < by_channel.numel(); ++c) {
    float& row = out[static_cast<std::size_t>(shared.row_of(c))];
    const float value = by_channel.f32()[static_cast<std::size_t>(c)];
    require(std::isnan(row) || row == value, ErrorCode::kUnsupported, p.module,
            ": channels of one row would change differently");
    row = value;
  }
  return out;
}

/// Rows of the producing linear / s; steps where its codes are already fixed. Its bias takes the
/// shift.
void absorb_in_rows(Param& p, const ShiftScale& item, const ChangedValue& at) {
  require(at.producer == ProducerKind::kLinear || !item.shift.defined(), ErrorCode::kUnsupported,
          p.module, ": rows of a linear in front of a product cannot absorb a shift");
  const std::vector<float> s = by_row(item.scale, p, at.shared),
                           shift = item.shift.defined() ? by_row(item.shift, p, at.shared)
                                                        : std::vector<float>(s.size());
  if (p.quantized) divide_row_steps(*p.quantized, s);
  for (std::int64_t j = 0; j < p.weight.rows(); ++j)
    for (std::int64_t k = 0; k < p.weight.cols(); ++k)
      p.weight.row(j)[k] /= s[static_cast<std::size_t>(j)];
  if (!p.bias.defined() && item.shift.defined()) {
    p.bias = filled(p.weight.rows(), 0.0F);
    p.added_bias = true;
  }
  if (!p.bias.defined()) return;
  for (std::size_t j = 0; j < s.size(); ++j) p.bias.f32()[j] = (p.bias.f32()[j] - shift[j]) / s[j];
}

void apply_item(const ShiftScale& item, Model& model) {
  // Only a norm can take a negative scale: steps of weights are positive.
  const bool norms = std::all_of(item.values.begin(), item.values.end(), [](const ChangedValue& v) {
    return v.producer == ProducerKind::kNorm;
  });
  for (const float s : item.scale.f32())
    require((norms ? s != 0.0F : s > 0.0F) && std::isfinite(s), ErrorCode::kNumeric,
            model.node_name(item.linears.front()), ": a channel scale of ", s);
  std::set<const Param*> changed;  // shared weights change once
  for (const ChangedValue& v : item.values) {
    require(v.producer != ProducerKind::kNone, ErrorCode::kUnsupported,
            "a change of scale without a producer to absorb it");
    if (v.producer == ProducerKind::kExplicit) {
      divide_explicitly(model.graph, v.value, item.scale, item.shift);
      if (v.restore) restore_for_others(model.graph, v.value, item.scale, item.shift);
      continue;
    }
    if (v.restore) restore_for_others(model.graph, v.value, item.scale, item.shift);
    if (v.producer == ProducerKind::kLinearRows)
      scale_bounds(model.graph, model.graph.producer(v.value), item.scale.f32());
    Param& p = model.param_of(v.producer_node);
    if (!changed.insert(&p).second) continue;
    if (v.producer == ProducerKind::kNorm)
      absorb_in_norm(p, item);
    else
      absorb_in_rows(p, item, v);
  }
  for (const int linear : item.linears) {
    Param& p = model.param_of(linear);
    const ColumnChannels channels = column_channels(model.graph.node(linear), p.weight);
    if (item.shift.defined()) add_shifted_bias(p, channels, item.shift.f32());
    scale_columns(channels, item.scale.f32(), p.weight.span());
  }
}

/// Rows `sources` of a matrix, or elements of a vector.
template <typename T>
Tensor gather_rows(const Tensor& t, const ColumnSources& sources) {
  const auto rows = static_cast<std::int64_t>(sources.size());
  const bool matrix = t.shape().rank() == 2;
  const std::int64_t width = matrix ? t.cols() : 1;
  Tensor out(t.dtype(), matrix ? Shape{rows, width} : Shape{rows});
  for (std::int64_t i = 0; i < rows; ++i)
    std::copy_n(t.as<T>().data() + sources[static_cast<std::size_t>(i)] * width, width,
                out.as<T>().data() + i * width);
  return out;
}

void repeat_rows(Param& p, const ColumnSources& sources) {
  const std::int64_t rows = p.weight.rows();
  p.weight = gather_rows<float>(p.weight, sources);
  if (p.bias.defined()) p.bias = gather_rows<float>(p.bias, sources);
  p.added_rows += p.weight.rows() - rows;
  if (!p.quantized) return;
  QTensor& q = *p.quantized;
  q.codes = gather_rows<std::int16_t>(q.codes, sources);
  const std::int64_t groups = q.qparams.scale.numel();
  if (groups == 1) return;  // one step for the whole tensor
  q.qparams.scale.reshape({rows, groups / rows});
  q.qparams.zero_point.reshape({rows, groups / rows});
  q.qparams.scale = gather_rows<float>(q.qparams.scale, sources);
  q.qparams.zero_point = gather_rows<std::int32_t>(q.qparams.zero_point, sources);
  for (Tensor* t : {&q.qparams.scale, &q.qparams.zero_point}) t->reshape({t->numel()});
}

void apply_item(const SplitChannels& item, Model& model) {
  require(!restore_of(model.graph, item.value), ErrorCode::kUnsupported,
          model.node_name(item.linears.front()),
          ": channels of a value that others read cannot be split");
  for (const int n : item.producers) repeat_rows(model.param_of(n), item.sources);
  for (const int n : item.linears) {
    Param& p = model.param_of(n);
    require(!p.quantized, ErrorCode::kUnsupported, p.module,
            ": its codes are chosen already, channels cannot be split");
    const std::int64_t columns = p.weight.cols();
    p.weight = split_columns(p.weight, item.sources);
    p.added_columns += p.weight.cols() - columns;
  }
  const ChannelAffine* affine = explicit_affine_of(model.graph, item.value);
  if (!affine) return;
  ChannelAffine spread{gather_rows<float>(affine->scale, item.sources), Tensor()};
  if (affine->shift.defined()) spread.shift = gather_rows<float>(affine->shift, item.sources);
  set_explicit_affine(model.graph, item.value, std::move(spread));
}

void apply_item(const SetInputQuant& item, Model& model) {
  set_input_quant(
      model.graph, item.value, item.quant, model.residual_after_quant,
      [&](const Node& linear) { return model.param(linear.param).quantized.has_value(); });
}

void apply_item(const SetAttentionQuant& item, Model& model) {
  set_attention_quant(model.graph, item.node, item.quant);
}

void apply_item(const ReplaceWeight& item, Model& model) {
  const ParamId p = model.graph.node(item.node).param;
  model.set_codes(p, item.weight.clone());
  for (const NodeId user : model.graph.users(p)) read_codes(model.graph, user);
}

void apply_item(const AddToBias& item, Model& model) {
  Param& p = model.param_of(item.node);
  require(p.bias.numel() == item.delta.numel(), ErrorCode::kUnsupported, p.module,
          ": no bias of that size to correct");
  for (std::size_t j = 0; j < p.bias.f32().size(); ++j) p.bias.f32()[j] += item.delta.f32()[j];
  model.bias_corrected = true;
}

void apply_item(const SetNormEpsilon& item, Model& model) {
  constexpr const char* kKeys[] = {"layer_norm_eps", "layer_norm_epsilon"};
  const bool other = model.config->contains(kKeys[1]);
  (*model.config)[kKeys[other ? 1 : 0]] = item.epsilon;
  for (NodeId n = 0; n < model.graph.num_nodes(); ++n) {
    const Node& node = model.graph.node(n);
    if (!node.is(op_norm) && !node.is(op_head_norm)) continue;
    model.graph.set_attributes(n, Attributes::of(NormAttributes{norm_of(node).kind, item.epsilon}));
  }

  // What is written must give the same norms again.
  const Settings written(*model.config, "config.json", model.dir.accepted());
  require(first_norm(build_architecture(written).graph).eps == item.epsilon,
          ErrorCode::kUnsupported, "config.json of ", model.spec.model_type,
          " holds no epsilon of norms that could be changed");
}

}  // namespace

void apply(const Plan& plan, Model& model) {
  for (const PlanItem& item : plan) std::visit([&](const auto& i) { apply_item(i, model); }, item);
}

}  // namespace quell
