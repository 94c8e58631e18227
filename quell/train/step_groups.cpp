#include "quell/train/step_groups.h"

#include "quell/base/error.h"

namespace quell::train {

StepGroups::StepGroups(const MethodParams& params, const std::vector<std::string>& allowed)
    : name_(params.choice("granularity", allowed, allowed.front())) {
  size_ = params.integer("group_size", 1, 1 << 24, 0);
  require(name_ != "group" || size_ > 0, ErrorCode::kInvalidInput, "quantizer ", params.name(),
          ": granularity group needs group_size");
  require(name_ == "group" || size_ == 0, ErrorCode::kInvalidInput, "quantizer ", params.name(),
          ": group_size has no effect with granularity ", name_, "; leave it out");
}

torch::Tensor StepGroups::split(const torch::Tensor& x) const {
  require(x.dim() > 0 && x.numel() > 0, ErrorCode::kInvalidInput,
          "a tensor without elements cannot be quantized");
  if (name_ == "tensor") return x.reshape({1, -1});
  if (name_ == "row") return x.reshape({x.size(0), -1});
  if (name_ == "token") return x.reshape({-1, x.size(-1)});
  if (name_ == "head") {
    require(x.dim() == 4, ErrorCode::kInvalidInput,
            "granularity head needs [batch, head, ...], not ", x.dim(), " dimensions");
    return x.reshape({x.size(0) * x.size(1), -1});
  }
  require(x.size(-1) % size_ == 0, ErrorCode::kInvalidInput, "group_size ", size_,
          " does not divide ", x.size(-1), " columns; choose a divisor");
  return x.reshape({-1, size_});
}

std::string StepGroups::text() const {
  if (name_ == "group") return "a step for " + std::to_string(size_) + " columns of a row";
  return "a step a " + name_;
}

QuantSpec StepGroups::weight_spec(int bits, bool symmetric) const {
  QuantSpec spec;
  spec.num_bits = bits;
  spec.symmetric = symmetric;
  if (name_ == "row") spec.granularity = Granularity::kPerChannel;
  if (name_ == "group") spec.granularity = Granularity::kPerGroup;
  spec.group_size = size_;
  return spec;
}

}  // namespace quell::train
