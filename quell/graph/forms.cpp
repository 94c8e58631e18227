#include "quell/graph/forms.h"

#include <algorithm>
#include <set>

#include "quell/base/error.h"

namespace quell {
namespace {

bool is_form(const Node& node) {
  return node.is(op_affine) || node.is(op_quantize) || node.is(op_quantize_weight) ||
         node.is(op_restore);
}

/// The first reader of `v` that is of the op.
NodeId reader_of_op(const Graph& graph, ValueId v, const OpDef& op) {
  for (const NodeId n : graph.uses(v))
    if (graph.node(n).is(op)) return n;
  return kNoNode;
}

/// Behind `v`, standing where its base stands.
NodeId insert(Graph& graph, ValueId v, const OpDef& op, Attributes attributes) {
  const Node& source = graph.producer_of(base_of(graph, v));
  Node node;
  node.op = &op;
  node.attributes = std::move(attributes);
  node.in = {v};
  node.place = source.place;
  node.label = source.label + "." + std::string(op.name);
  return graph.producer(graph.insert_node(std::move(node)));
}

/// The quantizer behind which nodes of the parameter read their matrix.
NodeId weight_quantizer(const Graph& graph, ParamId p) {
  const ValueId matrix = graph.weight(p);
  if (matrix == kNoValue) return kNoNode;
  for (const NodeId n : graph.uses(matrix)) {
    const Node& reader = graph.node(n);
    if (reader.is(op_quantize_weight) && weight_quantizer_of(reader).readers == p) return n;
  }
  return kNoNode;
}

/// What callers and stacks see of `from` is `to`.
void redirect_outputs(Graph& graph, ValueId from, ValueId to) {
  for (auto& [name, v] : graph.outputs)
    if (v == from) v = to;
  for (StackInfo& stack : graph.stacks)
    std::replace(stack.hidden_states.begin(), stack.hidden_states.end(), from, to);
}

/// Readers of `from` for which `which` holds read `to`.
void redirect_readers(Graph& graph, ValueId from, ValueId to,
                      const std::function<bool(const Node&)>& which) {
  const std::vector<NodeId> readers = graph.uses(from);
  for (const NodeId n : readers)
    if (graph.node(n).out != to && which(graph.node(n))) graph.redirect(n, from, to);
}

/// Wants the original meaning: all but matrices, whose columns undo a change.
bool is_other_reader(const Node& node) {
  return node.op->channels.kind != ChannelKind::kMatrix && !is_form(node);
}

ChannelAffine composed(const ChannelAffine* before, const Tensor& scale, const Tensor& shift) {
  if (!before) return {scale.clone(), shift.defined() ? shift.clone() : Tensor()};

  // x = y * s + h, and x * s0 + h0 was the original.
  ChannelAffine a{before->scale.clone(),
                  before->shift.defined() ? before->shift.clone() : Tensor()};
  if (shift.defined() && !a.shift.defined()) a.shift = Tensor::f32({a.scale.numel()});
  for (std::size_t j = 0; j < a.scale.f32().size(); ++j) {
    if (shift.defined()) a.shift.f32()[j] += shift.f32()[j] * a.scale.f32()[j];
    a.scale.f32()[j] *= scale.f32()[j];
  }
  return a;
}

}  // namespace

ValueId base_of(const Graph& graph, ValueId v) {
  while (graph.producer(v) != kNoNode && is_form(graph.producer_of(v)))
    v = graph.producer_of(v).in[0];
  return v;
}

NodeId affine_node(const Graph& graph, ValueId v) {
  return reader_of_op(graph, base_of(graph, v), op_affine);
}

ValueId migrated(const Graph& graph, ValueId v) {
  const NodeId affine = affine_node(graph, v);
  return affine == kNoNode ? base_of(graph, v) : graph.node(affine).out;
}

ValueId concrete(const Graph& graph, ValueId v) {
  while (graph.producer(v) != kNoNode && graph.producer_of(v).op->view)
    v = graph.producer_of(v).in[0];
  return v;
}

NodeId quantize_node(const Graph& graph, ValueId v) {
  return reader_of_op(graph, migrated(graph, v), op_quantize);
}

NodeId restore_node(const Graph& graph, ValueId v) {
  const ValueId m = migrated(graph, v);
  const NodeId direct = reader_of_op(graph, m, op_restore);
  if (direct != kNoNode) return direct;
  const NodeId quantize = reader_of_op(graph, m, op_quantize);
  return quantize == kNoNode ? kNoNode : reader_of_op(graph, graph.node(quantize).out, op_restore);
}

const ActivationQuant* input_quant_of(const Graph& graph, ValueId v) {
  const NodeId n = quantize_node(graph, v);
  return n == kNoNode ? nullptr : &quantizer_of(graph.node(n));
}

const ChannelAffine* explicit_affine_of(const Graph& graph, ValueId v) {
  const NodeId n = affine_node(graph, v);
  return n == kNoNode ? nullptr : &affine_of(graph.node(n));
}

const ChannelAffine* restore_of(const Graph& graph, ValueId v) {
  const NodeId n = restore_node(graph, v);
  return n == kNoNode ? nullptr : &affine_of(graph.node(n));
}

std::vector<ValueId> bases_with(const Graph& graph, const OpDef& op) {
  std::set<ValueId> bases;
  for (const Node& node : graph.nodes())
    if (node.is(op) && !node.in.empty()) bases.insert(base_of(graph, node.out));
  return {bases.begin(), bases.end()};
}

std::vector<NodeId> readers_of(const Graph& graph, ValueId v) {
  std::vector<NodeId> out;
  std::vector<ValueId> open = {base_of(graph, v)};
  while (!open.empty()) {
    const ValueId form = open.back();
    open.pop_back();
    for (const NodeId n : graph.uses(form)) {
      if (is_form(graph.node(n)))
        open.push_back(graph.node(n).out);
      else if (std::find(out.begin(), out.end(), n) == out.end())
        out.push_back(n);
    }
  }
  std::sort(out.begin(), out.end(),
            [&](NodeId a, NodeId b) { return graph.position(a) < graph.position(b); });
  return out;
}

void set_input_quant(Graph& graph, ValueId v, const ActivationQuant& quant, bool everybody,
                     const std::function<bool(const Node&)>& reads_codes) {
  const ValueId m = migrated(graph, v);
  NodeId n = quantize_node(graph, v);
  if (n == kNoNode)
    n = insert(graph, m, op_quantize, Attributes::of(quant));
  else
    graph.set_attributes(n, Attributes::of(quant));

  const ValueId q = graph.node(n).out;
  redirect_readers(graph, m, q, [&](const Node& reader) {
    if (reader.op->product) return reads_codes(reader);
    return everybody && !reader.is(op_quantize) && !reader.is(op_affine);
  });
  if (everybody) redirect_outputs(graph, m, q);
}

void clear_input_quants(Graph& graph) {
  for (NodeId n = 0; n < graph.num_nodes(); ++n) {
    if (!graph.node(n).is(op_quantize) || graph.node(n).in.empty()) continue;
    const ValueId m = graph.node(n).in[0];
    const ValueId q = graph.node(n).out;
    redirect_readers(graph, q, m, [](const Node&) { return true; });
    redirect_outputs(graph, q, m);
    graph.remove(n);
  }
}

void set_weight_quant(Graph& graph, ParamId p, const QuantSpec& spec) {
  const Attributes attributes = Attributes::of(WeightQuantAttributes{spec, p});
  const NodeId there = weight_quantizer(graph, p);
  if (there != kNoNode) {
    graph.set_attributes(there, attributes);
    return;
  }

  // A table may be there for others alone, which read it under names of their own.
  const ValueId matrix = graph.weight(p);
  const std::vector<NodeId> users = graph.users(p);
  if (users.empty()) return;
  const Node& first = graph.node(users.front());
  Node node;
  node.op = &op_quantize_weight;
  node.attributes = attributes;
  node.in = {matrix};
  node.place = first.place;
  node.label = first.label + "." + std::string(node.op->name);
  const ValueId quantized = graph.insert_node(std::move(node));
  for (const NodeId n : users) graph.redirect(n, matrix, quantized);
}

const QuantSpec* weight_quant_of(const Graph& graph, ParamId p) {
  const NodeId n = weight_quantizer(graph, p);
  return n == kNoNode ? nullptr : &weight_quantizer_of(graph.node(n)).spec;
}

void clear_weight_quants(Graph& graph) {
  for (NodeId n = 0; n < graph.num_nodes(); ++n) {
    if (!graph.node(n).is(op_quantize_weight) || graph.node(n).in.empty()) continue;
    redirect_readers(graph, graph.node(n).out, graph.node(n).in[0],
                     [](const Node&) { return true; });
    graph.remove(n);
  }
}

void read_codes(Graph& graph, NodeId n) {
  const ValueId m = graph.node(n).in[0];
  const NodeId quantize = reader_of_op(graph, m, op_quantize);
  if (quantize != kNoNode) graph.redirect(n, m, graph.node(quantize).out);
}

void set_restore(Graph& graph, ValueId v, ChannelAffine affine) {
  const NodeId there = restore_node(graph, v);
  if (there != kNoNode) {
    graph.set_attributes(there, Attributes::of(std::move(affine)));
    return;
  }

  // Where everybody reads codes, what restores stands behind them.
  ValueId from = migrated(graph, v);
  const NodeId quantize = quantize_node(graph, v);
  if (quantize != kNoNode) {
    const std::vector<NodeId>& readers = graph.uses(graph.node(quantize).out);
    const bool others = std::any_of(readers.begin(), readers.end(),
                                    [&](NodeId n) { return is_other_reader(graph.node(n)); });
    if (others) from = graph.node(quantize).out;
  }
  const NodeId restore = insert(graph, from, op_restore, Attributes::of(std::move(affine)));
  const ValueId r = graph.node(restore).out;
  redirect_readers(graph, from, r, is_other_reader);
  redirect_outputs(graph, from, r);
}

void restore_for_others(Graph& graph, ValueId v, const Tensor& scale, const Tensor& shift) {
  set_restore(graph, v, composed(restore_of(graph, v), scale, shift));
}

void set_explicit_affine(Graph& graph, ValueId v, ChannelAffine affine) {
  const NodeId there = affine_node(graph, v);
  if (there != kNoNode) {
    graph.set_attributes(there, Attributes::of(std::move(affine)));
    return;
  }

  const ValueId base = base_of(graph, v);
  const NodeId divide = insert(graph, base, op_affine, Attributes::of(std::move(affine)));
  const ValueId m = graph.node(divide).out;
  // Forms that were there stand behind it from now on, and so does everybody else.
  redirect_readers(graph, base, m, [](const Node&) { return true; });
  redirect_outputs(graph, base, m);
}

void divide_explicitly(Graph& graph, ValueId v, const Tensor& scale, const Tensor& shift) {
  set_explicit_affine(graph, v, composed(explicit_affine_of(graph, v), scale, shift));
}

}  // namespace quell
