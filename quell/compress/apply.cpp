#include "quell/compress/apply.h"

#include <cmath>

#include "quell/base/error.h"
#include "quell/quant/quantize.h"

namespace quell {
namespace {

Tensor filled(std::int64_t n, float value) {
  Tensor t = Tensor::f32({n});
  for (float& v : t.f32()) v = value;
  return t;
}

/// b + W shift in double, rounded once.
void add_shifted_bias(Param& p, std::span<const float> shift) {
  if (!p.bias.defined()) {
    p.bias = filled(p.weight.rows(), 0.0F);
    p.added_bias = true;
  }
  for (std::int64_t j = 0; j < p.weight.rows(); ++j) {
    double sum = 0;
    for (std::int64_t k = 0; k < p.weight.cols(); ++k)
      sum += static_cast<double>(p.weight.row(j)[k]) * static_cast<double>(shift[static_cast<std::size_t>(k)]);
    float& b = p.bias.f32()[static_cast<std::size_t>(j)];
    b = static_cast<float>(static_cast<double>(b) + sum);
  }
}

void scale_columns(Param& p, std::span<const float> scale) {
  for (std::int64_t j = 0; j < p.weight.rows(); ++j)
    for (std::int64_t k = 0; k < p.weight.cols(); ++k) p.weight.row(j)[k] *= scale[static_cast<std::size_t>(k)];
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
    if (norm.bias.defined()) norm.bias.f32()[j] = (norm.bias.f32()[j] - (item.shift.defined() ? item.shift.f32()[j] : 0.0F)) / s[j];
  }
}

/// Rows of the producing linear / s; steps where its codes are already fixed.
void absorb_in_rows(Param& p, const ShiftScale& item) {
  require(!item.shift.defined(), ErrorCode::kUnsupported, p.module,
          ": rows of a linear in front of a product cannot absorb a shift");
  const std::span<const float> s = item.scale.f32();
  if (p.quantized) divide_row_steps(*p.quantized, s);
  for (std::int64_t j = 0; j < p.weight.rows(); ++j)
    for (std::int64_t k = 0; k < p.weight.cols(); ++k) p.weight.row(j)[k] /= s[static_cast<std::size_t>(j)];
  if (p.bias.defined())
    for (std::size_t j = 0; j < s.size(); ++j) p.bias.f32()[j] /= s[j];
}

/// What restores a value after one more change: x = y * s + h, and x * s0 + h0 was the original.
void compose(std::map<ValueId, ChannelAffine>& affines, const ShiftScale& item) {
  const auto it = affines.find(item.value);
  if (it == affines.end()) {
    affines[item.value] = {item.scale.clone(), item.shift.defined() ? item.shift.clone() : Tensor()};
    return;
  }
  ChannelAffine& a = it->second;
  if (item.shift.defined() && !a.shift.defined()) a.shift = filled(a.scale.numel(), 0.0F);
  for (std::size_t j = 0; j < a.scale.f32().size(); ++j) {
    if (item.shift.defined()) a.shift.f32()[j] += item.shift.f32()[j] * a.scale.f32()[j];
    a.scale.f32()[j] *= item.scale.f32()[j];
  }
}

void apply_item(const ShiftScale& item, Model& model) {
  for (const float s : item.scale.f32())
    require(s > 0.0F && std::isfinite(s), ErrorCode::kNumeric, model.node_name(item.producer_node), ": a channel scale of ", s);
  switch (item.producer) {
    case ProducerKind::kNorm: absorb_in_norm(model.param_of(item.producer_node), item); break;
    case ProducerKind::kLinearRows: absorb_in_rows(model.param_of(item.producer_node), item); break;
    case ProducerKind::kExplicit: compose(model.explicit_affine, item); break;
    case ProducerKind::kNone: throw Error(ErrorCode::kUnsupported, "a change of scale without a producer to absorb it");
  }
  for (const int linear : item.linears) {
    Param& p = model.param_of(linear);
    if (item.shift.defined()) add_shifted_bias(p, item.shift.f32());
    scale_columns(p, item.scale.f32());
  }
  if (item.restore) compose(model.restore, item);
}

void apply_item(const SetInputQuant& item, Model& model) { model.input_quant[item.value] = item.quant; }

void apply_item(const ReplaceWeight& item, Model& model) {
  model.param_of(item.node).quantized = QTensor{
      item.weight.spec, {item.weight.qparams.scale.clone(), item.weight.qparams.zero_point.clone()}, item.weight.codes.clone()};
}

}  // namespace

void apply(const Plan& plan, Model& model) {
  for (const PlanItem& item : plan) std::visit([&](const auto& i) { apply_item(i, model); }, item);
}

}  // namespace quell
