// What layers give, embeddings in front: squared differences from the teacher's.
#include "quell/train/losses/hidden_states.h"

#include "quell/train/term_inputs.h"

namespace quell::train {
namespace {

class HiddenStates : public ObjectiveTerm {
 public:
  HiddenStates(const MethodParams& params, const TermSetting& setting)
      : model_(setting.student.model()),
        pairs_(
            hidden_state_pairs(setting.student.graph(), setting.teacher->graph(), setting.layers)) {
    params.check_keys({});
    check_widths(params.name(), setting, pairs_);
  }

  void want(Taps& student, Taps& teacher) const override {
    student.values.insert(student.values.end(), pairs_.student.begin(), pairs_.student.end());
    teacher.values.insert(teacher.values.end(), pairs_.teacher.begin(), pairs_.teacher.end());
  }

  torch::Tensor value(const TermInput& input) override {
    return layer_mse(tapped(input.student, pairs_.student), tapped(input.teacher, pairs_.teacher));
  }

  std::map<std::string, double> diagnostics(const TermInput& input) const override {
    const torch::Tensor last = input.student.taps.at(pairs_.student.back());
    return row_diagnostics(token_rows(model_, input.batch.tokens, last));
  }

 private:
  const Model& model_;
  ValuePairs pairs_;
};

}  // namespace

extern const TermFactory k_hidden_states;
const TermFactory k_hidden_states = {
    "hidden_states", true, false,
    [](const MethodParams& params, const TermSetting& setting) -> std::unique_ptr<ObjectiveTerm> {
      return std::make_unique<HiddenStates>(params, setting);
    }};

}  // namespace quell::train
