// Attention maps (KD-QAT): the divergence of each row from the teacher's.
#include "quell/train/losses/attention_maps.h"

#include "quell/train/term_inputs.h"

namespace quell::train {
namespace {

class AttentionMaps : public ObjectiveTerm {
 public:
  AttentionMaps(const MethodParams& params, const TermSetting& setting)
      : student_(setting.student.model()), pairs_(equal_attention_pairs(params.name(), setting)) {
    params.check_keys({});
  }

  void want(Taps& student, Taps& teacher) const override {
    want_stage(student, pairs_.student, AttentionStage::kMap);
    want_stage(teacher, pairs_.teacher, AttentionStage::kMap);
  }

  torch::Tensor value(const TermInput& input) override {
    const auto student = tapped(input.student, pairs_.student, AttentionStage::kMap);
    const auto teacher = tapped(input.teacher, pairs_.teacher, AttentionStage::kMap);
    torch::Tensor sum;
    for (std::size_t i = 0; i < student.size(); ++i) {
      const Node& node = student_.graph.node(pairs_.student[i]);
      const bool cross = node.attributes.get<AttentionAttributes>().recipe.cross;
      const torch::Tensor queries = lengths(input.batch.tokens, node.place.stack);
      const torch::Tensor keys = cross ? lengths(input.batch.tokens, 0) : queries;
      const torch::Tensor of_layer = attention_map_kl({student[i]}, {teacher[i]}, queries, keys);
      sum = sum.defined() ? sum + of_layer : of_layer;
    }
    return sum;
  }

  std::map<std::string, double> diagnostics(const TermInput& input) const override {
    return map_diagnostics(student_, input.batch.tokens, pairs_.student,
                           tapped(input.student, pairs_.student, AttentionStage::kMap),
                           tapped(input.teacher, pairs_.teacher, AttentionStage::kMap));
  }

 private:
  torch::Tensor lengths(const TokenBatch& tokens, int stack) const {
    return is_token(tokens_of(student_, tokens, stack)).sum(1);
  }

  const Model& student_;
  NodePairs pairs_;
};

}  // namespace

extern const TermFactory k_attention_maps;
const TermFactory k_attention_maps = {
    "attention_maps", true, false,
    [](const MethodParams& params, const TermSetting& setting) -> std::unique_ptr<ObjectiveTerm> {
      return std::make_unique<AttentionMaps>(params, setting);
    }};

}  // namespace quell::train
