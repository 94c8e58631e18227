// Attention scores (TernaryBERT), or maps of causal models below the diagonal (TSLD).
#include "quell/train/losses/attention_scores.h"

#include "quell/base/error.h"
#include "quell/train/term_inputs.h"

namespace quell::train {
namespace {

/// What the references add to scores that a query may not see.
constexpr double kMasked = -10000;

class AttentionScores : public ObjectiveTerm {
 public:
  AttentionScores(const MethodParams& params, const TermSetting& setting)
      : student_(setting.student.model()), pairs_(equal_attention_pairs(params.name(), setting)) {
    params.check_keys({"kind"});
    of_maps_ = params.choice("kind", {"mse", "causal_map"}, "mse") == "causal_map";
    if (of_maps_) check_causal();
  }

  void want(Taps& student, Taps& teacher) const override {
    want_stage(student, pairs_.student, stage());
    want_stage(teacher, pairs_.teacher, stage());
  }

  torch::Tensor value(const TermInput& input) override {
    const Layers layers = of_pass(input);
    return of_maps_ ? causal_map_mse(layers.student, layers.teacher)
                    : attention_score_mse(layers.student, layers.teacher);
  }

  /// Of maps: scores of different size may stand for the same.
  std::map<std::string, double> diagnostics(const TermInput& input) const override {
    Layers layers = of_pass(input);
    if (!of_maps_) {
      for (torch::Tensor& scores : layers.student) scores = torch::softmax(scores, -1);
      for (torch::Tensor& scores : layers.teacher) scores = torch::softmax(scores, -1);
    }
    return map_diagnostics(student_, input.batch.tokens, pairs_.student, layers.student,
                           layers.teacher);
  }

 private:
  struct Layers {
    std::vector<torch::Tensor> student;
    std::vector<torch::Tensor> teacher;
  };

  AttentionStage stage() const { return of_maps_ ? AttentionStage::kMap : AttentionStage::kScores; }

  void check_causal() const {
    for (const NodeId n : pairs_.student) {
      const Node& node = student_.graph.node(n);
      const AttentionRecipe& recipe = node.attributes.get<AttentionAttributes>().recipe;
      require(recipe.causal && !recipe.cross, ErrorCode::kInvalidInput,
              "term \"attention_scores\": kind causal_map, and ", node.label,
              " is not causal; choose mse");
    }
  }

  Layers of_pass(const TermInput& input) const {
    Layers layers = {tapped(input.student, pairs_.student, stage()),
                     tapped(input.teacher, pairs_.teacher, stage())};
    if (of_maps_) return layers;

    for (std::size_t i = 0; i < pairs_.student.size(); ++i) {
      const Node& node = student_.graph.node(pairs_.student[i]);
      const torch::Tensor hidden = hidden_from(student_, input.batch.tokens, node);
      layers.student[i] = layers.student[i].masked_fill(hidden, kMasked);
      layers.teacher[i] = layers.teacher[i].masked_fill(hidden, kMasked);
    }
    return layers;
  }

  const Model& student_;
  NodePairs pairs_;
  bool of_maps_ = false;
};

}  // namespace

extern const TermFactory k_attention_scores;
const TermFactory k_attention_scores = {
    "attention_scores", true, false,
    [](const MethodParams& params, const TermSetting& setting) -> std::unique_ptr<ObjectiveTerm> {
      return std::make_unique<AttentionScores>(params, setting);
    }};

}  // namespace quell::train
