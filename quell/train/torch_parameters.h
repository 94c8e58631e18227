// A model's parameters as torch tensors, and back.
#pragma once

#include <torch/torch.h>

#include <map>
#include <string>
#include <vector>

#include "quell/model/model.h"

namespace quell::train {

/// What optimizers see: one tensor for each one that a checkpoint stores, under its name. Matrices
/// are [out, in] as in the graph, however they are stored; where parameters are parts of one (fused
/// q, k and v), all their rows in its order.
struct TorchParameter {
  std::string name;
  torch::Tensor tensor;
};

class TorchParameters {
 public:
  /// Copies those of `model`. They want gradients; statistics of batch norms and biases that the
  /// reference does not learn (BART's final_logits_bias) do not, and are not among `trained`.
  /// Throws Error(kUnsupported) where matrices lie in scratch.
  TorchParameters(const Model& model, torch::ScalarType dtype);

  const std::vector<TorchParameter>& trained() const { return trained_; }
  /// Throws Error(kUsage) where there is none of that name.
  const torch::Tensor& at(const std::string& name) const;

  /// Of a parameter of the graph, a view or copy of rows of its tensor; of a tied one, its table's.
  /// Not defined() where it has none.
  torch::Tensor weight(ParamId p) const;
  torch::Tensor bias(ParamId p) const;
  const torch::Tensor& vector(ParamId p, std::size_t i) const;
  /// The name of the whole tensor of which the weight is rows; "": it has no weight.
  const std::string& stored_weight(ParamId p) const;
  /// The rows of `whole`, a tensor like that one, which are the weight.
  torch::Tensor part_of(const torch::Tensor& whole, ParamId p) const;

  /// Into the model that they were copied from, or one like it, rounded to f32. Throws
  /// Error(kUnsupported) where it holds codes of other weights.
  void write_to(Model& model) const;

 private:
  /// Rows of a tensor of `trained_`.
  struct Part {
    int tensor = -1;  ///< -1: none
    std::int64_t first = 0;
    std::int64_t rows = 0;
    bool whole = true;
    torch::Tensor indices;  ///< where the rows do not follow each other
  };
  struct Entry {
    Part weight;
    Part bias;
    torch::Tensor constant_bias;  ///< instead of `bias`
    std::vector<torch::Tensor> vectors;
    ParamId tied_to = kNoParam;
  };

  Part add(const std::string& name, const Tensor& values, const Packing& packing,
           torch::ScalarType dtype);
  torch::Tensor rows_of(const torch::Tensor& whole, const Part& part) const;
  torch::Tensor read(const Part& part) const;
  const Part& weight_part(ParamId p) const;

  std::vector<TorchParameter> trained_;
  std::map<std::string, int> by_name_;
  std::vector<Entry> entries_;  ///< by parameter
};

}  // namespace quell::train
