// What the data says: cross entropy with classes or tokens, squared difference from numbers.
#include "quell/base/error.h"
#include "quell/train/logit_rows.h"
#include "quell/train/losses/logits.h"

namespace quell::train {
namespace {

class Labels : public ObjectiveTerm {
 public:
  Labels(const MethodParams& params, const TermSetting& setting)
      : rows_(params.name(), setting), is_value_(setting.task == TaskKind::kValue) {
    params.check_keys({"reduction"});
    sums_ = params.choice("reduction", {"mean", "sum"}, "mean") == "sum";
  }

  torch::Tensor value(const TermInput& input) override {
    require(input.batch.labels.defined(), ErrorCode::kInvalidInput,
            "term \"labels\": the batch has no labels");
    const LogitRows::Counted counted = rows_.counted(input.batch);
    const torch::Tensor logits = logits_at(input.student, counted.at);
    const auto reduction = sums_ ? at::Reduction::Sum : at::Reduction::Mean;
    if (is_value_)
      return torch::mse_loss(logits.squeeze(-1), counted.labels.to(logits.scalar_type()),
                             reduction);

    check(counted.labels);
    return torch::cross_entropy_loss(logits, counted.labels, {}, reduction, kIgnoredLabel);
  }

 private:
  void check(const torch::Tensor& labels) const {
    const torch::Tensor known = labels.masked_select(labels.ne(kIgnoredLabel));
    require(known.numel() > 0, ErrorCode::kInvalidInput,
            "term \"labels\": no sequence of the batch has a label");
    const auto least = known.min().item<std::int64_t>();
    const auto most = known.max().item<std::int64_t>();
    require(least >= 0 && most < rows_.columns(), ErrorCode::kInvalidInput,
            "term \"labels\": label ", least < 0 ? least : most, ", and the model has ",
            rows_.columns(), " classes");
  }

  LogitRows rows_;
  bool is_value_;
  bool sums_ = false;
};

}  // namespace

extern const TermFactory k_labels;
const TermFactory k_labels = {
    "labels", false, true,
    [](const MethodParams& params, const TermSetting& setting) -> std::unique_ptr<ObjectiveTerm> {
      return std::make_unique<Labels>(params, setting);
    }};

}  // namespace quell::train
