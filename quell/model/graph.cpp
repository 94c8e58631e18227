#include "quell/model/graph.h"

#include <map>

#include "quell/base/error.h"

namespace quell {
namespace {

class Builder {
 public:
  explicit Builder(const ModelSpec& spec) {
    for (std::size_t s = 0; s < spec.stacks.size(); ++s)
      add_stack(spec.stacks[s], static_cast<int>(s));
    add_steps(spec.head_steps, static_cast<int>(spec.stacks.size()) - 1, -1, -1);
    for (const auto& [name, value] : spec.outputs)
      graph_.outputs.emplace_back(name, current(value));
    for (std::size_t n = 0; n < graph_.nodes.size(); ++n)
      for (const ValueId v : graph_.nodes[n].in)
        if (v != kNoValue) graph_.last_use[static_cast<std::size_t>(v)] = static_cast<int>(n);
  }
  Graph take() { return std::move(graph_); }

 private:
  int size() const { return static_cast<int>(graph_.nodes.size()); }

  ValueId current(Value value) const {
    const auto it = values_.find(value);
    require(it != values_.end(), ErrorCode::kUnsupported,
            "model description reads a value that no step wrote");
    return it->second;
  }

  void add_stack(const Stack& stack, int index) {
    std::vector<ValueId>& states = graph_.hidden_states.emplace_back();
    add_steps(stack.prologue, index, -1, -1);
    states.push_back(current(Value::kHidden));
    for (std::size_t l = 0; l < stack.layers.size(); ++l) {
      const int begin = size();
      add_steps(stack.block, index, static_cast<int>(l), stack.layers[l].weights);
      graph_.blocks.push_back({begin, size()});
      states.push_back(current(Value::kHidden));
    }
    add_steps(stack.epilogue, index, -1, -1);
    if (!stack.last_hidden_before_epilogue) states.back() = current(Value::kHidden);
    values_[stack.result] = current(Value::kHidden);
  }

  void add_steps(const std::vector<Step>& steps, int stack, int layer, int weights) {
    for (const Step& step : steps) {
      Node node{
          .kind = step.kind, .slot = step.slot, .stack = stack, .layer = layer, .weights = weights};
      node.activation = step.activation;
      node.number = step.number;
      node.cross = step.cross;
      bool constant = step.kind == StepKind::kTable;
      for (std::size_t i = 0; i < kMaxOperands; ++i)
        if (step.in[i] != Value::kNone) {
          node.in[i] = current(step.in[i]);
          constant = (i == 0 || constant) && graph_.constant[static_cast<std::size_t>(node.in[i])];
        }
      node.out = static_cast<ValueId>(graph_.producer.size());
      graph_.constant.push_back(constant);
      graph_.producer.push_back(size());
      graph_.last_use.push_back(-1);
      values_[step.out] = node.out;
      graph_.nodes.push_back(node);
    }
  }

  Graph graph_;
  std::map<Value, ValueId> values_;
};

}  // namespace

std::vector<int> Graph::uses(ValueId value) const {
  std::vector<int> out;
  for (std::size_t n = 0; n < nodes.size(); ++n)
    for (const ValueId v : nodes[n].in)
      if (v == value && (out.empty() || out.back() != static_cast<int>(n)))
        out.push_back(static_cast<int>(n));
  return out;
}

Graph build_graph(const ModelSpec& spec) { return Builder(spec).take(); }

}  // namespace quell
