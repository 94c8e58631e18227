// The autograd interpreter beside Quell's float engine, on every golden model of texts, and what it
// trained through the writer of float checkpoints.
#include <gtest/gtest.h>

#include "quell/base/error.h"
#include "quell/exporting/float_checkpoint.h"
#include "quell/io/safetensors.h"
#include "quell/job/verify_job.h"
#include "quell/train/torch_model.h"
#include "tests/support/support.h"

namespace quell::train {
namespace {
namespace fs = std::filesystem;

/// By the largest value of the tensor: where a channel is much larger than the others, sums and
/// norms in f32 leave as much noise in all of them. Rows whose mask is 0 stand for nothing.
void expect_close(const std::string& name, const torch::Tensor& got, const Tensor& want,
                  std::span<const std::int32_t> mask, double tolerance) {
  const torch::Tensor values = got.contiguous();
  ASSERT_EQ(values.numel(), want.numel()) << name;
  ASSERT_EQ(values.size(-1), want.cols()) << name;
  const bool per_token = want.rows() == std::ssize(mask);
  double worst = 0;
  double largest = 1;
  for (std::int64_t r = 0; r < want.rows(); ++r) {
    if (per_token && mask[static_cast<std::size_t>(r)] == 0) continue;
    for (std::int64_t c = 0; c < want.cols(); ++c) {
      const auto b = static_cast<double>(want.row(r)[c]);
      const auto a = static_cast<double>(values.data_ptr<float>()[r * want.cols() + c]);
      worst = std::max(worst, std::abs(a - b));
      largest = std::max(largest, std::abs(b));
    }
  }
  EXPECT_LE(worst, tolerance * largest) << name << ", whose largest value is " << largest;
}

/// Every output and every hidden state.
void expect_like_float_engine(const Model& model, const TokenBatch& batch, double tolerance) {
  ExecContext ctx(2);
  ForwardOutputs want;
  want.want_hidden_states = true;
  make_float_model(model)->forward(batch, want, ctx);

  Taps taps;
  for (const StackInfo& stack : model.graph.stacks)
    taps.values.insert(taps.values.end(), stack.hidden_states.begin(), stack.hidden_states.end());
  const torch::NoGradGuard guard;
  const TorchOutputs got = TorchModel(model).forward(batch, taps);

  for (const auto& [name, value] : got.values)
    expect_close(name, value, want.values.at(name),
                 model.graph.is_encoder_decoder() ? std::span<const std::int32_t>() : batch.mask,
                 tolerance);
  for (std::size_t s = 0; s < model.graph.stacks.size(); ++s) {
    const StackInfo& stack = model.graph.stacks[s];
    const std::vector<std::int32_t> mask =
        stack.decoder ? decoder_batch(model.spec, batch).mask : batch.mask;
    for (std::size_t i = 0; i < stack.hidden_states.size(); ++i)
      expect_close("hidden state " + std::to_string(i), got.taps.at(stack.hidden_states[i]),
                   want.hidden_states[s][i], mask, tolerance);
  }
}

class GoldenModelInTorch : public ::testing::TestWithParam<std::string> {};

TEST_P(GoldenModelInTorch, EqualsTheFloatEngine) {
  QUELL_NEED_DATA(dir, "golden/models/" + GetParam());
  const Model model = load_model(Checkpoint::open(dir));
  const SafetensorsFile recorded(dir / "reference.safetensors");
  expect_like_float_engine(model, read_recorded_inputs(recorded, model.spec), 1e-5);
}

INSTANTIATE_TEST_SUITE_P(All, GoldenModelInTorch,
                         ::testing::ValuesIn(quell::testing::case_folders("golden/models")),
                         [](const auto& info) { return quell::testing::test_name(info.param); });

class RealModelInTorch : public ::testing::TestWithParam<const char*> {};

TEST_P(RealModelInTorch, EqualsTheFloatEngine) {
  QUELL_NEED_DATA(dir, std::string("models/") + GetParam());
  const Model model = load_model(Checkpoint::open(dir));
  const SafetensorsFile recorded(dir / "reference.safetensors");
  expect_like_float_engine(model, read_recorded_inputs(recorded, model.spec), 1e-5);
}

INSTANTIATE_TEST_SUITE_P(All, RealModelInTorch,
                         ::testing::Values("minilm-l6", "stories260K", "babyllama-tok105",
                                           "rxnmapper-albert"),
                         [](const auto& info) { return quell::testing::test_name(info.param); });

class ShippedModelInTorch : public ::testing::TestWithParam<const char*> {};

TEST_P(ShippedModelInTorch, EqualsTheFloatEngine) {
  const fs::path dir = quell::testing::kReviews / GetParam();
  const Model model = load_model(Checkpoint::open(dir));
  TokenBatch batch;
  batch.batch = 8;
  batch.length = 20;
  for (int i = 0; i < 160; ++i) {
    batch.ids.push_back(i * i % 100);
    batch.mask.push_back(i % 20 < 12 + i / 20 ? 1 : 0);
    batch.type_ids.push_back(0);
  }
  expect_like_float_engine(model, batch, 1e-5);
}

INSTANTIATE_TEST_SUITE_P(All, ShippedModelInTorch, ::testing::Values("model", "model-plain"),
                         [](const auto& info) { return quell::testing::test_name(info.param); });

/// Fused and transposed matrices, a tied head; Gemma's norms are stored less 1.
class TrainedCheckpoint : public ::testing::TestWithParam<const char*> {};

TEST_P(TrainedCheckpoint, IsWrittenAsItsFamilyStoresIt) {
  QUELL_NEED_DATA(dir, std::string("golden/models/") + GetParam());
  Model model = load_model(Checkpoint::open(dir));
  TorchModel trained(model);
  {
    const torch::NoGradGuard guard;
    for (const TorchParameter& p : trained.parameters().trained())
      p.tensor.mul_(1 + 0.01 * torch::cos(torch::arange(p.tensor.numel())).view(p.tensor.sizes()));
  }
  trained.parameters().write_to(model);
  const quell::testing::ScratchDir scratch;
  export_float_checkpoint(model, scratch / "out", false);

  const Checkpoint before = Checkpoint::open(dir);
  const Checkpoint after = Checkpoint::open(scratch / "out");
  EXPECT_FALSE(after.tensors().empty());
  for (const auto& [name, view] : after.tensors())
    EXPECT_EQ(view.shape(), before.tensors().at(name).shape()) << name;

  const Model read_back = load_model(after);
  const SafetensorsFile recorded(dir / "reference.safetensors");
  const TokenBatch batch = read_recorded_inputs(recorded, model.spec);
  const torch::NoGradGuard guard;
  const torch::Tensor want = trained.forward(batch).values.at("logits");
  const torch::Tensor got = TorchModel(read_back).forward(batch).values.at("logits");
  EXPECT_LT((got - want).abs().max().item<double>(), 1e-4);
  const torch::Tensor untrained = TorchModel(load_model(before)).forward(batch).values.at("logits");
  EXPECT_GT((got - untrained).abs().max().item<double>(), 1e-3);
}

INSTANTIATE_TEST_SUITE_P(All, TrainedCheckpoint,
                         ::testing::Values("gpt2", "bloom", "gemma2", "bart-cls", "albert-mlm"),
                         [](const auto& info) { return quell::testing::test_name(info.param); });

}  // namespace
}  // namespace quell::train
