// Checkpoints with few bits in the layouts of other tools: BitNet b1.58 as transformers publishes
// it, ParetoQ. Golden cases, and what is refused.
#include <gtest/gtest.h>

#include <cmath>
#include <fstream>

#include "quell/base/error.h"
#include "quell/base/random.h"
#include "quell/engine/generate.h"
#include "quell/engine/lower.h"
#include "quell/graph/forms.h"
#include "quell/io/json.h"
#include "quell/io/safetensors.h"
#include "quell/job/verify_job.h"
#include "quell/quant/quantized_rows.h"
#include "tests/support/support.h"

namespace quell {
namespace {
namespace fs = std::filesystem;
using quell::testing::find_data;
using quell::testing::ScratchDir;

constexpr const char* kLowBit = "golden/low_bit/";
constexpr double kTolerance = 1e-4;

bool is_paretoq(const fs::path& dir) {
  return read_json_file(dir / "config.json").contains("w_bits");
}

Tensor logits_by(const ForwardModel& engine, const TokenBatch& batch, ExecContext& ctx) {
  ForwardOutputs outputs;
  engine.forward(batch, outputs, ctx);
  return std::move(outputs.values.at("logits"));
}

class LowBit : public ::testing::TestWithParam<std::string> {};

/// BitNet has codes for the inputs too; those of ParetoQ are floats.
TEST_P(LowBit, EqualsReference) {
  QUELL_NEED_DATA(dir, kLowBit + GetParam());
  ExecContext ctx(2);
  std::vector<std::string> engines = {"simulated", "simulated-exact", "integer"};
  if (is_paretoq(dir)) engines = {"float"};
  for (const std::string& engine : engines) {
    const VerifyResult result =
        run_verify_job({dir, dir / "reference.safetensors", engine, kTolerance}, ctx);
    ASSERT_FALSE(result.rows.empty());
    for (const VerifyRow& row : result.rows)
      EXPECT_LE(row.worst_ratio, 1)
          << engine << ": " << row.tensor << " differs by " << row.max_difference;
  }
}

TEST_P(LowBit, GreedyGenerationGivesTheSameTokens) {
  QUELL_NEED_DATA(dir, kLowBit + GetParam());
  ExecContext ctx(2);
  const SafetensorsFile file(dir / "reference.safetensors");
  const Model model = load_model(Checkpoint::open(dir));
  const Shape shape = file.at("generate.input_ids").shape();
  TokenBatch prompt;
  prompt.batch = shape[0];
  prompt.length = shape[1];
  prompt.ids = to_i32(file.at("generate.input_ids"), "input_ids");
  prompt.mask = to_i32(file.at("generate.attention_mask"), "attention_mask");
  prompt.type_ids.assign(prompt.ids.size(), 0);

  const auto engine = is_paretoq(dir) ? make_float_model(model) : lower(model, ctx);
  const std::vector<std::int32_t> want = to_i32(file.at("generate.output_ids"), "output_ids");
  const auto width = static_cast<std::int64_t>(want.size()) / prompt.batch;
  const std::int64_t new_tokens = width - prompt.length;
  const auto got =
      generate(*engine, prompt, {.max_new_tokens = new_tokens, .stop_at_eos = false}, ctx);
  for (std::int64_t b = 0; b < prompt.batch; ++b) {
    const auto end = want.begin() + (b + 1) * width;
    EXPECT_EQ(got[static_cast<std::size_t>(b)], std::vector<std::int32_t>(end - new_tokens, end));
  }
}

/// The codes of ParetoQ's weights run in integers behind inputs of 8 bits, which move the logits
/// by little, and as simulated.
TEST_P(LowBit, RunsInIntegers) {
  QUELL_NEED_DATA(dir, kLowBit + GetParam());
  ExecContext ctx(2);
  const Model model = load_model(Checkpoint::open(dir));
  const SafetensorsFile file(dir / "reference.safetensors");
  const TokenBatch batch = read_recorded_inputs(file, model.spec);
  const Tensor want = to_f32(file.at("logits"), "logits");
  const Tensor got = logits_by(*lower(model, ctx), batch, ctx);
  EXPECT_TRUE(quell::testing::same_bytes(
      got, logits_by(*make_simulated_model(model, true, ctx.isa), batch, ctx)));

  double error = 0, size = 0;
  for (std::size_t i = 0; i < got.f32().size(); ++i) {
    if (!batch.mask[i / static_cast<std::size_t>(got.cols())]) continue;
    error += std::pow(static_cast<double>(got.f32()[i]) - static_cast<double>(want.f32()[i]), 2);
    size += std::pow(static_cast<double>(want.f32()[i]), 2);
  }
  EXPECT_LE(std::sqrt(error / size), 0.02);
}

INSTANTIATE_TEST_SUITE_P(All, LowBit,
                         ::testing::ValuesIn(quell::testing::case_folders("golden/low_bit")),
                         [](const auto& info) { return quell::testing::test_name(info.param); });

/// A golden case that a test changes before it is read.
class EditedCheckpoint {
 public:
  explicit EditedCheckpoint(const std::string& name) {
    const fs::path source = find_data(kLowBit + name);
    const SafetensorsFile file(source / "model.safetensors");
    for (const auto& [tensor, view] : file.tensors()) tensors[tensor] = Tensor::copy_of(view);
    config = read_json_file(source / "config.json");
  }

