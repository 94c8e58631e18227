#include "quell/graph/channel_groups.h"

#include <algorithm>
#include <optional>
#include <set>

namespace quell {
namespace {

constexpr const char* kReadsConstants =
    "its linears also read relative embeddings, which cannot absorb a change";
constexpr const char* kIsTied = "a matrix that is tied to the embedding reads it";
constexpr const char* kOthersRead = "a residual branch reads this value";

bool is_kind(const Graph& graph, NodeId n, ChannelKind kind) {
  return n != kNoNode && graph.node(n).op->channels.kind == kind;
}

/// Operand `i` of a node, in whatever form it reads it.
ValueId operand(const Graph& graph, NodeId n, std::size_t i) {
  const ValueId v = graph.node(n).operand(i);
  return v == kNoValue ? kNoValue : base_of(graph, v);
}

std::int64_t times_read(const Graph& graph, NodeId n, ValueId value) {
  std::int64_t times = 0;
  for (std::size_t i = 0; i < graph.node(n).in.size(); ++i)
    times += operand(graph, n, i) == value ? 1 : 0;
  return times;
}

/// Whether callers of the model see `value`, in any form.
bool is_seen(const Graph& graph, ValueId value) {
  return std::any_of(graph.outputs.begin(), graph.outputs.end(),
                     [&](const auto& output) { return base_of(graph, output.second) == value; });
}

/// The only node that reads `value`; kNoNode: there are several, or none, or callers see it.
NodeId only_reader(const Graph& graph, ValueId value) {
  const std::vector<NodeId> readers = readers_of(graph, value);
  return readers.size() == 1 && !is_seen(graph, value) ? readers.front() : kNoNode;
}

/// A node that lets a change through from the rows of a matrix right in front of it.
struct Step {
  NodeId node = kNoNode;
  NodeId source = kNoNode;  ///< the matrix
  ChannelPass pass;
};

class Derivation {
 public:
  Derivation(const Graph& graph, const ChannelScope& scope) : graph_(graph), scope_(scope) {}

  ChannelGroup run(ValueId first) {
    find_values(first);
    for (const ValueId value : group_.values) {
      add_readers(value);
      add_producer(value);
    }
    return std::move(group_);
  }

 private:
  const Node& node(NodeId n) const { return graph_.node(n); }
  bool is_matrix(NodeId n) const { return is_kind(graph_, n, ChannelKind::kMatrix); }
  bool is_vector(NodeId n) const { return is_kind(graph_, n, ChannelKind::kVector); }
  /// All nodes that use the parameter of `n`.
  const std::vector<NodeId>& sharing(NodeId n) const { return graph_.users(node(n).param); }

  /// Whether `n` reads `value` by the columns of its matrix, and not otherwise too.
  bool reads_by_columns(NodeId n, ValueId value) const {
    return is_matrix(n) && operand(graph_, n, 0) == value && times_read(graph_, n, value) == 1;
  }

  /// All nodes that read the matrix which `n` reads, under whatever name.
  std::vector<NodeId> readers_of_weight(NodeId n) const {
    return readers_of(graph_, graph_.weight(node(n).param));
  }

  /// Whether the matrix of `n` is also something else: a table that is looked up.
  bool is_tied(NodeId n) const {
    const std::vector<NodeId> readers = readers_of_weight(n);
    return std::any_of(readers.begin(), readers.end(), [&](NodeId other) {
      return !is_matrix(other) || node(other).param != node(n).param;
    });
  }

  // Values that change together.

  void find_values(ValueId first) {
    std::set<ValueId> found = {first};
    std::vector<ValueId> open = {first};
    while (!open.empty()) {
      const ValueId value = open.back();
      open.pop_back();
      if (graph_.is_constant(value)) group_.why_not = kReadsConstants;
      for (const ValueId other : changing_with(value)) {
        if (graph_.is_constant(other))
          group_.why_not = kReadsConstants;
        else if (found.insert(other).second)
          open.push_back(other);
      }
    }
    group_.values.assign(found.begin(), found.end());
  }

