// Every run of golden/qat/losses: values and gradients of reference code, and of the readings of
// papers without public code, in f32 and f64.
#include "quell/base/error.h"
#include "quell/train/losses/attention_maps.h"
#include "quell/train/losses/attention_scores.h"
#include "quell/train/losses/diagnostics.h"
#include "quell/train/losses/hidden_states.h"
#include "quell/train/losses/logits.h"
#include "quell/train/losses/sample_contrastive.h"
#include "quell/train/losses/token_contrastive.h"
#include "quell/train/losses/token_scaled.h"
#include "tests/train/golden_run.h"

namespace quell::train {
namespace {

/// A value a layer: slices of the first dimension.
std::vector<torch::Tensor> layers(const torch::Tensor& stacked) { return stacked.unbind(0); }

/// A loss of the student's logits.
using LogitLoss = std::function<torch::Tensor(const torch::Tensor&, const torch::Tensor&)>;
Tensors of_logits(const GoldenRun& run, const LogitLoss& loss) {
  const torch::Tensor student = leaf(run.input("student"));
  Tensors out;
  out["loss"] = loss(student, run.input("teacher"));
  out["loss"].backward();
  out["grad_student"] = student.grad();
  return out;
}

Tensors soft_ce(GoldenRun& run) {
  const std::string reduction = run.text("reduction");
  const bool sum = reduction == "sum over classes, mean over rows";
  if (!sum && reduction != "mean over all elements") throw std::out_of_range(reduction);
  return of_logits(run, [&](const torch::Tensor& s, const torch::Tensor& t) {
    return soft_cross_entropy(s, t, sum ? OverClasses::kSum : OverClasses::kMean);
  });
}

Tensors mse(GoldenRun& run) { return of_logits(run, logit_mse); }

/// A loss of layers that lie one behind the other in `student` and `teacher`.
template <typename Loss>
Tensors of_layers(const GoldenRun& run, const std::string& gradient, const Loss& loss) {
  const torch::Tensor student = leaf(run.input("student"));
  Tensors out;
  out["loss"] = loss(layers(student), layers(run.input("teacher")));
  out["loss"].backward();
  out[gradient] = student.grad();
  return out;
}

Tensors attn_score_mse(GoldenRun& run) {
  return of_layers(run, "grad_scores", [below = run.number("zero_below")](auto s, auto t) {
    return attention_score_mse(s, t, below);
  });
}

Tensors attn_map_kl(GoldenRun& run) {
  EXPECT_EQ(run.number("clamp_min"), 1e-8);
  return of_layers(run, "grad_probs",
                   [&](auto s, auto t) { return attention_map_kl(s, t, run.input("lengths")); });
}

Tensors attn_map_kl_from_scores(GoldenRun& run) {
  EXPECT_EQ(run.number("clamp_min"), 1e-8);
  const auto maps = [](const std::vector<torch::Tensor>& scores) {
    std::vector<torch::Tensor> out;
    for (const torch::Tensor& of_layer : scores) out.push_back(torch::softmax(of_layer, -1));
    return out;
  };
  return of_layers(run, "grad_scores", [&](auto s, auto t) {
    return attention_map_kl(maps(s), maps(t), run.input("lengths"));
  });
}

Tensors hidden_mse(GoldenRun& run) { return of_layers(run, "grad_hidden", layer_mse); }
Tensors context_mse(GoldenRun& run) { return of_layers(run, "grad_context", layer_mse); }
Tensors attn_output_mse(GoldenRun& run) {
  run.text("tensor");  // which value it is does not matter here
  return of_layers(run, "grad_output", layer_mse);
}

Tensors lm_ce(GoldenRun& run) {
  return of_logits(run, [&](const torch::Tensor& s, const torch::Tensor&) {
    return next_token_cross_entropy(s, run.input("labels"));
  });
}

Tensors lm_soft_ce(GoldenRun& run) { return of_logits(run, next_token_soft_cross_entropy); }

Tensors token_scaled(GoldenRun& run, bool with_labels) {
  const double tau = run.number("tau");
  if (run.has("note")) run.text("note");
  const torch::Tensor& labels = run.input("labels");
  Tensors out = of_logits(run, [&](const torch::Tensor& s, const torch::Tensor& t) {
    const torch::Tensor loss = token_scaled_soft_cross_entropy(s, t, labels, tau);
    return with_labels ? loss + next_token_cross_entropy(s, labels) : loss;
  });
  const TokenScale scale = token_scale(run.input("teacher"), labels, tau);
  out["teacher_ce"] = scale.teacher_cross_entropy;
  out["token_scale"] = scale.weight;
  return out;
}
Tensors tsld(GoldenRun& run) { return token_scaled(run, false); }
Tensors tsld_plus_gt(GoldenRun& run) { return token_scaled(run, true); }

Tensors tsld_l2l(GoldenRun& run) {
  const torch::Tensor hidden = leaf(run.input("student_hidden"));
  const torch::Tensor maps = leaf(run.input("student_attn"));
  Tensors out;
  out["rep_loss"] = layer_mse(layers(hidden), layers(run.input("teacher_hidden")));
  out["attn_loss"] = causal_map_mse(layers(maps), layers(run.input("teacher_attn")));
  out["loss"] = out["rep_loss"] + out["attn_loss"];
  out["loss"].backward();
  out["grad_hidden"] = hidden.grad();
  out["grad_attn"] = maps.grad();
  return out;
}

Tensors cakld(GoldenRun& run) {
  const double share = run.number("beta");
  Tensors out = of_logits(run, [&](const torch::Tensor& s, const torch::Tensor& t) {
    return confidence_aware_kl(s, t, run.input("labels"), share);
  });
  out["forward_kl"] = forward_kls(run.input("student"), run.input("teacher"));
  out["reverse_kl"] = reverse_kls(run.input("student"), run.input("teacher"));
  return out;
}

Tensors of_answers(GoldenRun& run, const LogitLoss& by_position) {
  return of_logits(run, [&](const torch::Tensor& s, const torch::Tensor& t) {
    return sum_of_answers(by_position(s, t), run.input("labels"));
  });
}
Tensors kl_forward(GoldenRun& run) { return of_answers(run, forward_kls); }
Tensors kl_reverse(GoldenRun& run) { return of_answers(run, reverse_kls); }
Tensors jsd(GoldenRun& run) {
  return of_answers(run, [share = run.number("beta")](const auto& s, const auto& t) {
    return jensen_shannon(s, t, share);
  });
}

Tensors cakld_mean_prob(GoldenRun& run) {
  EXPECT_EQ(run.integer("batches_used"), run.integer("cakld_steps") + 1);
  const torch::Tensor& batches = run.input("teacher");
  TeacherConfidence confidence;
  for (std::int64_t b = 0; b < run.integer("batches_used"); ++b) {
    const torch::Tensor logits = batches[b];
    confidence.add(logits, torch::zeros({logits.size(0), logits.size(1)}, torch::kInt64));
  }
  return {{"mean_prob", torch::tensor(confidence.as_reference(), torch::kFloat64)}};
}

Tensors attention_diagnostics(GoldenRun& run) {
  const torch::Tensor& s = run.input("student");
  const torch::Tensor& t = run.input("teacher");
  return {{"ranking_loss", ranking_loss(s, t)},
          {"cover_length_ratio", cover_length_ratio(s, t, run.integer("top_k"))}};
}

/// Runs of one variant follow each other, and keep its bank.
class TokenContrastiveRuns {
 public:
  Tensors operator()(GoldenRun& run) {
    TokenContrastiveOptions options;
    options.momentum = run.number("mu");
    options.temperature = run.number("tau");
    options.positive_in_denominator = run.flag("positive_in_denominator");
    options.same_id_masked = run.flag("same_id_masked");
    options.sum = run.text("reduction") == "sum";
    run.integer("step");

    const std::int64_t at = run.input_number("index_on_dim0");
    const torch::Tensor ids = run.input("ids")[at];
    const torch::Tensor student = leaf(run.input("student")[at]);
    const std::string before = run.text("continues");
    TokenContrastive loss(options, vocabulary, student.size(-1), run.dtype());
    if (before != "none") loss.restore(banks_.at(before), known_.at(before));

    const TokenContrastive::Result result =
        loss.step(ids, run.input("mask")[at].gt(0), student, run.input("teacher")[at]);
    result.loss.backward();
    banks_[run.id()] = loss.bank();
    known_[run.id()] = loss.is_known();
    return {{"loss", result.loss},
            {"per_token", result.by_token},
            {"bank_after", loss.bank()},
            {"bank_set_after", loss.is_known()},
            {"grad_hidden", student.grad()}};
  }

