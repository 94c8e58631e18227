#include "quell/train/optimizers/optimizer.h"

#include <cmath>

#include "quell/base/error.h"

namespace quell::train {

void Optimizer::step(double learning_rate) {
  const torch::NoGradGuard guard;
  for (TrainedParameter& p : parameters_)
    if (p.value.grad().defined()) update(p, p.value.grad(), learning_rate * p.learning_rate);
}

void Optimizer::zero_gradients() {
  for (TrainedParameter& p : parameters_) p.value.mutable_grad() = torch::Tensor();
}

torch::Tensor& Optimizer::kept(const TrainedParameter& p, const std::string& name) {
  torch::Tensor& tensor = state_[p.name + "." + name];
  if (!tensor.defined()) tensor = torch::zeros_like(p.value);
  return tensor;
}

double Optimizer::count_step(const TrainedParameter& p) {
  torch::Tensor& steps = state_[p.name + ".steps"];
  if (!steps.defined()) steps = torch::zeros({1}, torch::kFloat64);
  steps += 1;
  return steps.item<double>();
}

void Optimizer::restore(const std::map<std::string, torch::Tensor>& state) {
  std::map<std::string, const TrainedParameter*> by_name;
  for (const TrainedParameter& p : parameters_) by_name[p.name] = &p;

  std::map<std::string, torch::Tensor> restored;
  for (const auto& [key, tensor] : state) {
    const std::size_t dot = key.rfind('.');
    const auto found = by_name.find(key.substr(0, dot));
    require(dot != std::string::npos && found != by_name.end(), ErrorCode::kInvalidInput,
            "optimizer state ", key, ": this run trains no such parameter");
    const bool is_count = key.substr(dot + 1) == "steps";
    require(is_count ? tensor.numel() == 1 : tensor.sizes() == found->second->value.sizes(),
            ErrorCode::kInvalidInput, "optimizer state ", key,
            ": another shape than the parameter's");
    restored[key] = tensor.clone();
  }
  state_ = std::move(restored);
}

double clip_gradients(const std::vector<TrainedParameter>& parameters, ClipNorm how, double largest,
                      std::string* culprit) {
  const torch::NoGradGuard guard;
  constexpr double kBesideZero = 1e-6;  // as torch's clip_grad_norm_
  std::vector<double> norms;
  double squares = 0, most = 0;
  for (const TrainedParameter& p : parameters) {
    const bool has_gradient = p.value.grad().defined();
    norms.push_back(has_gradient ? p.value.grad().norm().item<double>() : 0);
    if (!std::isfinite(norms.back())) {
      if (culprit) *culprit = p.name;
      return norms.back();
    }
    squares += norms.back() * norms.back();
    most = std::max(most, norms.back());
  }

  const double all = std::sqrt(squares);
  for (std::size_t i = 0; i < parameters.size(); ++i) {
    const double norm = how == ClipNorm::kGlobal ? all : norms[i];
    const double factor = largest / (norm + kBesideZero);
    if (factor < 1 && parameters[i].value.grad().defined())
      parameters[i].value.mutable_grad().mul_(factor);
  }
  return how == ClipNorm::kGlobal ? all : most;
}

}  // namespace quell::train