  /// Values that the matrices which read this one read too, and what the parameter that makes this
  /// one makes elsewhere.
  std::vector<ValueId> changing_with(ValueId value) const {
    std::vector<ValueId> out;
    for (const NodeId reader : readers_of(graph_, value)) {
      if (!reads_by_columns(reader, value)) continue;
      for (const NodeId other : sharing(reader))
        if (is_matrix(other)) out.push_back(operand(graph_, other, 0));
    }

    const NodeId producer = graph_.producer(value);
    if (is_matrix(producer) || is_vector(producer)) {
      for (const NodeId other : sharing(producer)) out.push_back(node(other).out);
    } else if (const std::optional<Step> step = step_behind(value)) {
      for (const NodeId other : sharing(step->source))
        out.push_back(node(only_reader(graph_, node(other).out)).out);
    }
    return out;
  }

  // Steps that let a change through.

  std::vector<ChannelPass> passes_of(NodeId n) const {
    std::vector<ChannelPass> passes;
    if (is_kind(graph_, n, ChannelKind::kProduct)) {
      for (std::size_t i = 0; i < node(n).in.size(); ++i)
        passes.push_back({.operand = i, .change = ChannelChange::kScale});
      return passes;
    }

    const bool asked_for = (scope_.through_relu && is_kind(graph_, n, ChannelKind::kEach)) ||
                           (scope_.through_attention && is_kind(graph_, n, ChannelKind::kHeads));
    if (!asked_for || !node(n).op->channels.pass) return passes;
    const ChannelPass pass = node(n).op->channels.pass(node(n));
    if (pass.change != ChannelChange::kNothing) passes.push_back(pass);
    return passes;
  }

  /// The last one, where several factors of a product come from matrices.
  std::optional<Step> step_behind(ValueId value) const {
    const NodeId n = graph_.producer(value);
    std::optional<Step> found;
    for (const ChannelPass& pass : passes_of(n)) {
      const ValueId from = operand(graph_, n, pass.operand);
      const NodeId source = from == kNoValue ? kNoNode : graph_.producer(from);
      if (is_matrix(source) && all_stand_alike(source, n, pass)) found = Step{n, source, pass};
    }
    return found;
  }

  /// Whether everybody with the matrix of `source` stands in front of a step like `step`, which
  /// alone reads it.
  bool all_stand_alike(NodeId source, NodeId step, const ChannelPass& pass) const {
    return std::all_of(sharing(source).begin(), sharing(source).end(), [&](NodeId other) {
      const ValueId out = node(other).out;
      const NodeId reader = only_reader(graph_, out);
      if (reader == kNoNode || node(reader).op != node(step).op) return false;
      if (operand(graph_, reader, pass.operand) != out || times_read(graph_, reader, out) != 1)
        return false;
      const std::vector<ChannelPass> passes = passes_of(reader);
      return std::find(passes.begin(), passes.end(), pass) != passes.end();
    });
  }

  // Members.

  ChannelMember member(NodeId n, ValueId value, ChannelAxis axis, ChannelChange change,
                       const SharedHeads& shared = {}) const {
    ChannelMap map{.size = graph_.value(value).type.columns, .shared = shared};
    if (axis == ChannelAxis::kRows) map.packing = graph_.param(node(n).param).packing;
    return {n, value, axis, change, map};
  }

  ChannelChange undone_by_columns(NodeId n) const {
    const ChannelRule& rule = node(n).op->channels;
    return rule.pass ? rule.pass(node(n)).change : ChannelChange::kScaleAndShift;
  }

