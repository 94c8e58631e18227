// Losses between the logits of a student and of its teacher, [.., V] each. All are means over the
// positions, unless they say otherwise; teachers get no gradient.
#pragma once

#include <torch/torch.h>

namespace quell::train {

/// A label that no loss counts.
constexpr std::int64_t kIgnoredLabel = -100;

/// Whether a position's cross entropy sums over classes, or is their mean (as TernaryBERT's code
/// has it: 1/K of the usual value).
enum class OverClasses { kSum, kMean };

/// -sum_v p^T_v log p^S_v, a position.
torch::Tensor soft_cross_entropies(const torch::Tensor& student, const torch::Tensor& teacher);
/// Their mean. Temperature 1 (Kim et al., EMNLP 2022; Tao et al., ACL 2022).
torch::Tensor soft_cross_entropy(const torch::Tensor& student, const torch::Tensor& teacher,
                                 OverClasses over = OverClasses::kSum);

/// Of regression: mean of squared differences.
torch::Tensor logit_mse(const torch::Tensor& student, const torch::Tensor& teacher);

/// T^2 KL(teacher | student) of logits / T (Hinton et al., 2015), its mean over positions.
torch::Tensor kl_at_temperature(const torch::Tensor& student, const torch::Tensor& teacher,
                                double temperature);

/// KL(teacher | student), KL(student | teacher), and share KL(teacher | m) + (1 - share)
/// KL(student | m), m = share p^T + (1 - share) p^S: a position.
torch::Tensor forward_kls(const torch::Tensor& student, const torch::Tensor& teacher);
torch::Tensor reverse_kls(const torch::Tensor& student, const torch::Tensor& teacher);
torch::Tensor jensen_shannon(const torch::Tensor& student, const torch::Tensor& teacher,
                             double share);

/// Soft cross entropy with the teacher's k largest logits of a position alone, its softmax over
/// those and the student's over the same.
torch::Tensor top_k_soft_cross_entropy(const torch::Tensor& student, const torch::Tensor& teacher,
                                       std::int64_t k);

/// BitDistiller's reduction (Du et al., ACL 2024): losses [B, T] of positions that have a label,
/// summed over a sequence, mean over the batch. labels: i64 [B, T].
torch::Tensor sum_of_answers(const torch::Tensor& by_position, const torch::Tensor& labels);
/// share * reverse KL + (1 - share) * forward KL, reduced as above.
torch::Tensor confidence_aware_kl(const torch::Tensor& student, const torch::Tensor& teacher,
                                  const torch::Tensor& labels, double reverse_share);

/// What confidence_aware_kl takes for `reverse_share`, from batches before training: the mean
/// probability that the teacher gives to labels (the paper), or its largest ones over all positions
/// (the reference code, which also divides the sum over n batches by n - 1).
class TeacherConfidence {
 public:
  /// logits [B, T, V]; labels: i64 [B, T], of the same positions.
  void add(const torch::Tensor& logits, const torch::Tensor& labels);
  double of_labels() const;
  double as_reference() const;

 private:
  double label_sum_ = 0, largest_sum_ = 0;
  std::int64_t label_count_ = 0, batches_ = 0;
};

/// Cross entropy with labels i64 [B, T] of the next positions (logits [B, T, V] at t predict the
/// label at t + 1), mean over labels that count. Throws Error(kInvalidInput) where none does.
torch::Tensor next_token_cross_entropy(const torch::Tensor& logits, const torch::Tensor& labels);
/// Soft cross entropy of the positions that predict another one: all but the last.
torch::Tensor next_token_soft_cross_entropy(const torch::Tensor& student,
                                            const torch::Tensor& teacher);

}  // namespace quell::train
