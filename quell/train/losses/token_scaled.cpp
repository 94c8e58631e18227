#include "quell/train/losses/token_scaled.h"

#include "quell/train/losses/logits.h"

namespace quell::train {

TokenScale token_scale(const torch::Tensor& teacher, const torch::Tensor& labels, double tau) {
  const torch::NoGradGuard guard;
  const std::int64_t positions = teacher.size(1) - 1;
  const torch::Tensor next = labels.narrow(1, 1, positions);
  const torch::Tensor ignored = next.eq(kIgnoredLabel);
  const torch::Tensor known = next.masked_fill(ignored, 0).unsqueeze(-1);
  const torch::Tensor log_p = torch::log_softmax(teacher.narrow(1, 0, positions), -1);

  TokenScale out;
  out.teacher_cross_entropy = (-log_p.gather(-1, known).squeeze(-1)).masked_fill(ignored, 0);
  out.weight = torch::softmax(out.teacher_cross_entropy / tau, -1);
  return out;
}

torch::Tensor token_scaled_soft_cross_entropy(const torch::Tensor& student,
                                              const torch::Tensor& teacher,
                                              const torch::Tensor& labels, double tau) {
  const std::int64_t positions = student.size(1) - 1;
  const torch::Tensor by_position =
      soft_cross_entropies(student.narrow(1, 0, positions), teacher.narrow(1, 0, positions));
  return (token_scale(teacher, labels, tau).weight * by_position).sum();
}

}  // namespace quell::train