  void add_readers(ValueId value) {
    for (const NodeId n : readers_of(graph_, value)) {
      if (!reads_by_columns(n, value))
        group_.others.push_back({.node = n, .value = value});
      else if (is_tied(n))
        group_.why_not = kIsTied;
      else if (matrices_.insert(node(n).param).second)
        group_.consumers.push_back(member(n, value, ChannelAxis::kColumns, undone_by_columns(n)));
    }
    if (is_seen(graph_, value)) group_.others.push_back({.node = kNoNode, .value = value});
  }

  void add_producer(ValueId value) {
    const NodeId n = graph_.producer(value);
    const auto add = [&](ChannelAxis axis) {
      group_.producers.push_back(member(n, value, axis, ChannelChange::kScaleAndShift));
    };
    if (is_vector(n))
      add(ChannelAxis::kElements);
    else if (is_matrix(n))
      add(ChannelAxis::kRows);
    else if (is_kind(graph_, n, ChannelKind::kTable) && readers_of_weight(n).size() == 1)
      add(ChannelAxis::kColumns);
    else if (const std::optional<Step> step = step_behind(value))
      add_step(value, *step);
  }

  /// What a step lets through is not restored for others behind it.
  void add_step(ValueId value, const Step& step) {
    if (group_.others_read(value)) {
      if (!is_kind(graph_, step.node, ChannelKind::kProduct)) return;
      group_.why_not = kOthersRead;
    }

    const ChannelPass& pass = step.pass;
    group_.passers.push_back(
        member(step.node, value, ChannelAxis::kNone, pass.change, pass.shared));
    group_.producers.push_back(
        member(step.source, value, ChannelAxis::kRows, pass.change, pass.shared));
  }

  const Graph& graph_;
  const ChannelScope& scope_;
  ChannelGroup group_;
  std::set<ParamId> matrices_;  ///< of the consumers
};

}  // namespace

const ChannelMember* ChannelGroup::producer_of(ValueId value) const {
  const auto found = std::find_if(producers.begin(), producers.end(),
                                  [&](const ChannelMember& m) { return m.value == value; });
  return found == producers.end() ? nullptr : &*found;
}

bool ChannelGroup::others_read(ValueId value) const {
  return std::any_of(others.begin(), others.end(),
                     [&](const ChannelMember& m) { return m.value == value; });
}

ChannelGroup channel_group(const Graph& graph, ValueId value, const ChannelScope& scope) {
  return Derivation(graph, scope).run(base_of(graph, value));
}

std::vector<NodeId> row_makers(const Graph& graph, const ChannelGroup& group) {
  const auto is_own = [&](NodeId n) {
    const ParamId p = graph.node(n).param;
    return graph.node(n).is(op_linear) && graph.users(p).size() == 1 &&
           graph.param(p).packing.parts == 1;
  };
  const bool consumers_own =
      std::all_of(group.consumers.begin(), group.consumers.end(),
                  [&](const ChannelMember& consumer) { return is_own(consumer.node); });
  const bool alone = group.values.size() == 1 && group.others.empty() && group.why_not.empty();
  if (!alone || !consumers_own) return {};

  std::vector<NodeId> makers;
  std::vector<ValueId> open = {group.values.front()};
  while (!open.empty()) {
    const ValueId v = open.back();
    open.pop_back();
    const bool is_start = v == group.values.front();
    if (!is_start && only_reader(graph, v) == kNoNode) return {};

    const NodeId n = graph.producer(v);
    if (!is_start && is_kind(graph, n, ChannelKind::kMatrix) && is_own(n)) {
      makers.push_back(n);
      continue;
    }
    const bool apart =
        is_kind(graph, n, ChannelKind::kEach) || is_kind(graph, n, ChannelKind::kProduct);
    if (!apart || graph.node(n).param != kNoParam) return {};
    for (std::size_t i = 0; i < graph.node(n).in.size(); ++i)
      if (const ValueId from = operand(graph, n, i); from != kNoValue) open.push_back(from);
  }
  return makers;
}

}  // namespace quell