  fs::path write() const {
    std::map<std::string, TensorView> views;
    for (const auto& [name, tensor] : tensors) views[name] = tensor;
    write_safetensors(dir_ / "model.safetensors", views, {});
    std::ofstream(dir_ / "config.json") << config.dump();
    return dir_.path();
  }

  /// What reading it says; "" where it can be read.
  std::string message() const {
    try {
      load_model(Checkpoint::open(write()));
    } catch (const Error& e) {
      return e.what();
    }
    return "";
  }

  std::map<std::string, Tensor> tensors;
  Json config;

 private:
  ScratchDir dir_;
};

const std::string kLinear = "model.layers.0.self_attn.q_proj";

const Param& param_of(const Model& model, const std::string& module) {
  for (const Param& p : model.params)
    if (p.module == module) return p;
  throw Error(ErrorCode::kInvalidInput, module);
}

TEST(LowBitCheckpoints, FourBlocksOfRowsLieInABitNetByte) {
  const EditedCheckpoint checkpoint("bitnet-offline");
  const Model model = load_model(Checkpoint::open(checkpoint.write()));
  const Tensor& bytes = checkpoint.tensors.at(kLinear + ".weight");
  const Tensor scale = to_f32(checkpoint.tensors.at(kLinear + ".weight_scale"), "scale");
  const Param& p = param_of(model, kLinear);
  const std::int64_t block = bytes.rows(), columns = bytes.cols();
  ASSERT_EQ(p.weight.rows(), 4 * block);

  int seen[3] = {};
  for (int part = 0; part < 4; ++part)
    for (std::int64_t r = 0; r < block; ++r)
      for (std::int64_t c = 0; c < columns; ++c) {
        const int byte = bytes.as<std::uint8_t>()[static_cast<std::size_t>(r * columns + c)];
        const int digit = byte / static_cast<int>(std::pow(4, part)) % 4;
        ++seen[digit];
        EXPECT_EQ(p.weight.row(part * block + r)[c],
                  static_cast<float>(digit - 1) * scale.f32()[0]);
      }
  for (const int count : seen) EXPECT_GT(count, 0);
}

TEST(LowBitCheckpoints, BitNetCodesMayBeFloats) {
  EditedCheckpoint checkpoint("bitnet-offline");
  const Model packed = load_model(Checkpoint::open(checkpoint.write()));
  Tensor codes = param_of(packed, kLinear).weight.clone();
  for (float& v : codes.f32()) v = static_cast<float>((v > 0) - (v < 0));
  checkpoint.tensors[kLinear + ".weight"] = codes.clone();
  const Model plain = load_model(Checkpoint::open(checkpoint.write()));
  EXPECT_TRUE(quell::testing::same_bytes(param_of(plain, kLinear).weight,
                                         param_of(packed, kLinear).weight));

  codes.f32()[5] = 0.5F;
  checkpoint.tensors[kLinear + ".weight"] = std::move(codes);
  EXPECT_NE(checkpoint.message().find("0.5 is no ternary code"), std::string::npos)
      << checkpoint.message();
}

/// Inputs: codes of the reference, 127 / max|x| times x. Its floor of max|x| at 1e-5 has a
/// counterpart in Quell's of the step at 2^-23, which no other rows than those below 1.5e-5 meet.
TEST(LowBitCheckpoints, BitNetInputsHaveTheCodesOfTheReference) {
  const Model model =
      load_model(Checkpoint::open(find_data(std::string(kLowBit) + "bitnet-offline")));
  const NodeId linear = model.graph.find("layers.0.q_proj");
  const ActivationQuant quant = *input_quant_of(model.graph, model.graph.node(linear).in[0]);
  constexpr float kSizes[] = {1e-6F, 1e-5F, 1.6e-5F, 0.3F, 1, 100};
  constexpr std::int64_t kRows = std::size(kSizes), kColumns = 256;
  Random random(3);
  Tensor x = Tensor::f32({kRows, kColumns});
  for (std::int64_t r = 0; r < kRows; ++r)
    for (std::int64_t c = 0; c < kColumns; ++c)
      x.row(r)[c] = kSizes[r] * static_cast<float>(2 * random.uniform() - 1);

  ExecContext ctx(1);
  const QuantizedRows rows = quantize_rows(x, quant, false, ctx);
  const Tensor values = dequantize_rows(rows, ctx);
  for (std::int64_t r = 0; r < kRows; ++r) {
    double largest = 0;
    for (std::int64_t c = 0; c < kColumns; ++c)
      largest = std::max(largest, std::fabs(static_cast<double>(x.row(r)[c])));
    const double scale = 127 / std::max(largest, 1e-5);
    for (std::int64_t c = 0; c < kColumns; ++c) {
      const double code = std::nearbyint(static_cast<double>(x.row(r)[c]) * scale);
      if (largest > 127 * 0x1p-23) {
        EXPECT_EQ(rows.row(r)[c] - 128, code) << r << " " << c;
      } else {
        EXPECT_LE(std::fabs(static_cast<double>(values.row(r)[c]) - code / scale), 0x1p-23);
      }
    }
  }
}

TEST(LowBitCheckpoints, WhatIsMissingOrUnknownIsRefusedByName) {
  const auto expect = [](const std::string& name, const auto& change, const std::string& words) {
    EditedCheckpoint checkpoint(name);
    change(checkpoint);
    const std::string message = checkpoint.message();
    EXPECT_NE(message.find(words), std::string::npos) << words << ": " << message;
    EXPECT_EQ(message.find('\n'), std::string::npos);
  };
  const auto section = [](const Json& change) {
    return [change](EditedCheckpoint& c) { c.config["quantization_config"].merge_patch(change); };
  };
  const auto without = [](const std::string& tensor) {
    return [tensor](EditedCheckpoint& c) { ASSERT_EQ(c.tensors.erase(tensor), 1U); };
  };

  expect("bitnet-offline", section({{"linear_class", "ternarylinear"}}), "ternarylinear");
  expect("bitnet-offline", section({{"quantization_mode", "sometimes"}}), "sometimes");
  expect("bitnet-offline", section({{"use_rms_norm", true}}), "use_rms_norm");
  expect("bitnet-offline", section({{"modules_to_not_convert", {"layers.*.mlp"}}}), "layers.*.mlp");
  expect("bitnet-online", section({{"modules_to_not_convert", {"k_proj"}}}),
         "modules_to_not_convert does not name \"lm_head\"");
  expect("bitnet-offline", without(kLinear + ".weight_scale"),
         kLinear + ".weight_scale\" is missing");
  expect("bitnet-bitlinear", without(kLinear + ".weight_scale"),
         kLinear + ".weight_scale\" is missing");
  expect(
      "bitnet-offline",
      [](EditedCheckpoint& c) { c.tensors[kLinear + ".weight_scale"] = Tensor::f32({1}); },
      "a scale is not positive");
  expect(
      "bitnet-offline", [](EditedCheckpoint& c) { c.config["intermediate_size"] = 46; },
      "gate_proj.weight\": 46 rows of bitnet codes, four of which lie in a byte");
  expect(
      "bitnet-offline", [](EditedCheckpoint& c) { c.config["intermediate_size"] = 52; },
      "gate_proj.weight\" has shape [12, 32], config.json says [13, 32]");
  expect(
      "bitnet-offline",
      [](EditedCheckpoint& c) { c.tensors.at(kLinear + ".weight").as<std::uint8_t>()[0] = 7; },
      "byte 7 holds no ternary codes");

  expect("paretoq-0", without(kLinear + ".weight_clip_val"),
         kLinear + ".weight_clip_val\" is missing");
  expect(
      "paretoq-0",
      [](EditedCheckpoint& c) {
        c.tensors[kLinear + ".weight_clip_val"] = Tensor::f32({3, 1});
      },
      "3 clips, expected 32");
  for (const Json& bits : {Json(5), Json(1.58), Json("2"), Json(-1)})
    expect(
        "paretoq-0", [&](EditedCheckpoint& c) { c.config["w_bits"] = bits; },
        "key \"w_bits\": " + bits.dump());
  expect(
      "paretoq-0",
      [](EditedCheckpoint& c) {
        c.config["quantization_config"] = {{"quant_method", "bitnet"}};
      },
      "w_bits");
}

/// As MobileLLM-ParetoQ was published: rounded weights, and nothing beside them.
TEST(LowBitCheckpoints, RoundedWeightsOfParetoqAreFloatsWhereTheUserSaysSo) {
  EditedCheckpoint checkpoint("paretoq-2");
  std::erase_if(checkpoint.tensors,
                [](const auto& tensor) { return tensor.first.ends_with(".weight_clip_val"); });
  const std::string message = checkpoint.message();
  EXPECT_NE(message.find("key \"w_bits\" (2): the checkpoint holds no tensors"), std::string::npos)
      << message;
  EXPECT_NE(message.find("config.json"), std::string::npos) << message;

  const ModelDirectory accepted(checkpoint.write(), {"w_bits"});
  EXPECT_FALSE(load_model(Checkpoint::open(accepted)).is_quantized());

  checkpoint.config["w_bits"] = 32;
  EXPECT_FALSE(load_model(Checkpoint::open(checkpoint.write())).is_quantized());
}

}  // namespace
}  // namespace quell
