#include "quell/train/losses/sample_contrastive.h"

#include "quell/base/error.h"

namespace quell::train {
namespace {

torch::Tensor diagonal_mask(std::int64_t size) {
  return torch::eye(size, torch::dtype(torch::kBool));
}

}  // namespace

torch::Tensor contrastive_features(const torch::Tensor& features, const torch::Tensor& map) {
  const torch::Tensor z = features.matmul(map.transpose(0, 1));
  return z / z.norm(2, -1, true);
}

SampleContrastive sample_contrastive(const torch::Tensor& student, const torch::Tensor& teacher,
                                     const torch::Tensor& student_map,
                                     const torch::Tensor& teacher_map,
                                     const SampleContrastiveOptions& options) {
  require(student.size(0) == teacher.size(0) && student_map.size(0) == teacher_map.size(0),
          ErrorCode::kInvalidInput, "contrastive distillation: ", student.size(0), " and ",
          teacher.size(0), " sentences, maps to ", student_map.size(0), " and ",
          teacher_map.size(0), " values; both sides need the same");
  const torch::Tensor s = contrastive_features(student, student_map);
  const torch::Tensor t = contrastive_features(teacher.detach(), teacher_map);
  const std::int64_t batch = s.size(0);
  const torch::Tensor is_self = diagonal_mask(batch);

  SampleContrastive out;
  out.weights = torch::ones({batch, batch}, s.options());
  if (options.reweighting_temperature && batch > 1) {
    const torch::Tensor likeness = t.matmul(t.transpose(0, 1)).detach();
    const torch::Tensor of_others =
        (likeness / *options.reweighting_temperature).masked_fill(is_self, -INFINITY);
    out.weights = (torch::softmax(of_others, -1) * (batch - 1)).masked_fill(is_self, 1);
  }

  const torch::Tensor similarity = s.matmul(t.transpose(0, 1)) / options.temperature;
  out.by_sample = (similarity + out.weights.log()).logsumexp(-1) - similarity.diagonal();
  out.loss = out.by_sample.mean();
  return out;
}

double contrastive_margin(const torch::Tensor& student, const torch::Tensor& teacher) {
  require(student.size(0) > 1, ErrorCode::kInvalidInput,
          "contrastive margin: a batch of one sentence has no negatives");
  const torch::NoGradGuard guard;
  const torch::Tensor similarity = student.matmul(teacher.transpose(0, 1));
  const torch::Tensor hardest =
      std::get<0>(similarity.masked_fill(diagonal_mask(similarity.size(0)), -INFINITY).max(-1));
  return (similarity.diagonal() - hardest).mean().item<double>();
}

}  // namespace quell::train
