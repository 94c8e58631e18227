#include "quell/model/fold_batch_norm.h"

#include <algorithm>

#include "quell/base/error.h"
#include "quell/graph/batch_norm.h"
#include "quell/graph/image_ops.h"

namespace quell {
namespace {

bool is_seen(const Graph& graph, ValueId v) {
  if (graph.is_output(v)) return true;
  return std::any_of(graph.stacks.begin(), graph.stacks.end(), [&](const StackInfo& stack) {
    return std::count(stack.hidden_states.begin(), stack.hidden_states.end(), v) > 0;
  });
}

/// Whose rows can do what batch norm `n` does; kNoNode where there is nobody.
NodeId foldable(const Graph& graph, NodeId n) {
  const ValueId x = graph.node(n).in[0];
  const NodeId source = graph.producer(x);
  if (source == kNoNode || graph.uses(x).size() != 1 || is_seen(graph, x)) return kNoNode;

  const Node& conv = graph.node(source);
  const bool has_rows = conv.is(op_conv2d) || conv.is(op_conv_transpose2d) || conv.is(op_linear);
  if (!has_rows || graph.users(conv.param).size() != 1) return kNoNode;
  const ValueId matrix = graph.weight(conv.param);
  const bool is_shared = graph.uses(matrix).size() != 1 ||
                         graph.param(conv.param).tied_to != kNoParam ||
                         graph.param(conv.param).packing.parts != 1;
  return is_shared ? kNoNode : source;
}

/// w * scale and b * scale + shift, row by row.
void scale_rows(Param& conv, const ChannelAffine& affine) {
  if (!conv.bias.defined()) {
    conv.bias = Tensor::f32({conv.weight.rows()});
    conv.added_bias = true;
  }
  for (std::int64_t r = 0; r < conv.weight.rows(); ++r) {
    const auto at = static_cast<std::size_t>(r);
    const float scale = affine.scale.f32()[at];
    for (std::int64_t c = 0; c < conv.weight.cols(); ++c) conv.weight.row(r)[c] *= scale;
    const double bias = static_cast<double>(conv.bias.f32()[at]) * static_cast<double>(scale) +
                        static_cast<double>(affine.shift.f32()[at]);
    conv.bias.f32()[at] = static_cast<float>(bias);
  }
}

/// Everybody sees `to` instead of `from`.
void redirect(Graph& graph, ValueId from, ValueId to) {
  const std::vector<NodeId> readers = graph.uses(from);
  for (const NodeId n : readers) graph.redirect(n, from, to);
  for (auto& [name, v] : graph.outputs)
    if (v == from) v = to;
  for (StackInfo& stack : graph.stacks)
    std::replace(stack.hidden_states.begin(), stack.hidden_states.end(), from, to);
}

/// Batch norm `n`, which `conv` now does.
void take_out(Graph& graph, NodeId n, NodeId conv) {
  redirect(graph, graph.node(n).out, graph.node(conv).out);
  graph.remove(n);
}

}  // namespace

void leave_out_batch_norms(Graph& graph, const std::vector<std::string>& modules) {
  std::vector<ParamId> params;
  for (const std::string& module : modules) {
    NodeId found = kNoNode;
    for (const NodeId n : graph.order())
      if (graph.node(n).is(op_batch_norm) && graph.param(graph.node(n).param).module == module)
        found = n;
    const NodeId conv = found == kNoNode ? kNoNode : foldable(graph, found);
    require(conv != kNoNode, ErrorCode::kInvalidInput,
            "section \"quell\": folded_batch_norms names \"", module,
            "\", which is no batch norm behind a convolution of this model");
    params.push_back(graph.node(found).param);
    take_out(graph, found, conv);
  }
  std::erase_if(params, [&](ParamId p) { return !graph.users(p).empty(); });
  graph.drop_params(params);
}

std::vector<std::string> fold_batch_norms(Model& model) {
  Graph& graph = model.graph;
  std::vector<std::string> folded;
  const std::vector<NodeId> order = graph.order();
  for (const NodeId n : order) {
    if (!graph.node(n).is(op_batch_norm)) continue;
    const NodeId conv = foldable(graph, n);
    if (conv == kNoNode || model.param_of(conv).quantized) continue;

    const Param& norm = model.param_of(n);
    const BatchNormTensors tensors{norm.weight, norm.bias, norm.vectors[kRunningMean],
                                   norm.vectors[kRunningVariance]};
    const double eps = graph.node(n).attributes.get<double>();
    scale_rows(model.param_of(conv), batch_norm_affine(tensors, eps));
    model.folded_batch_norms.push_back(norm.module);
    take_out(graph, n, conv);
    folded.push_back(graph.node(conv).label);
  }
  return folded;
}

}  // namespace quell
