// Float models of the golden data of quantization-aware training: what their references recorded of
// one batch, in float64 strictly, and in float32.
#include <gtest/gtest.h>

#include "tests/train/golden_qat.h"

namespace quell::train::testing {
namespace {
namespace fs = std::filesystem;

class GoldenQatModels : public ::testing::TestWithParam<std::string> {
 protected:
  /// Compares everything that the reference recorded of the float model in runs of that type.
  void compare(const fs::path& dir, const std::string& dtype, double tolerance) {
    const Model model = load_model(Checkpoint::open(dir / "model"));
    const SafetensorsFile inputs(dir / "inputs.safetensors");
    const SafetensorsFile expected(dir / "expected.safetensors");
    const TokenBatch batch = read_batch(inputs, "batch0.");
    Recorded teacher(model, batch, dtype == "float64" ? torch::kFloat64 : torch::kFloat32);
    const torch::NoGradGuard guard;

    int compared = 0;
    const Json description = read_json_file(dir / "case.json");
    for (const Json& run : description.at("runs")) {
      const std::string op = run.at("op");
      if (!op.ends_with("_forward") || run.at("dtype") != dtype) continue;
      const bool is_teacher = std::string(run.at("id")).find("teacher") != std::string::npos;
      for (const auto& [label, name] : run.at("outputs").items()) {
        const bool said_so = label.starts_with("teacher.");
        if (!is_teacher && !said_so) continue;
        compared += compare_one(teacher, said_so ? label.substr(8) : label,
                                recorded(expected, name), inputs, batch, tolerance);
      }
    }
    EXPECT_GT(compared, 0) << "nothing was recorded of the float model";
  }

 private:
  static int compare_one(Recorded& teacher, const std::string& label, const torch::Tensor& want,
                         const SafetensorsFile& inputs, const TokenBatch& batch, double tolerance) {
    torch::Tensor got =
        label == "loss" ? loss_of(teacher.value("logits"), inputs, batch) : teacher.value(label);
    EXPECT_TRUE(got.defined()) << "\"" << label << "\" is not known to this test";
    if (!got.defined()) return 0;

    got = got.reshape(want.sizes());
    const torch::Tensor off = (got - want).abs() / (1 + want.abs());
    const torch::Tensor worst = off.masked_select(counted(label, want, batch)).max();
    EXPECT_LE(worst.item<double>(), tolerance) << label;
    return 1;
  }

  /// Of the next tokens, where they count.
  static torch::Tensor loss_of(const torch::Tensor& logits, const SafetensorsFile& inputs,
                               const TokenBatch& batch) {
    std::vector<std::int32_t> labels = batch.ids;
    if (inputs.has("batch0.labels")) labels = to_i32(inputs.at("batch0.labels"), "labels");
    const torch::Tensor targets =
        torch::tensor(labels).view({batch.batch, batch.length}).narrow(1, 1, batch.length - 1);
    const torch::Tensor predicted =
        logits.view({batch.batch, batch.length, -1}).narrow(1, 0, batch.length - 1);
    return torch::cross_entropy_loss(predicted.reshape({-1, predicted.size(2)}),
                                     targets.reshape(-1).to(torch::kInt64));
  }
};

TEST_P(GoldenQatModels, TeacherInDouble) {
  QUELL_NEED_DATA(dir, "golden/qat/models/" + GetParam());
  compare(dir, "float64", 1e-10);
}

TEST_P(GoldenQatModels, TeacherInSingle) {
  QUELL_NEED_DATA(dir, "golden/qat/models/" + GetParam());
  compare(dir, "float32", 1e-5);
}

INSTANTIATE_TEST_SUITE_P(All, GoldenQatModels,
                         ::testing::ValuesIn(quell::testing::case_folders("golden/qat/models")),
                         [](const auto& info) { return quell::testing::test_name(info.param); });

}  // namespace
}  // namespace quell::train::testing
