// The teacher's logits: losses/logits.h has the kinds.
#include "quell/train/losses/logits.h"

#include <algorithm>

#include "quell/base/error.h"
#include "quell/train/logit_rows.h"

namespace quell::train {
namespace {

class Logits : public ObjectiveTerm {
 public:
  Logits(const MethodParams& params, const TermSetting& setting)
      : rows_(params.name(), setting),
        kind_(params.choice(
            "kind", {"soft_cross_entropy", "kl", "reverse_kl", "cakld", "jsd", "top_k", "mse"},
            rows_.columns() == 1 ? "mse" : "soft_cross_entropy")) {
    require(rows_.columns() > 1 || kind_ == "mse", ErrorCode::kInvalidInput,
            "term \"logits\": kind ", kind_, " of one logit is 0 whatever it is; choose mse");
    read(params);
    sums_ = params.choice("positions", {"mean", "sum"}, kind_ == "cakld" ? "sum" : "mean") == "sum";
  }

  torch::Tensor value(const TermInput& input) override {
    const torch::Tensor at = rows_.counted(input.batch).at;
    const torch::Tensor mean = of_rows(logits_at(input.student, at), logits_at(input.teacher, at));
    if (!sums_) return mean;
    const auto sequences = static_cast<double>(input.batch.tokens.batch);
    return mean * (static_cast<double>(at.size(0)) / sequences);
  }

 private:
  void read(const MethodParams& params) {
    std::vector<std::string> keys = {"kind", "positions"};
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
              "teacher's mean confidence, from 0 to 1");
      share_ = params.number("share", 0, 1, 0.5);
    }
    if (kind_ == "top_k") {
      keys.emplace_back("k");
      k_ = params.integer("k", 1, rows_.columns(), std::min<std::int64_t>(10, rows_.columns()));
    }
    params.check_keys(keys);
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
  bool sums_ = false;  ///< over the positions of a sequence
};

}  // namespace

extern const TermFactory k_logits;
const TermFactory k_logits = {
    "logits", true, false,
    [](const MethodParams& params, const TermSetting& setting) -> std::unique_ptr<ObjectiveTerm> {
      return std::make_unique<Logits>(params, setting);
    }};

}  // namespace quell::train
