#include "quell/compress/site_problem.h"

#include <algorithm>

#include "quell/ops/linear.h"

namespace quell {
namespace {

void describe_attention(const Site& site, const SiteActivations& activations, SiteProblem& p) {
  const Model& model = *site.model;
  p.attention = attention_of(model.graph.node(site.attention_node));
  p.position_bias = activations.position_bias;
  const Node& attention = model.graph.node(site.attention_node);
  const ValueId positions = attention.operand(kPositionsOperand);
  for (const TokenBatch* batch : activations.batches) {
    std::vector<std::int32_t>& ids = p.positions.emplace_back();
    if (positions == kNoValue) continue;
    const Attributes& rule = model.graph.producer_of(positions).attributes;
    ids = position_ids(rule.get<PositionAttributes>(), *batch);
  }

  const auto head_norm = [&](ValueId operand) -> const Param* {
    if (!model.graph.is_from(operand, op_head_norm)) return nullptr;
    p.head_norm = norm_of(model.graph.producer_of(operand));
    return &model.param_of(model.graph.producer(operand));
  };
  p.q_norm = head_norm(attention.in[kQueryOperand]);
  p.k_norm = head_norm(attention.in[kKeyOperand]);
}

}  // namespace

SiteProblem describe_site(const Site& site, const SiteActivations& activations,
                          const QuantSpec& weights, const QuantSpec& activation_spec,
                          StackOrder order) {
  SiteProblem p;
  p.kind = site.kind;
  p.batches = activations.batches;
  p.shared = activations.shared;
  p.weights = weights;
  p.activations = activation_spec;
  const Model& model = *site.model;
  if (model.values_in_scratch) p.scratch = model.scratch;
  p.x = activations.x;
  std::vector<std::pair<const Param*, std::int64_t>> rows;  // where each stacked row comes from
  bool bias = false;
  for (const int n : site.linears) {
    const Param& param = model.param_of(n);
    p.rows.push_back(param.weight.rows());
    for (std::int64_t i = 0; i < param.weight.rows(); ++i) rows.emplace_back(&param, i);
    bias |= param.bias.defined();
  }
  if (site.kind == SiteKind::kAttention) describe_attention(site, activations, p);
  if (site.kind == SiteKind::kGatedMlp)
    p.activation = activation_of(model.graph.node(site.activation_node));
  if (order == StackOrder::kByHead && site.kind == SiteKind::kAttention)
    std::stable_sort(rows.begin(), rows.end(), [&](const auto& a, const auto& b) {
      return a.second / p.attention.head_dim < b.second / p.attention.head_dim;
    });
  const auto count = static_cast<std::int64_t>(rows.size());
  p.weight = Tensor::f32({count, rows.front().first->weight.cols()});
  if (bias) p.bias = Tensor::f32({count});
  for (std::int64_t i = 0; i < count; ++i) {
    const auto& [param, row] = rows[static_cast<std::size_t>(i)];
    std::copy_n(param->weight.row(row), p.weight.cols(), p.weight.row(i));
    if (param->bias.defined())
      p.bias.f32()[static_cast<std::size_t>(i)] = param->bias.f32()[static_cast<std::size_t>(row)];
  }
  return p;
}

void subtract_shift(const Tensor& shift, SiteProblem& p) {
  p.shift = shift.clone();
  if (!p.bias.defined()) p.bias = Tensor::f32({p.weight.rows()});
  add_product(p.weight, shift.f32(), p.bias.f32());
}

}  // namespace quell
