// Which elements of a tensor share a step.
#pragma once

#include <torch/torch.h>

#include <string>
#include <vector>

#include "quell/io/method_params.h"
#include "quell/quant/quant_spec.h"

namespace quell::train {

/// tensor: all; row: those of a row (all that is behind the first dimension); group: `size`
/// neighbours in the last dimension; token: the last dimension; head: the last two.
class StepGroups {
 public:
  /// Reads `granularity`, one of `allowed`, and `group_size`, which groups need.
  StepGroups(const MethodParams& params, const std::vector<std::string>& allowed);

  /// [groups, elements of a group]. Throws Error(kInvalidInput) when the groups do not fit `x`.
  torch::Tensor split(const torch::Tensor& x) const;

  const std::string& name() const { return name_; }
  /// Whether no step is shared between rows.
  bool within_rows() const { return name_ == "row" || name_ == "group"; }
  /// "a step a row" and the like.
  std::string text() const;
  /// Bits, symmetry and granularity of codes of a weight. Of groups, rows and the whole tensor.
  QuantSpec weight_spec(int bits, bool symmetric) const;

 private:
  std::string name_;
  std::int64_t size_ = 0;
};

}  // namespace quell::train
