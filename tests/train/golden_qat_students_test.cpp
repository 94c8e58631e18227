// Quantized students of the golden data: that the places for quantizers are where the references
// have theirs, and that values and gradients are those of the references.
#include <gtest/gtest.h>

#include <set>

#include "quell/graph/forms.h"
#include "quell/train/fake_quantizer.h"
#include "quell/train/losses/attention_maps.h"
#include "quell/train/losses/hidden_states.h"
#include "quell/train/losses/logits.h"
#include "tests/train/golden_qat.h"
#include "tests/train/golden_slots.h"

namespace quell::train::testing {
namespace {
namespace fs = std::filesystem;

TensorFunction function_of(const std::string& method, const Settings& settings) {
  const std::shared_ptr<FakeQuantizer> quantizer = make_quantizer(method, settings);
  return [quantizer](const torch::Tensor& x) { return quantizer->quantize(x); };
}

/// Ternary weights, with a step for each row of the stored matrix.
QuantizerSlots two_bits_by_stored_row(Graph& graph, const TorchModel& model) {
  return slots_of_stored_weights(graph, model, [](const std::string&) {
    return as_stored(function_of("twn", {{"granularity", "row"}, {"clip", "none"}}));
  });
}

/// Values of all layers, one behind the other.
torch::Tensor layers_apart(const torch::Tensor& student, const torch::Tensor& teacher) {
  return layer_mse(student.unbind(0), teacher.unbind(0));
}

torch::Tensor lengths_of(const TokenBatch& batch) {
  return torch::tensor(batch.mask).view({batch.batch, batch.length}).sum(1);
}

class GoldenQatStudents : public ::testing::TestWithParam<std::string> {
 protected:
  struct Case {
    explicit Case(const fs::path& dir)
        : model(load_model(Checkpoint::open(dir / "model"))),
          teacher_model(load_model(Checkpoint::open(dir / "model"))),
          inputs(dir / "inputs.safetensors"),
          expected(dir / "expected.safetensors"),
          batch(read_batch(inputs, "batch0.")),
          student(model, batch, torch::kFloat64),
          teacher(teacher_model, batch, torch::kFloat64) {}

    Model model;  ///< the student's, which gets quantizers
    Model teacher_model;
    SafetensorsFile inputs;
    SafetensorsFile expected;
    TokenBatch batch;
    Recorded student;
    Recorded teacher;
  };

  static void check_bert_of_kdqat(Case& c);
  static void check_gpt2_of_tsld(Case& c);
  static void check_bart_of_dqbart(Case& c);

  static void expect_forward(const Case& c, const std::string& prefix,
                             const std::vector<std::string>& labels) {
    const torch::NoGradGuard guard;
    for (const std::string& label : labels) {
      const torch::Tensor want = recorded(c.expected, prefix + label);
      const torch::Tensor got = c.student.value(label).reshape(want.sizes());
      const torch::Tensor off = (got - want).abs() / (1 + want.abs());
      const torch::Tensor worst = off.masked_select(counted(label, want, c.batch)).max();
      EXPECT_LE(worst.item<double>(), 1e-10) << label;
    }
  }

