#include "quell/train/losses/logits.h"

#include "quell/base/error.h"

namespace quell::train {
namespace {

torch::Tensor log_probabilities(const torch::Tensor& logits) {
  return torch::log_softmax(logits, -1);
}

/// KL(p | q) a position, from logarithms.
torch::Tensor kls(const torch::Tensor& log_p, const torch::Tensor& log_q) {
  return (log_p.exp() * (log_p - log_q)).sum(-1);
}

/// Logits of positions 0 .. T-2, which predict those behind them.
torch::Tensor predicting(const torch::Tensor& logits) {
  return logits.narrow(1, 0, logits.size(1) - 1);
}

}  // namespace

torch::Tensor soft_cross_entropies(const torch::Tensor& student, const torch::Tensor& teacher) {
  return -(torch::softmax(teacher.detach(), -1) * log_probabilities(student)).sum(-1);
}

torch::Tensor soft_cross_entropy(const torch::Tensor& student, const torch::Tensor& teacher,
                                 OverClasses over) {
  const torch::Tensor loss = soft_cross_entropies(student, teacher).mean();
  return over == OverClasses::kSum ? loss : loss / student.size(-1);
}

torch::Tensor logit_mse(const torch::Tensor& student, const torch::Tensor& teacher) {
  return torch::mse_loss(student, teacher.detach());
}

torch::Tensor kl_at_temperature(const torch::Tensor& student, const torch::Tensor& teacher,
                                double temperature) {
  const torch::Tensor by_position = forward_kls(student / temperature, teacher / temperature);
  return by_position.mean() * (temperature * temperature);
}

torch::Tensor forward_kls(const torch::Tensor& student, const torch::Tensor& teacher) {
  return kls(log_probabilities(teacher.detach()), log_probabilities(student));
}

torch::Tensor reverse_kls(const torch::Tensor& student, const torch::Tensor& teacher) {
  return kls(log_probabilities(student), log_probabilities(teacher.detach()));
}

torch::Tensor jensen_shannon(const torch::Tensor& student, const torch::Tensor& teacher,
                             double share) {
  const torch::Tensor log_s = log_probabilities(student);
  const torch::Tensor log_t = log_probabilities(teacher.detach());
  const torch::Tensor log_mix = (share * log_t.exp() + (1 - share) * log_s.exp()).log();
  return share * kls(log_t, log_mix) + (1 - share) * kls(log_s, log_mix);
}

torch::Tensor top_k_soft_cross_entropy(const torch::Tensor& student, const torch::Tensor& teacher,
                                       std::int64_t k) {
  require(k >= 1 && k <= teacher.size(-1), ErrorCode::kInvalidInput, "top-k distillation: k is ", k,
          ", of ", teacher.size(-1), " logits; choose 1 to that many");
  const auto [largest, at] = teacher.detach().topk(k, -1);
  return soft_cross_entropies(student.gather(-1, at), largest).mean();
}

torch::Tensor sum_of_answers(const torch::Tensor& by_position, const torch::Tensor& labels) {
  const torch::Tensor counts = labels.ne(kIgnoredLabel).to(by_position.scalar_type());
  return (by_position * counts).sum(-1).mean();
}

torch::Tensor confidence_aware_kl(const torch::Tensor& student, const torch::Tensor& teacher,
                                  const torch::Tensor& labels, double reverse_share) {
  const torch::Tensor by_position = reverse_share * reverse_kls(student, teacher) +
                                    (1 - reverse_share) * forward_kls(student, teacher);
  return sum_of_answers(by_position, labels);
}

void TeacherConfidence::add(const torch::Tensor& logits, const torch::Tensor& labels) {
  const torch::NoGradGuard guard;
  const torch::Tensor probabilities = torch::softmax(logits, -1);
  largest_sum_ += std::get<0>(probabilities.max(-1)).mean().item<double>();
  ++batches_;

  const torch::Tensor counts = labels.ne(kIgnoredLabel);
  const torch::Tensor known = labels.masked_fill(counts.logical_not(), 0).unsqueeze(-1);
  const torch::Tensor of_label = probabilities.gather(-1, known).squeeze(-1);
  label_sum_ += of_label.masked_select(counts).sum().item<double>();
  label_count_ += counts.sum().item<std::int64_t>();
}

double TeacherConfidence::of_labels() const {
  require(label_count_ > 0, ErrorCode::kInvalidInput,
          "the teacher's confidence: no position has a label");
  return label_sum_ / static_cast<double>(label_count_);
}

double TeacherConfidence::as_reference() const {
  require(batches_ > 1, ErrorCode::kInvalidInput,
          "the teacher's confidence: the reference's form needs two batches or more");
  return largest_sum_ / static_cast<double>(batches_ - 1);
}

torch::Tensor next_token_cross_entropy(const torch::Tensor& logits, const torch::Tensor& labels) {
  const torch::Tensor next = labels.narrow(1, 1, labels.size(1) - 1);
  require(next.ne(kIgnoredLabel).any().item<bool>(), ErrorCode::kInvalidInput,
          "cross entropy of next tokens: no position of the batch has a label");
  return torch::cross_entropy_loss(predicting(logits).flatten(0, 1), next.flatten(), {},
                                   at::Reduction::Mean, kIgnoredLabel);
}

torch::Tensor next_token_soft_cross_entropy(const torch::Tensor& student,
                                            const torch::Tensor& teacher) {
  return soft_cross_entropies(predicting(student), predicting(teacher)).mean();
}

}  // namespace quell::train
