// The autograd interpreter: a model's graph, run in libtorch. Op by op it calls what ops/ has for
// it, and any value and any stage of an attention can be tapped for a loss.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "quell/train/dropout.h"
#include "quell/train/quantizer_slots.h"
#include "quell/train/torch_parameters.h"

namespace quell::train {

/// What a forward pass is to leave behind beside the outputs.
struct Taps {
  std::vector<ValueId> values = {};  ///< as their readers see them, behind dropout
  /// As AttentionRun::tap shows them: scores in front of soft cap and mask, the map in front of
  /// dropout and quantizer.
  std::vector<AttentionPoint> attention = {};
};

struct TorchOutputs {
  std::map<std::string, torch::Tensor> values;        ///< the graph's outputs, by name
  std::map<ValueId, torch::Tensor> taps;              ///< [rows, columns]
  std::map<AttentionPoint, torch::Tensor> attention;  ///< [batch, heads, rows, columns]
};

/// What the linear behind an attention gives; kNoValue where none reads its context.
ValueId attention_output(const Graph& graph, NodeId attention);

class TorchModel {
 public:
  /// Copies the parameters; refers to the rest of `model`, whose graph may get or lose quantizers
  /// while this lives. `dtype`: float32 or float64, in which everything is computed. Throws
  /// Error(kUnsupported) naming the ops that have no function here.
  explicit TorchModel(const Model& model, torch::ScalarType dtype = torch::kFloat32);

  /// Batches are padded ones. Dropout is the identity without a `draw`. Throws
  /// Error(kInvalidInput) where the batch does not fit the model.
  TorchOutputs forward(const TokenBatch& batch, const Taps& taps = {},
                       const std::optional<DropoutDraw>& draw = std::nullopt) const;

  /// Throws Error(kUsage) naming a place that no node reads through.
  void set_quantizers(QuantizerSlots quantizers);
  void set_dropout(DropoutPoints points) { dropout_ = std::move(points); }

  const Model& model() const { return model_; }
  const Graph& graph() const { return model_.graph; }
  torch::ScalarType dtype() const { return dtype_; }
  const TorchParameters& parameters() const { return parameters_; }
  /// The tensors alone, for an optimizer.
  std::vector<torch::Tensor> trained_tensors() const;
  const QuantizerSlots& quantizers() const { return quantizers_; }
  const DropoutPoints& dropout() const { return dropout_; }

 private:
  const Model& model_;
  torch::ScalarType dtype_;
  TorchParameters parameters_;
  QuantizerSlots quantizers_;
  DropoutPoints dropout_;
};

}  // namespace quell::train
