#include "quell/train/losses/layers.h"

#include "quell/base/error.h"

namespace quell::train {

torch::Tensor sum_over_layers(
    const std::vector<torch::Tensor>& student, const std::vector<torch::Tensor>& teacher,
    const std::string& what,
    const std::function<torch::Tensor(const torch::Tensor&, const torch::Tensor&)>& loss) {
  require(!student.empty() && student.size() == teacher.size(), ErrorCode::kInvalidInput, what,
          ": the student has ", student.size(), ", the teacher ", teacher.size(),
          "; map the layers to each other");
  torch::Tensor sum;
  for (std::size_t l = 0; l < student.size(); ++l) {
    require(student[l].sizes() == teacher[l].sizes(), ErrorCode::kInvalidInput, what, ", layer ", l,
            ": they differ in shape between student and teacher (heads or widths)");
    const torch::Tensor of_layer = loss(student[l], teacher[l].detach());
    sum = sum.defined() ? sum + of_layer : of_layer;
  }
  return sum;
}

}  // namespace quell::train
