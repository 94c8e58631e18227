// QuantGPT's contrastive distillation of tokens, on the last hidden states. Its memory bank is
// state.
#include "quell/train/losses/token_contrastive.h"

#include "quell/base/error.h"
#include "quell/train/term_inputs.h"
#include "quell/train/torch_op.h"

namespace quell::train {
namespace {

TokenContrastiveOptions read_options(const MethodParams& params) {
  params.check_keys(
      {"momentum", "temperature", "positive_in_denominator", "same_id_masked", "reduction"});
  TokenContrastiveOptions options;
  options.momentum = params.number("momentum", 0, 0.9999, options.momentum);
  options.temperature = params.number("temperature", 1e-4, 1e3, options.temperature);
  options.positive_in_denominator =
      params.flag("positive_in_denominator", options.positive_in_denominator);
  options.same_id_masked = params.flag("same_id_masked", options.same_id_masked);
  options.sum = params.choice("reduction", {"mean", "sum"}, "mean") == "sum";
  return options;
}

class TokenContrastiveTerm : public ObjectiveTerm {
 public:
  TokenContrastiveTerm(const MethodParams& params, const TermSetting& setting)
      : model_(setting.student.model()),
        pair_{{last_hidden_state(model_.graph)}, {last_hidden_state(setting.teacher->graph())}},
        stack_(static_cast<int>(model_.graph.stacks.size()) - 1),
        loss_(read_options(params), model_.spec.vocab_size,
              model_.graph.value(pair_.student[0]).type.columns, setting.student.dtype()) {
    require(!model_.reads_images(), ErrorCode::kInvalidInput,
            "term \"token_contrastive\": the model reads images, which have no token ids");
    check_widths(params.name(), setting, pair_);
  }

  void want(Taps& student, Taps& teacher) const override {
    student.values.push_back(pair_.student[0]);
    teacher.values.push_back(pair_.teacher[0]);
  }

  torch::Tensor value(const TermInput& input) override {
    const TokenBatch tokens = tokens_of(model_, input.batch.tokens, stack_);
    const std::int64_t batch = tokens.batch;
    const std::int64_t length = tokens.length;
    const auto by_sentence = [&](const torch::Tensor& rows) {
      return rows.view({batch, length, -1});
    };
    return loss_
        .step(to_torch(tokens.ids).view({batch, length}), is_token(tokens),
              by_sentence(input.student.taps.at(pair_.student[0])),
              by_sentence(input.teacher.taps.at(pair_.teacher[0])))
        .loss;
  }

  std::vector<NamedTensor> state() const override {
    return {{"bank", loss_.bank()}, {"is_known", loss_.is_known()}};
  }

  std::map<std::string, double> diagnostics(const TermInput& input) const override {
    const torch::Tensor last = input.student.taps.at(pair_.student[0]);
    return row_diagnostics(token_rows(model_, input.batch.tokens, last));
  }

 private:
  const Model& model_;
  ValuePairs pair_;
  int stack_;
  TokenContrastive loss_;
};

}  // namespace

extern const TermFactory k_token_contrastive;
const TermFactory k_token_contrastive = {
    "token_contrastive", true, false,
    [](const MethodParams& params, const TermSetting& setting) -> std::unique_ptr<ObjectiveTerm> {
      return std::make_unique<TokenContrastiveTerm>(params, setting);
    }};

}  // namespace quell::train
