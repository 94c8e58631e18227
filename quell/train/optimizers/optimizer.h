// Optimizers whose whole state is named tensors, so that a run goes on from a checkpoint with the
// same bytes.
#pragma once

#include <torch/torch.h>

#include <map>
#include <string>
#include <vector>

namespace quell::train {

struct TrainedParameter {
  std::string name;
  torch::Tensor value;  ///< a leaf with a gradient
  double weight_decay = 0;
  double learning_rate = 1;  ///< times that of the step: learned clips have one of their own
};

/// Parameters without a gradient are left as they are, and their moments too.
class Optimizer {
 public:
  explicit Optimizer(std::vector<TrainedParameter> parameters)
      : parameters_(std::move(parameters)) {}
  virtual ~Optimizer() = default;

  /// One step down the gradients that are there.
  void step(double learning_rate);
  void zero_gradients();
  const std::vector<TrainedParameter>& parameters() const { return parameters_; }

  /// "NAME.MOMENT", and what counts steps.
  std::map<std::string, torch::Tensor> state() const { return state_; }
  /// Throws Error(kInvalidInput) where a tensor has no such parameter or another shape.
  void restore(const std::map<std::string, torch::Tensor>& state);

 protected:
  /// One parameter's step.
  virtual void update(TrainedParameter& p, const torch::Tensor& gradient, double learning_rate) = 0;
  /// A moment of a parameter, zeros of its shape at first.
  torch::Tensor& kept(const TrainedParameter& p, const std::string& name);
  /// Steps of a parameter, this one included: its own, since some may go without a gradient.
  double count_step(const TrainedParameter& p);

 private:
  std::vector<TrainedParameter> parameters_;
  std::map<std::string, torch::Tensor> state_;
};

struct AdamOptions {
  double beta1 = 0.9, beta2 = 0.999, epsilon = 1e-8;
};

/// Adam with decoupled weight decay (Loshchilov and Hutter, 2019), as torch.optim.AdamW.
class AdamW final : public Optimizer {
 public:
  AdamW(std::vector<TrainedParameter> parameters, const AdamOptions& options)
      : Optimizer(std::move(parameters)), options_(options) {}

 protected:
  void update(TrainedParameter& p, const torch::Tensor& gradient, double learning_rate) override;

 private:
  AdamOptions options_;
};

/// BERT's: no bias correction, epsilon outside the root, decay added to the update.
class BertAdam final : public Optimizer {
 public:
  BertAdam(std::vector<TrainedParameter> parameters, const AdamOptions& options)
      : Optimizer(std::move(parameters)), options_(options) {}

 protected:
  void update(TrainedParameter& p, const torch::Tensor& gradient, double learning_rate) override;

 private:
  AdamOptions options_;
};

/// With momentum, and decay as part of the gradient, as torch.optim.SGD.
class Sgd final : public Optimizer {
 public:
  Sgd(std::vector<TrainedParameter> parameters, double momentum)
      : Optimizer(std::move(parameters)), momentum_(momentum) {}

 protected:
  void update(TrainedParameter& p, const torch::Tensor& gradient, double learning_rate) override;

 private:
  double momentum_;
};

/// Each gradient by itself, or all together, to a norm of at most `largest`. Returns the norm
/// before (of each by itself: the largest). Not finite: nothing changes, and the name of the first
/// parameter where it is so is in `culprit`.
enum class ClipNorm { kEachTensor, kGlobal };
double clip_gradients(const std::vector<TrainedParameter>& parameters, ClipNorm how, double largest,
                      std::string* culprit = nullptr);

}  // namespace quell::train
