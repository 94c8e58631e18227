// A run of a golden case, as golden/qat describes it. For tests.
#pragma once

#include <torch/torch.h>

#include <cstring>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "quell/io/json.h"
#include "quell/io/safetensors.h"

namespace quell::train {

using Tensors = std::map<std::string, torch::Tensor>;
using Settings = std::map<std::string, std::string>;

inline torch::Tensor torch_of(const TensorView& view) {
  std::vector<std::int64_t> shape;
  for (int i = 0; i < static_cast<int>(view.shape().rank()); ++i) shape.push_back(view.shape()[i]);
  const std::map<DType, torch::Dtype> types = {
      {DType::kF32, torch::kFloat32}, {DType::kF64, torch::kFloat64}, {DType::kI64, torch::kInt64}};
  // The mapping's bytes are not aligned to elements.
  torch::Tensor t = torch::empty(shape, types.at(view.dtype()));
  std::memcpy(t.data_ptr(), view.raw(), view.num_bytes());
  return t;
}

/// One run of a case: its inputs in its dtype, and its settings, of which each must be read.
class Run {
 public:
  Run(const Json& run, const SafetensorsFile& inputs) : json_(run) {
    dtype_ = run["dtype"] == "float64" ? torch::kFloat64 : torch::kFloat32;
    for (const auto& [label, name] : run["inputs"].items()) {
      const torch::Tensor t = torch_of(inputs.at(name.get<std::string>()));
      inputs_[label] = t.is_floating_point() ? t.to(dtype_) : t;
    }
  }

  const torch::Tensor& input(const std::string& label) const { return inputs_.at(label); }
  bool has_input(const std::string& label) const { return inputs_.contains(label); }
  torch::Dtype dtype() const { return dtype_; }

  bool has(const std::string& key) const { return json_["settings"].contains(key); }
  /// As a recipe would say it; null is "none".
  std::string text(const std::string& key) {
    read_.insert(key);
    const Json& value = json_["settings"].at(key);
    if (value.is_null()) return "none";
    return value.is_string() ? value.get<std::string>() : value.dump();
  }
  std::int64_t integer(const std::string& key) { return std::stoll(text(key)); }
  double number(const std::string& key) { return std::stod(text(key)); }
  bool flag(const std::string& key) { return text(key) == "true"; }

  /// `rowwise`, `per_tensor`, or `granularity`, and `group_size` (-1: the row).
  void granularity_to(Settings& settings) {
    if (has("rowwise")) settings["granularity"] = flag("rowwise") ? "row" : "tensor";
    if (has("per_tensor")) settings["granularity"] = flag("per_tensor") ? "tensor" : "row";
    if (has("granularity")) settings["granularity"] = text("granularity");
    if (!has("group_size")) return;
    const std::string size = text("group_size");
    if (size == "none") return;
    settings["granularity"] = size == "-1" ? "row" : "group";
    if (size != "-1") settings["group_size"] = size;
  }
  /// Those of the same name on both sides.
  void copy_to(Settings& settings, const std::vector<std::string>& keys) {
    for (const std::string& key : keys)
      if (has(key)) settings[key] = text(key);
  }

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
  std::set<std::string> read_;
};

}  // namespace quell::train
