// TSLD: logits of next tokens, those of which the teacher is unsure counting more.
#include "quell/train/losses/token_scaled.h"

#include "quell/base/error.h"
#include "quell/train/logit_rows.h"
#include "quell/train/term_inputs.h"

namespace quell::train {
namespace {

class TokenScaled : public ObjectiveTerm {
 public:
  TokenScaled(const MethodParams& params, const TermSetting& setting) {
    const LogitRows checked(params.name(), setting);
    params.check_keys({"tau", "padding"});
    counts_padding_ = params.choice("padding", {"left_out", "counted"}, "left_out") == "counted";
    tau_ = params.number("tau", 1e-3, 1e6, 10);
    require(setting.task == TaskKind::kCausalLm, ErrorCode::kInvalidInput,
            "term \"token_scaled\": is about next tokens; take \"logits\" for this task");
  }

  /// Sentence by sentence, so that padding has no share of the weights; in the reference it has.
  /// Summed over the batch, as the reference does.
  torch::Tensor value(const TermInput& input) override {
    require(input.batch.labels.defined(), ErrorCode::kInvalidInput,
            "term \"token_scaled\": the batch has no labels");
    const TokenBatch& tokens = input.batch.tokens;
    const torch::Tensor student = by_sentence(input.student, tokens);
    const torch::Tensor teacher = by_sentence(input.teacher, tokens);
    if (counts_padding_)
      return token_scaled_soft_cross_entropy(student, teacher, input.batch.labels, tau_);

    const torch::Tensor lengths = is_token(tokens).sum(1);
    torch::Tensor sum = student.sum() * 0;
    for (std::int64_t b = 0; b < tokens.batch; ++b) {
      const auto length = lengths[b].item<std::int64_t>();
      if (length < 2) continue;
      const auto sentence = [&](const torch::Tensor& x) {
        return x.narrow(0, b, 1).narrow(1, 0, length);
      };
      sum = sum + token_scaled_soft_cross_entropy(sentence(student), sentence(teacher),
                                                  sentence(input.batch.labels), tau_);
    }
    return sum;
  }

 private:
  static torch::Tensor by_sentence(const TorchOutputs& outputs, const TokenBatch& tokens) {
    return outputs.values.at("logits").view({tokens.batch, tokens.length, -1});
  }

  double tau_ = 10;
  bool counts_padding_ = false;
};

}  // namespace

extern const TermFactory k_token_scaled;
const TermFactory k_token_scaled = {
    "token_scaled", true, true,
    [](const MethodParams& params, const TermSetting& setting) -> std::unique_ptr<ObjectiveTerm> {
      return std::make_unique<TokenScaled>(params, setting);
    }};

}  // namespace quell::train