  /// Matrices that a checkpoint holds transposed are compared so. `tolerance`: some gradients are
  /// recorded rounded to f32.
  static void expect_gradients(Case& c, const std::string& prefix, double tolerance) {
    int compared = 0;
    for (const TorchParameter& p : c.student.interpreter().parameters().trained()) {
      const torch::Tensor want = recorded(c.expected, prefix + p.name).to(torch::kFloat64);
      ASSERT_TRUE(p.tensor.grad().defined()) << p.name;
      const bool transposed = is_transposed(c.model, p.name);
      const torch::Tensor got = transposed ? p.tensor.grad().t() : p.tensor.grad();
      ASSERT_EQ(got.sizes(), want.sizes()) << p.name;
      const torch::Tensor off = (got - want).abs() / (1 + want.abs());
      EXPECT_LE(off.max().item<double>(), tolerance) << p.name;
      ++compared;
    }
    EXPECT_GT(compared, 10);
  }
};

void GoldenQatStudents::check_bert_of_kdqat(Case& c) {
  c.student.interpreter().set_quantizers(two_two_eight(c.model.graph, function_of));
  expect_forward(c, "forward.f64.student.",
                 {"logits", "scores", "probs", "hidden", "context", "attn_output", "sa_output"});

  const auto compare = [&](const char* label, auto loss) {
    const torch::NoGradGuard guard;
    const torch::Tensor teacher = c.teacher.value(label);
    const torch::AutoGradMode differentiable(true);
    return loss(c.student.value(label), teacher);
  };
  const torch::Tensor predicted = compare("logits", [](const auto& student, const auto& teacher) {
    return soft_cross_entropy(student, teacher);
  });
  const torch::Tensor hidden = compare("hidden", layers_apart);
  const torch::Tensor output = compare("attn_output", layers_apart);
  const torch::Tensor maps = compare("probs", [&](const auto& student, const auto& teacher) {
    return attention_map_kl(student.unbind(0), teacher.unbind(0), lengths_of(c.batch));
  });
  const torch::Tensor total = predicted + hidden + maps + 0.5 * output;
  const torch::Tensor want = recorded(c.expected, "train.map_output.f64.losses")[0];
  EXPECT_NEAR(total.item<double>(), want[-1].item<double>(), 1e-10);

  total.backward();
  expect_gradients(c, "train.map_output.f64.grad.", 1e-9);
}

void GoldenQatStudents::check_gpt2_of_tsld(Case& c) {
  c.student.interpreter().set_quantizers(
      two_bits_by_stored_row(c.model.graph, c.student.interpreter()));
  expect_forward(c, "forward.student.f64.", {"logits", "hidden", "probs"});

  torch::Tensor teacher;
  {
    const torch::NoGradGuard guard;
    teacher = c.teacher.value("logits");
  }
  // Every position but the last predicts a token.
  const auto predicting = [&](const torch::Tensor& logits) {
    return logits.view({c.batch.batch, c.batch.length, -1}).narrow(1, 0, c.batch.length - 1);
  };
  const torch::Tensor loss =
      soft_cross_entropy(predicting(c.student.value("logits")), predicting(teacher));
  const torch::Tensor want = recorded(c.expected, "train.logit.f64.losses")[0];
  EXPECT_NEAR(loss.item<double>(), want[0].item<double>(), 1e-10);

  loss.backward();
  expect_gradients(c, "train.logit.f64.grad.", 1e-6);
}

void GoldenQatStudents::check_bart_of_dqbart(Case& c) {
  QuantizerSlots quantizers = two_two_eight(c.model.graph, function_of);
  for (auto& [point, slot] : quantizers.attention) {
    if (point.stage != AttentionStage::kQuery) continue;
    // The reference multiplies by the scale first, and so clips elsewhere.
    const auto& attention = c.model.graph.node(point.node).attributes.get<AttentionAttributes>();
    const double scale = attention.recipe.scale.f64();
    slot = [scale, quantize = slot](const torch::Tensor& q) { return quantize(q * scale) / scale; };
  }
  c.student.interpreter().set_quantizers(std::move(quantizers));
  expect_forward(c, "forward.student.f64.",
                 {"logits", "enc_hidden", "dec_hidden", "enc_attn", "dec_attn", "cross_attn"});

  const auto apart = [&](const char* label) {
    torch::Tensor teacher;
    {
      const torch::NoGradGuard guard;
      teacher = c.teacher.value(label);
    }
    return layers_apart(c.student.value(label), teacher);
  };
  torch::Tensor teacher_logits;
  torch::Tensor teacher_memory;
  {
    const torch::NoGradGuard guard;
    teacher_logits = c.teacher.value("logits");
    teacher_memory = c.teacher.value("enc_hidden")[-1];
  }
  const torch::Tensor logits = c.student.value("logits");
  const torch::Tensor labels =
      torch::tensor(to_i32(c.inputs.at("batch0.labels"), "labels")).to(torch::kInt64);
  const std::vector<torch::Tensor> terms = {
      torch::cross_entropy_loss(logits, labels),
      (logits - teacher_logits).square().mean(),
      apart("enc_attn"),
      apart("dec_attn"),
      apart("cross_attn"),
      apart("enc_hidden"),
      layers_apart(c.student.value("enc_hidden")[-1], teacher_memory),  // of each sentence
      apart("dec_hidden")};
  const torch::Tensor total = torch::stack(terms).sum();
  const torch::Tensor want = recorded(c.expected, "losses.f64.losses").view(-1);
  for (std::size_t i = 0; i < terms.size(); ++i)
    EXPECT_NEAR(terms[i].item<double>(), want[static_cast<std::int64_t>(i)].item<double>(), 1e-10)
        << i;
  EXPECT_NEAR(total.item<double>(), want[-1].item<double>(), 1e-10);

  total.backward();
  expect_gradients(c, "losses.f64.grad.", 1e-9);
}

TEST_P(GoldenQatStudents, FollowTheirReferences) {
  QUELL_NEED_DATA(dir, "golden/qat/models/" + GetParam());
  const Json description = read_json_file(dir / "case.json");
  std::set<std::string> ops;
  for (const Json& run : description.at("runs")) ops.insert(run.at("op"));

  Case c(dir);
  if (ops.contains("kdqat_train"))
    check_bert_of_kdqat(c);
  else if (ops.contains("dqbart_losses"))
    check_bart_of_dqbart(c);
  else if (ops.contains("gpt2_forward") && ops.contains("tsld_train"))
    check_gpt2_of_tsld(c);
  else
    GTEST_SKIP() << "quantizers of " << *ops.begin() << " are not written down here";
}

INSTANTIATE_TEST_SUITE_P(All, GoldenQatStudents,
                         ::testing::ValuesIn(quell::testing::case_folders("golden/qat/models")),
                         [](const auto& info) { return quell::testing::test_name(info.param); });

}  // namespace
}  // namespace quell::train::testing