  std::int64_t vocabulary = 0;  ///< rows of the bank

 private:
  Tensors banks_, known_;
};

Tensors contrastive_cdl_sar(GoldenRun& run) {
  SampleContrastiveOptions options;
  options.temperature = run.number("tau");
  if (run.text("tau_w") != "none") options.reweighting_temperature = run.number("tau_w");
  const torch::Tensor student = leaf(run.input("student_features"));
  const torch::Tensor student_map = leaf(run.input("student_map"));
  const torch::Tensor teacher_map = leaf(run.input("teacher_map"));
  const SampleContrastive result =
      sample_contrastive(student, run.input("teacher_features"), student_map, teacher_map, options);
  result.loss.backward();
  return {{"loss", result.loss},
          {"per_sample", result.by_sample},
          {"weights", result.weights},
          {"grad_student_features", student.grad()},
          {"grad_student_map", student_map.grad()},
          {"grad_teacher_map", teacher_map.grad()}};
}

class GoldenQatLosses : public ::testing::TestWithParam<std::string> {};

TEST_P(GoldenQatLosses, EveryRunHasTheRecordedValuesAndGradients) {
  QUELL_NEED_DATA(folder, "golden/qat/losses/" + GetParam());
  TokenContrastiveRuns token_contrastive;
  const SafetensorsFile expected(folder / "expected.safetensors");
  for (const auto& [name, view] : expected.tensors())
    if (name.ends_with("bank_after")) token_contrastive.vocabulary = view.shape()[0];

  check_golden_case(folder, {{"attention_diagnostics", attention_diagnostics},
                             {"attn_map_kl", attn_map_kl},
                             {"attn_map_kl_from_scores", attn_map_kl_from_scores},
                             {"attn_output_mse", attn_output_mse},
                             {"attn_score_mse", attn_score_mse},
                             {"cakld", cakld},
                             {"cakld_mean_prob", cakld_mean_prob},
                             {"context_mse", context_mse},
                             {"contrastive_cdl_sar", contrastive_cdl_sar},
                             {"hidden_mse", hidden_mse},
                             {"jsd", jsd},
                             {"kl_forward", kl_forward},
                             {"kl_reverse", kl_reverse},
                             {"lm_ce", lm_ce},
                             {"lm_soft_ce", lm_soft_ce},
                             {"mse", mse},
                             {"soft_ce", soft_ce},
                             {"token_contrastive", std::ref(token_contrastive)},
                             {"tsld", tsld},
                             {"tsld_l2l", tsld_l2l},
                             {"tsld_plus_gt", tsld_plus_gt}});
}

INSTANTIATE_TEST_SUITE_P(All, GoldenQatLosses,
                         ::testing::ValuesIn(quell::testing::case_folders("golden/qat/losses")),
                         [](const auto& info) { return quell::testing::test_name(info.param); });

}  // namespace
}  // namespace quell::train
