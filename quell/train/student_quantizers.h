// The quantizers of a student: which stand where, by the choices of a recipe. They round in the
// forward pass of training, and say in the end what a model file holds.
#pragma once

#include <torch/torch.h>

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "quell/train/fake_quantizer.h"
#include "quell/train/torch_model.h"
#include "quell/train/training_recipe.h"

namespace quell::train {

/// Seed and progress of a step, as all quantizers are told of it.
struct QuantizerStep {
  std::uint64_t seed = 0;
  std::int64_t step = 0;
  bool training = true;
  bool frozen = false;
};

class StudentQuantizers {
 public:
  /// Puts quantizers in front of the linears of layers and poolers, at their matrices, at operands
  /// of attentions and at the word table, and gives them to `student`, which `model` is. Heads that
  /// are tied to the table multiply with what its quantizer gives. Learned parameters of weights
  /// start from the weights. Throws Error(kInvalidInput) that names a
  /// quantizer which cannot stand where it is put.
  StudentQuantizers(const QuantizerChoices& choices, Model& model, TorchModel& student);

  /// Steps of static activations start from what this pass shows them.
  void initialize(const std::function<void()>& forward);

  /// Before each pass. `second_moment`: the optimizer's of a parameter, by name; may give an
  /// undefined tensor.
  void begin_step(const QuantizerStep& step,
                  const std::function<torch::Tensor(const std::string&)>& second_moment);

  /// Of all quantizers, "PLACE.NAME" each. Writing into the values changes the quantizers.
  std::vector<NamedTensor> parameters() const;
  std::vector<NamedTensor> state() const;

  bool empty() const { return places_.empty(); }

  /// A quantizer and where it stands.
  struct Entry {
    enum class Kind { kWeight, kTable, kInput, kAttention };
    Kind kind = Kind::kWeight;
    std::string name;    ///< "encoder.layer.0.output.dense.weight", "layers.0.fc2 input"
    std::string tensor;  ///< of weights and tables: the stored one
    ParamId param = kNoParam;
    ValueId value = kNoValue;
    AttentionPoint point;
    std::unique_ptr<FakeQuantizer> quantizer;
    bool initialized = false;
  };
  const std::vector<std::unique_ptr<Entry>>& entries() const { return places_; }

 private:
  Entry& add(Entry::Kind kind, std::string name, const MethodParams& method);
  TensorFunction function_of(Entry& entry);
  void add_weight(Entry::Kind kind, ParamId p, const MethodParams& method, QuantizerSlots& slots);
  void add_linear(NodeId n, const QuantizerChoices& choices, QuantizerSlots& slots);
  void add_tied_head(NodeId n, const QuantizerChoices& choices, QuantizerSlots& slots);
  void add_input(NodeId linear, const MethodParams& method, QuantizerSlots& slots);
  void add_attention(NodeId n, const QuantizerChoices& choices, QuantizerSlots& slots);

  Model& model_;
  TorchModel& student_;
  bool initializing_ = false;
  std::vector<std::unique_ptr<Entry>> places_;  ///< slots refer to them
};

}  // namespace quell::train
