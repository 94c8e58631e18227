// One run of a case in golden/qat: values and gradients that reference code has given for some
// inputs, in f32 or f64.
#pragma once

#include <gtest/gtest.h>
#include <torch/torch.h>

#include <charconv>
#include <cstring>
#include <functional>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "quell/io/json.h"
#include "quell/io/safetensors.h"
#include "tests/support/support.h"

namespace quell::train {

using Tensors = std::map<std::string, torch::Tensor>;

inline torch::Tensor torch_of(const TensorView& view) {
  std::vector<std::int64_t> shape;
  for (int i = 0; i < static_cast<int>(view.shape().rank()); ++i) shape.push_back(view.shape()[i]);
  const std::map<DType, torch::Dtype> types = {{DType::kF32, torch::kFloat32},
                                               {DType::kF64, torch::kFloat64},
                                               {DType::kI64, torch::kInt64},
                                               {DType::kI32, torch::kInt32}};
  // The mapping's bytes are not aligned to elements.
  torch::Tensor t = torch::empty(shape, types.at(view.dtype()));
  std::memcpy(t.data_ptr(), view.raw(), view.num_bytes());
  return t;
}

/// A copy that gets a gradient.
inline torch::Tensor leaf(const torch::Tensor& x) {
  return x.detach().clone().requires_grad_(true);
}

/// Inputs of a run in its dtype, and its settings, of which each must be read.
class GoldenRun {
 public:
  GoldenRun(const Json& run, const SafetensorsFile& inputs) : json_(run) {
    dtype_ = run["dtype"] == "float64" ? torch::kFloat64 : torch::kFloat32;
    for (const auto& [label, name] : run["inputs"].items()) {
      if (!name.is_string()) {
        numbers_[label] = name.get<std::int64_t>();
        continue;
      }
      const torch::Tensor t = torch_of(inputs.at(name.get<std::string>()));
      inputs_[label] = t.is_floating_point() ? t.to(dtype_) : t;
    }
  }

  const torch::Tensor& input(const std::string& label) const { return inputs_.at(label); }
  bool has_input(const std::string& label) const { return inputs_.contains(label); }
  /// Of an input that is no tensor.
  std::int64_t input_number(const std::string& label) const { return numbers_.at(label); }
  torch::Dtype dtype() const { return dtype_; }
  std::string id() const { return json_["id"].get<std::string>(); }
  bool asks_for(const std::string& output) const { return json_["outputs"].contains(output); }

  bool has(const std::string& key) const { return json_["settings"].contains(key); }
  const Json& setting(const std::string& key) {
    read_.insert(key);
    return json_["settings"].at(key);
  }
  /// As a recipe would say it; null is "none".
  std::string text(const std::string& key) {
    const Json& value = setting(key);
    if (value.is_null()) return "none";
    return value.is_string() ? value.get<std::string>() : value.dump();
  }
  std::int64_t integer(const std::string& key) { return std::stoll(text(key)); }
  double number(const std::string& key) { return std::stod(text(key)); }
  bool flag(const std::string& key) { return text(key) == "true"; }

  std::vector<std::string> unread() const {
    std::vector<std::string> keys;
    for (const auto& [key, value] : json_["settings"].items())
      if (!read_.contains(key)) keys.push_back(key);
    return keys;
  }

