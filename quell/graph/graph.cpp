#include "quell/graph/graph.h"

#include <algorithm>

#include "quell/base/error.h"
#include "quell/graph/op.h"

namespace quell {

std::string_view input_name(InputKind kind) {
  switch (kind) {
    case InputKind::kNone: break;
    case InputKind::kTokenIds: return "input_ids";
    case InputKind::kTokenTypeIds: return "token_type_ids";
    case InputKind::kPixels: return "pixel_values";
  }
  return "";
}

std::int64_t packed_row(const Packing& packing, std::int64_t row, std::int64_t rows) {
  if (packing.interleaved_heads == 0) return packing.part * rows + row;
  const std::int64_t head_dim = rows / packing.interleaved_heads;
  return (row / head_dim * packing.parts + packing.part) * head_dim + row % head_dim;
}

Shape packed_shape(const Packing& packing, const Shape& shape) {
  const std::int64_t rows = shape[0] * packing.parts;
  if (shape.rank() == 1) return {rows};
  if (packing.taps() == 0)
    return packing.transposed ? Shape{shape[1], rows} : Shape{rows, shape[1]};

  const std::int64_t in = shape[1] / packing.taps();
  const std::int64_t outer = packing.transposed ? in : rows;
  const std::int64_t inner = packing.transposed ? rows : in;
  return {outer, inner, packing.kernel_height, packing.kernel_width};
}

std::int64_t packed_index(const Packing& packing, std::int64_t row, std::int64_t column,
                          const Shape& shape) {
  const std::int64_t rows = shape[0] * packing.parts;
  const std::int64_t columns = shape.rank() == 2 ? shape[1] : 1;
  const std::int64_t from = packed_row(packing, row, shape[0]);
  const std::int64_t taps = std::max<std::int64_t>(packing.taps(), 1);
  const std::int64_t in = columns / taps;
  const std::int64_t tap = column / in;
  const std::int64_t channel = column % in;
  const std::int64_t pair = packing.transposed ? channel * rows + from : from * in + channel;
  return pair * taps + tap;
}

bool Graph::is_output(ValueId v) const {
  return std::any_of(outputs.begin(), outputs.end(), [&](const auto& o) { return o.second == v; });
}

bool Graph::has(const OpDef& op) const {
  return std::any_of(nodes_.begin(), nodes_.end(), [&](const Node& n) { return n.is(op); });
}

bool Graph::reads(InputKind kind) const {
  return std::any_of(values_.begin(), values_.end(),
                     [&](const Value& v) { return v.input == kind; });
}

NodeId Graph::find(std::string_view label) const {
  for (NodeId n = 0; n < num_nodes(); ++n)
    if (node(n).label == label) return n;
  return kNoNode;
}

ValueId Graph::add_input(InputKind kind, RowSpace rows) {
  values_.push_back({.type = {rows, 1, false}, .input = kind});
  uses_.emplace_back();
  return num_values() - 1;
}

ParamId Graph::add_param(ParamDef def) {
  params_.push_back(std::move(def));
  users_.emplace_back();
  weights_.push_back(kNoValue);

  const ParamId p = num_params() - 1;
  if (param(p).tied_to == kNoParam) weights_.back() = add_weight(p);
  return p;
}

/// kNoValue where the parameter has no matrix.
ValueId Graph::add_weight(ParamId p) {
  const ParamDef& def = param(p);
  if (!def.has_weight || def.shape.rank() != 2) return kNoValue;

  const RowSpace rows{RowSpace::Kind::kTable, 0, def.shape[0]};
  values_.push_back({.type = {rows, def.shape[1], true}, .param = p});
  uses_.emplace_back();
  return num_values() - 1;
}

ValueId Graph::weight(ParamId p) const {
  const ParamId table = param(p).tied_to;
  return weights_[static_cast<std::size_t>(table == kNoParam ? p : table)];
}

ValueId Graph::weight_operand(const Node& node) const {
  for (const ValueId v : node.in)
    if (v != kNoValue && is_weight(v)) return v;
  return kNoValue;
}

void Graph::untie(ParamId p) {
  params_[static_cast<std::size_t>(p)].tied_to = kNoParam;
  weights_[static_cast<std::size_t>(p)] = add_weight(p);
  for (const NodeId n : users(p)) redirect(n, weight_operand(node(n)), weight(p));
}

ValueId Graph::add_node(Node node) {
  positions_.push_back(num_nodes());
  order_.push_back(num_nodes());
  return append(std::move(node));
}

ValueId Graph::insert_node(Node node) {
  const int at = place_behind(node.in.front());
  order_.insert(order_.begin() + at, num_nodes());
  positions_.push_back(at);
  number_order();
  return append(std::move(node));
}

void Graph::link(NodeId n) {
  for (const ValueId v : node(n).in)
    if (v != kNoValue) add_use(v, n);
  if (node(n).param != kNoParam)
    insert_by_position(users_[static_cast<std::size_t>(node(n).param)], n);
}

void Graph::unlink(NodeId n) {
  for (const ValueId v : node(n).in)
    if (v != kNoValue) std::erase(uses_[static_cast<std::size_t>(v)], n);
  if (node(n).param != kNoParam) std::erase(users_[static_cast<std::size_t>(node(n).param)], n);
}

void Graph::add_use(ValueId v, NodeId n) {
  insert_by_position(uses_[static_cast<std::size_t>(v)], n);
}

/// Once, in the order in which nodes are executed.
void Graph::insert_by_position(std::vector<NodeId>& nodes, NodeId n) const {
  const auto earlier = [&](NodeId a, NodeId b) { return position(a) < position(b); };
  const auto at = std::lower_bound(nodes.begin(), nodes.end(), n, earlier);
  if (at == nodes.end() || *at != n) nodes.insert(at, n);
}

int Graph::place_behind(ValueId v) const {
  const auto end = static_cast<int>(order_.size());
  if (producer(v) == kNoNode) return uses(v).empty() ? end : position(uses(v).front());

  int at = position(producer(v)) + 1;
  while (at < end && is_inserted(order_[static_cast<std::size_t>(at)])) ++at;
  return at;
}

ValueId Graph::append(Node node) {
  const NodeId id = num_nodes();
  const ValueType type = node.op->infer(*this, node);

  node.out = num_values();
  const bool of_weight = node.op->view && is_weight(node.in.front());
  const ParamId param = of_weight ? value(node.in.front()).param : kNoParam;
  values_.push_back({.type = type, .producer = id, .param = param});
  uses_.emplace_back();
  nodes_.push_back(std::move(node));
  link(id);
  return nodes_.back().out;
}

void Graph::remove(NodeId n) {
  if (is_removed(n)) return;
  unlink(n);
  order_.erase(order_.begin() + position(n));
  positions_[static_cast<std::size_t>(n)] = -1;
  nodes_[static_cast<std::size_t>(n)].in.clear();
  number_order();
}

void Graph::replace(NodeId n, Node by) {
  unlink(n);
  values_[static_cast<std::size_t>(by.out)].producer = n;
  nodes_[static_cast<std::size_t>(n)] = std::move(by);
  link(n);
}

void Graph::number_order() {
  for (std::size_t i = 0; i < order_.size(); ++i)
    positions_[static_cast<std::size_t>(order_[i])] = static_cast<int>(i);
}

void Graph::redirect(NodeId n, ValueId from, ValueId to) {
  const std::vector<NodeId>& readers = uses(from);
  if (std::find(readers.begin(), readers.end(), n) == readers.end()) return;
  for (ValueId& v : nodes_[static_cast<std::size_t>(n)].in)
    if (v == from) v = to;
  std::erase(uses_[static_cast<std::size_t>(from)], n);
  add_use(to, n);
}

NodeId Graph::last_use(ValueId v) const {
  NodeId last = kNoNode;
  for (const NodeId n : uses(v)) {
    const NodeId here = node(n).op->view ? last_use(node(n).out) : n;
    if (here != kNoNode && (last == kNoNode || position(here) > position(last))) last = here;
  }
  return last;
}

void Graph::set_attributes(NodeId n, Attributes attributes) {
  nodes_[static_cast<std::size_t>(n)].attributes = std::move(attributes);
}

void Graph::redirect_param(ParamId from, ParamId to) {
  for (Node& n : nodes_)
    if (n.param == from) n.param = to;
  for (ParamDef& p : params_)
    if (p.tied_to == from) p.tied_to = to;
  index();
}

void Graph::truncate(NodeId first) {
  nodes_.resize(static_cast<std::size_t>(first));
  order_.resize(nodes_.size());
  positions_.resize(nodes_.size());
  index();

  const auto is_table = [&](ParamId p) {
    return std::any_of(params_.begin(), params_.end(),
                       [&](const ParamDef& other) { return other.tied_to == p; });
  };
  std::vector<ParamId> unused;
  for (ParamId p = 0; p < num_params(); ++p)
    if (users(p).empty() && !is_table(p)) unused.push_back(p);
  drop_params(unused);

  const auto is_left_out = [&](const Value& v) {
    return v.producer >= first ||
           (v.producer == kNoNode && v.input == InputKind::kNone && v.param == kNoParam);
  };
  while (!values_.empty() && is_left_out(values_.back())) values_.pop_back();
  std::erase_if(outputs, [&](const auto& output) { return output.second >= num_values(); });
  index();
}

void Graph::drop_params(const std::vector<ParamId>& dropped) {
  std::vector<ParamId> now(params_.size(), kNoParam);
  std::vector<ParamDef> kept;
  std::vector<ValueId> weights;
  for (ParamId p = 0; p < num_params(); ++p) {
    if (std::find(dropped.begin(), dropped.end(), p) != dropped.end()) continue;
    now[static_cast<std::size_t>(p)] = static_cast<ParamId>(kept.size());
    kept.push_back(std::move(params_[static_cast<std::size_t>(p)]));
    weights.push_back(weights_[static_cast<std::size_t>(p)]);
  }

  const auto renumber = [&](ParamId& p) {
    if (p != kNoParam) p = now[static_cast<std::size_t>(p)];
  };
  for (Node& n : nodes_) renumber(n.param);
  for (Value& v : values_) renumber(v.param);
  for (ParamDef& p : kept) renumber(p.tied_to);
  params_ = std::move(kept);
  weights_ = std::move(weights);
  index();
}

void Graph::index() {
  uses_.assign(values_.size(), {});
  users_.assign(params_.size(), {});
  for (const NodeId n : order_) link(n);
}

std::string describe_node(const Graph& graph, NodeId n) {
  const Node& node = graph.node(n);
  std::string operands;
  for (const ValueId v : node.in) {
    if (v == kNoValue || graph.is_weight(v)) continue;
    const Value& value = graph.value(v);
    const std::string name = value.producer == kNoNode ? std::string(input_name(value.input))
                                                       : graph.node(value.producer).label;
    operands += (operands.empty() ? "" : ", ") + name;
  }
  return node.label + " = " + std::string(node.op->name) + "(" + operands + ")";
}

}  // namespace quell
