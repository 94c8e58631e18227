// What attention gives (KD-QAT), at one of the places behind it:
//   context, projection (the linear), residual (its sum with the input), sublayer (the norm of
//   that)
#include "quell/base/error.h"
#include "quell/graph/forms.h"
#include "quell/train/losses/hidden_states.h"
#include "quell/train/term_inputs.h"

namespace quell::train {
namespace {

/// The one reader of `v` of that op; kNoNode where there is another number of them.
NodeId only_reader(const Graph& graph, ValueId v, const OpDef& op) {
  NodeId found = kNoNode;
  for (const NodeId n : readers_of(graph, v)) {
    if (!graph.node(n).is(op)) continue;
    if (found != kNoNode) return kNoNode;
    found = n;
  }
  return found;
}

ValueId residual_sum(const Graph& graph, ValueId projection) {
  const NodeId sum = only_reader(graph, projection, op_add);
  return sum == kNoNode ? kNoValue : graph.node(sum).out;
}

/// A norm in front of the next sublayer alone (pre-norm) is not what attention gives: its sum is
/// read by another one too.
ValueId normed(const Graph& graph, ValueId sum) {
  const NodeId norm = only_reader(graph, sum, op_norm);
  if (norm == kNoNode || readers_of(graph, sum).size() != 1) return kNoValue;
  return graph.node(norm).out;
}

ValueId value_at(const std::string& point, const Graph& graph, NodeId attention) {
  ValueId v = attention_output(graph, attention);
  if (v != kNoValue && point != "projection") v = residual_sum(graph, v);
  if (v != kNoValue && point == "sublayer") v = normed(graph, v);
  require(v != kNoValue, ErrorCode::kInvalidInput,
          "term \"attention_outputs\": ", graph.node(attention).label, " has no place \"", point,
          "\" behind it; choose another point, or leave the term out");
  return v;
}

std::vector<ValueId> values_at(const std::string& point, const Graph& graph,
                               const std::vector<NodeId>& attentions) {
  std::vector<ValueId> out;
  for (const NodeId n : attentions) out.push_back(value_at(point, graph, n));
  return out;
}

class AttentionOutputs : public ObjectiveTerm {
 public:
  AttentionOutputs(const MethodParams& params, const TermSetting& setting) {
    params.check_keys({"point"});
    const std::string point =
        params.choice("point", {"sublayer", "residual", "projection", "context"}, "sublayer");
    if (point == "context") {
      nodes_ = equal_attention_pairs(params.name(), setting);
      check_head_widths(setting);
      return;
    }

    const Graph& student = setting.student.graph();
    const Graph& teacher = setting.teacher->graph();
    const NodePairs attentions = attention_pairs(student, teacher, setting.layers);
    require(!attentions.student.empty(), ErrorCode::kInvalidInput,
            "term \"attention_outputs\": the model has no attention in its layers; leave the term "
            "out");
    values_ = {values_at(point, student, attentions.student),
               values_at(point, teacher, attentions.teacher)};
    check_widths(params.name(), setting, values_);
  }

  void want(Taps& student, Taps& teacher) const override {
    student.values.insert(student.values.end(), values_.student.begin(), values_.student.end());
    teacher.values.insert(teacher.values.end(), values_.teacher.begin(), values_.teacher.end());
    want_stage(student, nodes_.student, AttentionStage::kContext);
    want_stage(teacher, nodes_.teacher, AttentionStage::kContext);
  }

  torch::Tensor value(const TermInput& input) override {
    if (!nodes_.student.empty())
      return layer_mse(tapped(input.student, nodes_.student, AttentionStage::kContext),
                       tapped(input.teacher, nodes_.teacher, AttentionStage::kContext));
    return layer_mse(tapped(input.student, values_.student),
                     tapped(input.teacher, values_.teacher));
  }

 private:
  void check_head_widths(const TermSetting& setting) const {
    const auto width = [](const Graph& graph, NodeId n) {
      return graph.node(n).attributes.get<AttentionAttributes>().recipe.head_dim;
    };
    for (std::size_t i = 0; i < nodes_.student.size(); ++i) {
      const std::int64_t of_student = width(setting.student.graph(), nodes_.student[i]);
      const std::int64_t of_teacher = width(setting.teacher->graph(), nodes_.teacher[i]);
      require(of_student == of_teacher, ErrorCode::kInvalidInput,
              "term \"attention_outputs\": heads of the student are ", of_student,
              " wide, those of the teacher ", of_teacher, "; leave the term out");
    }
  }

  ValuePairs values_;
  NodePairs nodes_;  ///< of contexts
};

}  // namespace

extern const TermFactory k_attention_outputs;
const TermFactory k_attention_outputs = {
    "attention_outputs", true, false,
    [](const MethodParams& params, const TermSetting& setting) -> std::unique_ptr<ObjectiveTerm> {
      return std::make_unique<AttentionOutputs>(params, setting);
    }};

}  // namespace quell::train