 private:
  const Json& json_;
  torch::Dtype dtype_;
  Tensors inputs_;
  std::map<std::string, std::int64_t> numbers_;
  std::set<std::string> read_;
};

/// The first number in what the case says of the dtype: "|a-b| <= 1e-12*max(1,|b|)".
inline double tolerance_of(const Json& tolerance, const std::string& dtype) {
  if (!tolerance.contains(dtype)) return dtype == "float64" ? 1e-12 : 2e-6;
  const std::string text = tolerance[dtype].get<std::string>();
  for (std::size_t i = 0; i + 1 < text.size(); ++i) {
    if (!std::isdigit(static_cast<unsigned char>(text[i])) || text[i + 1] != 'e') continue;
    double value = 0;
    std::from_chars(text.data() + i, text.data() + text.size(), value);
    return value;
  }
  throw std::out_of_range("no number in the tolerance \"" + text + "\"");
}

inline torch::Tensor no_slack() { return torch::zeros({1}, torch::kFloat64); }

/// `slack` is allowed too. Where the reference divided 0 by 0, ours must be finite.
inline void expect_close(const torch::Tensor& got, const torch::Tensor& want, double tolerance,
                         const torch::Tensor& slack, bool may_be_nan, const std::string& what) {
  ASSERT_TRUE(got.defined()) << what << ": no gradient";
  ASSERT_EQ(got.numel(), want.numel()) << what;
  const torch::Tensor a = got.detach().to(torch::kFloat64).flatten();
  const torch::Tensor b = want.to(torch::kFloat64).flatten();
  EXPECT_TRUE(a.isfinite().all().item<bool>()) << what;
  const torch::Tensor nan = b.isnan();
  if (!may_be_nan) {
    EXPECT_FALSE(nan.any().item<bool>()) << what;
  }

  const torch::Tensor allowed = torch::maximum(tolerance * b.abs().clamp_min(1), slack.flatten());
  const torch::Tensor excess = ((a - b).abs() - allowed).masked_fill(nan, -1);
  const auto at = excess.argmax().item<std::int64_t>();
  EXPECT_LE(excess[at].item<double>(), 0) << what << " [" << at << "]: " << a[at].item<double>()
                                          << ", recorded is " << b[at].item<double>();
}

/// Outputs by label; "LABEL.slack", where it is there, is what an output may be off.
using GoldenOp = std::function<Tensors(GoldenRun&)>;
/// Instead of comparing every output by the tolerance: (got, recorded, is f64).
using GoldenCheck = std::function<void(Tensors&, const Tensors&, bool)>;

/// All runs of a case folder, in order. What an op, a setting or an output is called that nobody
/// here knows is a failure.
inline void check_golden_case(const std::filesystem::path& folder,
                              const std::map<std::string, GoldenOp>& ops,
                              const std::map<std::string, GoldenCheck>& checks = {}) {
  const Json description = read_json_file(folder / "case.json");
  const SafetensorsFile inputs(folder / "inputs.safetensors");
  const SafetensorsFile expected(folder / "expected.safetensors");
  ASSERT_FALSE(description["runs"].empty());
  const auto check_run = [&](const Json& json) {
    const std::string op = json["op"].get<std::string>();
    const std::string dtype = json["dtype"].get<std::string>();
    const auto found = ops.find(op);
    ASSERT_NE(found, ops.end()) << "unknown op " << op;
    GoldenRun run(json, inputs);
    Tensors got = found->second(run);
    EXPECT_EQ(::testing::PrintToString(run.unread()), "{}") << "unknown settings of " << op;

    Tensors want;
    for (const auto& [label, name] : json["outputs"].items())
      want[label] = torch_of(expected.at(name.get<std::string>()));
    ASSERT_FALSE(want.empty());
    for (const auto& [label, value] : want)
      ASSERT_TRUE(got.contains(label)) << "unknown output " << label << " of " << op;
    if (const auto check = checks.find(op); check != checks.end()) {
      check->second(got, want, dtype == "float64");
      return;
    }
    const torch::Tensor jitter =
        torch::full({1}, json.value("jitter_max_abs", 0.0), torch::kFloat64);
    const bool nan = json.value("reference_has_nan", false);
    const double tolerance = tolerance_of(description["tolerance"], dtype);
    for (const auto& [label, value] : want) {
      const auto slack = got.find(label + ".slack");
      expect_close(got.at(label), value, tolerance,
                   slack == got.end() ? jitter : torch::maximum(slack->second, jitter), nan, label);
    }
  };

  for (const Json& run : description["runs"]) {
    SCOPED_TRACE(run["id"].get<std::string>());
    try {
      check_run(run);
    } catch (const std::exception& e) {
      ADD_FAILURE() << e.what();
    }
  }
  ::testing::Test::RecordProperty("runs", static_cast<int>(description["runs"].size()));
}

}  // namespace quell::train
