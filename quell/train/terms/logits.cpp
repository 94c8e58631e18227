// The teacher's logits: losses/logits.h has the kinds.
#include "quell/train/losses/logits.h"

#include <algorithm>

#include "quell/base/error.h"
#include "quell/train/logit_rows.h"

namespace quell::train {
namespace {

/// Over so many batches the teacher's confidence is measured, as BitDistiller's code does it.
constexpr double kConfidenceBatches = 10;

class Logits : public ObjectiveTerm {
 public:
  Logits(const MethodParams& params, const TermSetting& setting)
      : rows_(params.name(), setting),
        kind_(params.choice(
            "kind", {"soft_cross_entropy", "kl", "reverse_kl", "cakld", "jsd", "top_k", "mse"},
            rows_.columns() == 1 ? "mse" : "soft_cross_entropy")) {
    read(params);
    sums_ = params.choice("positions", {"mean", "sum"}, kind_ == "cakld" ? "sum" : "mean") == "sum";

    const bool takes_numbers = params.choice("regression", {"none", "mse"}, "none") == "mse";
    const bool has_distribution = rows_.columns() > 1;
    if (has_distribution || kind_ == "mse") return;
    require(takes_numbers, ErrorCode::kInvalidInput, "term \"logits\": kind ", kind_,
            " of one logit is 0 whatever it is; choose mse, or regression: mse beside it");
    kind_ = "mse";
  }

  torch::Tensor value(const TermInput& input) override {
    const LogitRows::Counted counted = rows_.counted(input.batch);
    const torch::Tensor& at = counted.at;
    const torch::Tensor teacher = logits_at(input.teacher, at);
    if (confidence_.defined()) measure_confidence(teacher, counted.labels);
    const torch::Tensor mean = of_rows(logits_at(input.student, at), teacher);
    if (!sums_) return mean;
    const auto sequences = static_cast<double>(input.batch.tokens.batch);
    return mean * (static_cast<double>(at.size(0)) / sequences);
  }

  std::vector<NamedTensor> state() const override {
    if (!confidence_.defined()) return {};
    return {{"confidence", confidence_}};
  }

 private:
  void read(const MethodParams& params) {
    std::vector<std::string> keys = {"kind", "regression", "positions"};
    if (kind_ == "soft_cross_entropy") {
      keys.emplace_back("classes");
      const bool is_mean = params.choice("classes", {"sum", "mean"}, "sum") == "mean";
      over_ = is_mean ? OverClasses::kMean : OverClasses::kSum;
    }
    if (kind_ == "kl") {
      keys.emplace_back("temperature");
      temperature_ = params.number("temperature", 1e-3, 1e3, 1);
    }
    if (kind_ == "cakld" || kind_ == "jsd") {
      keys.emplace_back("share");
      require(kind_ == "jsd" || params.has("share"), ErrorCode::kInvalidInput,
              "term \"logits\": kind cakld needs \"share\", the weight of the reverse KL: the "
              "teacher's mean confidence, from 0 to 1, or measured");
      const bool is_measured =
          kind_ == "cakld" && params.values().at("share") == std::string("measured");
      if (is_measured)
        confidence_ = torch::zeros({2}, torch::kFloat64);
      else
        share_ = params.number("share", 0, 1, 0.5);
    }
    if (kind_ == "top_k") {
      keys.emplace_back("k");
      k_ = params.integer("k", 1, rows_.columns(), std::min<std::int64_t>(10, rows_.columns()));
    }
    params.check_keys(keys);
  }

  /// The teacher's mean probability of the labels, or of its own first choice where there are none,
  /// is the share of the reverse KL from the first batches on; it then stays.
  void measure_confidence(const torch::Tensor& teacher, const torch::Tensor& labels) {
    const torch::NoGradGuard guard;
    if (confidence_[1].item<double>() < kConfidenceBatches) {
      const torch::Tensor probabilities = torch::softmax(teacher, -1);
      torch::Tensor of_rows = probabilities.amax(-1);
      if (labels.defined()) {
        const torch::Tensor of_labels =
            probabilities.gather(1, labels.clamp_min(0).unsqueeze(1)).squeeze(1);
        of_rows = torch::where(labels.eq(kIgnoredLabel), of_rows, of_labels);
      }
      confidence_[0] += of_rows.mean().to(torch::kFloat64);
      confidence_[1] += 1;
    }
    share_ = (confidence_[0] / confidence_[1]).item<double>();
  }

  /// Mean over rows.
  torch::Tensor of_rows(const torch::Tensor& student, const torch::Tensor& teacher) const {
    if (kind_ == "kl") return kl_at_temperature(student, teacher, temperature_);
    if (kind_ == "reverse_kl") return reverse_kls(student, teacher).mean();
    if (kind_ == "jsd") return jensen_shannon(student, teacher, share_).mean();
    if (kind_ == "top_k") return top_k_soft_cross_entropy(student, teacher, k_);
    if (kind_ == "mse") return logit_mse(student, teacher);
    if (kind_ == "cakld")
      return share_ * reverse_kls(student, teacher).mean() +
             (1 - share_) * forward_kls(student, teacher).mean();
    return soft_cross_entropy(student, teacher, over_);
  }

  LogitRows rows_;
  std::string kind_;
  OverClasses over_ = OverClasses::kSum;
  double temperature_ = 1;
  double share_ = 0.5;
  std::int64_t k_ = 1;
  torch::Tensor confidence_;  ///< sum over batches, and how many: of a share that is measured
  bool sums_ = false;         ///< over the positions of a sequence
};

}  // namespace

extern const TermFactory k_logits;
const TermFactory k_logits = {
    "logits", true, false,
    [](const MethodParams& params, const TermSetting& setting) -> std::unique_ptr<ObjectiveTerm> {
      return std::make_unique<Logits>(params, setting);
    }};

}  // namespace quell::train
