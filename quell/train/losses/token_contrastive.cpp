#include "quell/train/losses/token_contrastive.h"

#include "quell/base/error.h"

namespace quell::train {
namespace {

torch::Tensor unit(const torch::Tensor& x) { return x / x.norm(2, -1, true); }

}  // namespace

TokenContrastive::TokenContrastive(const TokenContrastiveOptions& options, std::int64_t vocabulary,
                                   std::int64_t width, torch::ScalarType type)
    : options_(options),
      bank_(torch::zeros({vocabulary, width}, type)),
      known_(torch::zeros({vocabulary}, torch::kBool)) {}

void TokenContrastive::restore(torch::Tensor bank, torch::Tensor is_known) {
  require(bank.sizes() == bank_.sizes() && is_known.sizes() == known_.sizes(),
          ErrorCode::kInvalidInput,
          "the memory bank of the checkpoint has another shape than this model's");
  bank_ = std::move(bank);
  known_ = std::move(is_known);
}

torch::Tensor TokenContrastive::queries(const torch::Tensor& ids,
                                        const torch::Tensor& student) const {
  const torch::Tensor remembered = bank_.index({ids});
  const torch::Tensor mixed = options_.momentum * remembered + (1 - options_.momentum) * student;
  return torch::where(known_.index({ids}).unsqueeze(-1), mixed, student);
}

TokenContrastive::Result TokenContrastive::step(const torch::Tensor& ids,
                                                const torch::Tensor& is_token,
                                                const torch::Tensor& student,
                                                const torch::Tensor& teacher) {
  const torch::Tensor q = queries(ids, student);
  // Padding may be all zeros, whose direction is not defined: it takes the place of a fixed one.
  const auto without_padding = [&](const torch::Tensor& x) {
    return torch::where(is_token.unsqueeze(-1), x, torch::ones_like(x));
  };
  const torch::Tensor similarity =
      unit(without_padding(q)).matmul(unit(without_padding(teacher.detach())).transpose(1, 2)) /
      options_.temperature;  // [B, T, T]

  const std::int64_t length = ids.size(1);
  const torch::Tensor is_self = torch::eye(length, ids.options().dtype(torch::kBool)).unsqueeze(0);
  torch::Tensor counts = is_token.unsqueeze(1).expand({ids.size(0), length, length});
  if (options_.same_id_masked) {
    const torch::Tensor same_id = ids.unsqueeze(1).eq(ids.unsqueeze(2));
    counts = counts.logical_and(same_id.logical_not().logical_or(is_self));
  }
  if (!options_.positive_in_denominator) counts = counts.logical_and(is_self.logical_not());

  // Rows of padding count nothing: kept finite here, left out below.
  const torch::Tensor denominator = similarity.masked_fill(counts.logical_not(), -INFINITY)
                                        .masked_fill(is_token.logical_not().unsqueeze(-1), 0)
                                        .logsumexp(-1);
  const torch::Tensor positive = similarity.diagonal(0, 1, 2);
  Result out;
  out.by_token = (denominator - positive).masked_fill(is_token.logical_not(), 0);
  out.loss = out.by_token.sum();
  if (!options_.sum) out.loss = out.loss / is_token.sum().to(out.loss.scalar_type());

  remember(ids, is_token, q.detach());
  return out;
}

void TokenContrastive::remember(const torch::Tensor& ids, const torch::Tensor& is_token,
                                const torch::Tensor& queries) {
  const torch::NoGradGuard guard;
  const torch::Tensor seen_ids = ids.masked_select(is_token);
  const torch::Tensor seen = queries.index({is_token});  // [tokens, width]
  const torch::Tensor sums = torch::zeros_like(bank_).index_add_(0, seen_ids, seen);
  const torch::Tensor counts =
      torch::zeros({bank_.size(0)}, seen.options())
          .index_add_(0, seen_ids, torch::ones({seen_ids.size(0)}, seen.options()));
  const torch::Tensor is_seen = counts.gt(0);

  const torch::Tensor means = sums / counts.clamp_min(1).unsqueeze(-1);
  // In place: whoever holds them for a checkpoint sees what they become.
  bank_.copy_(torch::where(is_seen.unsqueeze(-1), means, bank_));
  known_.logical_or_(is_seen);
}

}  // namespace quell::train
