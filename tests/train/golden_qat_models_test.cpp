// Float models of the golden data of quantization-aware training: what their references recorded of
// one batch, in float64 strictly, and in float32.
#include <gtest/gtest.h>

#include "quell/base/error.h"
#include "quell/io/json.h"
#include "quell/io/safetensors.h"
#include "quell/train/torch_model.h"
#include "tests/support/support.h"

namespace quell::train {
namespace {
namespace fs = std::filesystem;

torch::Tensor recorded(const SafetensorsFile& file, const std::string& name) {
  const TensorView& view = file.at(name);
  const bool is_double = view.dtype() == DType::kF64;
  require(is_double || view.dtype() == DType::kF32, ErrorCode::kInvalidInput, name,
          ": neither F64 nor F32");
  return torch::from_blob(const_cast<void*>(view.raw()), torch::IntArrayRef(view.shape().dims()),
                          is_double ? torch::kFloat64 : torch::kFloat32)
      .clone();
}

/// "<prefix>.input_ids" and what stands beside it.
TokenBatch read_batch(const SafetensorsFile& file, const std::string& prefix) {
  const auto read = [&](const char* name, std::int32_t otherwise) {
    if (file.has(prefix + name)) return to_i32(file.at(prefix + name), name);
    const auto count = static_cast<std::size_t>(file.at(prefix + "input_ids").numel());
    return std::vector<std::int32_t>(count, otherwise);
  };
  TokenBatch batch;
  batch.batch = file.at(prefix + "input_ids").shape()[0];
  batch.length = file.at(prefix + "input_ids").shape()[1];
  batch.ids = read("input_ids", 0);
  batch.mask = read("attention_mask", 1);
  batch.type_ids = read("token_type_ids", 0);
  if (file.has(prefix + "decoder_input_ids")) {
    batch.decoder_length = file.at(prefix + "decoder_input_ids").shape()[1];
    batch.decoder_ids = read("decoder_input_ids", 0);
  }
  return batch;
}

/// A recorded tensor of a float model: what it is called in the case, and what it is here.
class Teacher {
 public:
  Teacher(const Model& model, const TokenBatch& batch, torch::ScalarType dtype)
      : model_(model), batch_(batch), interpreter_(model, dtype) {}

  /// [layers, ...] for what every layer has; not defined() where `label` is something else.
  torch::Tensor value(const std::string& label) {
    if (label == "logits") return outputs({}).values.at("logits");
    if (label == "hidden" || label == "enc_hidden") return hidden_states(0);
    if (label == "dec_hidden") return hidden_states(1);
    if (label == "scores") return stages(AttentionStage::kScores, 0, false);
    if (label == "context") return stages(AttentionStage::kContext, 0, false);
    if (label == "probs" || label == "enc_attn") return stages(AttentionStage::kMap, 0, false);
    if (label == "dec_attn") return stages(AttentionStage::kMap, 1, false);
    if (label == "cross_attn") return stages(AttentionStage::kMap, 1, true);
    if (label == "sa_output") return by_layer(projections());
    if (label == "attn_output") return by_layer(behind_norms(projections()));
    return {};
  }

 private:
  TorchOutputs outputs(const Taps& taps) const { return interpreter_.forward(batch_, taps); }
  const Graph& graph() const { return model_.graph; }

  torch::Tensor by_layer(const std::vector<ValueId>& values) const {
    const TorchOutputs out = outputs({values, {}});
    std::vector<torch::Tensor> layers;
    for (const ValueId v : values) {
      const torch::Tensor rows = out.taps.at(v);
      layers.push_back(rows.view({batch_.batch, -1, rows.size(1)}));
    }
    return torch::stack(layers);
  }

  torch::Tensor hidden_states(std::size_t stack) const {
    return by_layer(graph().stacks[stack].hidden_states);
  }

  std::vector<NodeId> attentions(int stack, bool cross) const {
    std::vector<NodeId> out;
    for (const NodeId n : graph().order()) {
      const Node& node = graph().node(n);
      if (!node.is(op_attention) || node.place.stack != stack) continue;
      if (attention_of(node).cross == cross) out.push_back(n);
    }
    return out;
  }

  torch::Tensor stages(AttentionStage stage, int stack, bool cross) const {
    Taps taps;
    for (const NodeId n : attentions(stack, cross)) taps.attention.push_back({n, stage});
    const TorchOutputs out = outputs(taps);
    std::vector<torch::Tensor> layers;
    for (const AttentionPoint& point : taps.attention) layers.push_back(out.attention.at(point));
    return torch::stack(layers);
  }

  /// What the linears behind the attentions give.
  std::vector<ValueId> projections() const {
    std::vector<ValueId> out;
    for (const NodeId n : attentions(0, false)) out.push_back(only_reader(graph().node(n).out).out);
    return out;
  }
  std::vector<ValueId> behind_norms(const std::vector<ValueId>& values) const {
    std::vector<ValueId> out;
    for (const ValueId v : values) out.push_back(only_reader(only_reader(v).out).out);
    return out;
  }
  const Node& only_reader(ValueId v) const { return graph().node(graph().uses(v).at(0)); }

  const Model& model_;
  const TokenBatch& batch_;
  TorchModel interpreter_;
};

/// 1 where a tensor that runs over tokens, or over pairs of them, stands for something.
torch::Tensor counted(const std::string& label, const torch::Tensor& values,
                      const TokenBatch& batch) {
  const torch::Tensor mask =
      torch::tensor(batch.mask).view({batch.batch, batch.length}).to(torch::kBool);
  const bool of_decoder = label.starts_with("dec") || label == "cross_attn" ||
                          (label == "logits" && batch.decoder_length > 0);
  const torch::Tensor all = torch::ones_like(values, torch::kBool);
  // Nobody pads the decoders of this data; the logits of a classifier have no tokens.
  if (of_decoder || values.dim() < 3) return all;
  if (values.dim() == 3) return mask.unsqueeze(-1).expand_as(values);
  if (values.dim() == 4) return mask.unsqueeze(0).unsqueeze(-1).expand_as(values);

  const torch::Tensor rows = mask.view({1, batch.batch, 1, batch.length, 1}).expand_as(values);
  if (label != "scores") return rows;
  // References show scores behind the mask.
  return rows.logical_and(mask.view({1, batch.batch, 1, 1, batch.length}).expand_as(values));
}

class GoldenQatModels : public ::testing::TestWithParam<std::string> {
 protected:
  /// Compares everything that the reference recorded of the float model in runs of that type.
  void compare(const fs::path& dir, const std::string& dtype, double tolerance) {
    const Model model = load_model(Checkpoint::open(dir / "model"));
    const SafetensorsFile inputs(dir / "inputs.safetensors");
    const SafetensorsFile expected(dir / "expected.safetensors");
    const TokenBatch batch = read_batch(inputs, "batch0.");
    Teacher teacher(model, batch, dtype == "float64" ? torch::kFloat64 : torch::kFloat32);
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
  static int compare_one(Teacher& teacher, const std::string& label, const torch::Tensor& want,
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
}  // namespace quell::train
