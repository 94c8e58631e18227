// Token-level contrastive distillation with a memory bank (QuantGPT, Tao et al., ACL 2022, section
// 3.2). No code of the authors is public: this is a reading of the paper, and each choice is an
// option.
#pragma once

#include <torch/torch.h>

namespace quell::train {

struct TokenContrastiveOptions {
  double momentum = 0.5;                ///< mu, of the bank
  double temperature = 0.1;             ///< tau
  bool positive_in_denominator = true;  ///< as InfoNCE has it
  bool same_id_masked = false;          ///< other occurrences of a token's id are no negatives
  bool sum = false;                     ///< over tokens, instead of their mean
};

/// Rows of the student's own hidden states by token id, averaged over time. With h a student's and
/// t the teacher's hidden state, a token's q is mu * bank[id] + (1 - mu) * h, or h where the id is
/// new;
///   loss_i = -log( exp(cos(q_i, t_i) / tau) / sum_j exp(cos(q_i, t_j) / tau) )
/// over the tokens j of its sentence. The gradient goes through h alone. After a batch, bank[id] is
/// the mean of q over its occurrences, so that their order does not matter.
class TokenContrastive {
 public:
  /// For `vocabulary` ids and hidden states of `width` values.
  TokenContrastive(const TokenContrastiveOptions& options, std::int64_t vocabulary,
                   std::int64_t width, torch::ScalarType type);

  struct Result {
    torch::Tensor loss;
    torch::Tensor by_token;  ///< [B, T], 0 at padding
  };
  /// Changes the bank. ids: i64 [B, T]; is_token: bool [B, T], padding takes no part; student,
  /// teacher: [B, T, width].
  Result step(const torch::Tensor& ids, const torch::Tensor& is_token, const torch::Tensor& student,
              const torch::Tensor& teacher);

  // What a checkpoint of the run has to hold.
  const torch::Tensor& bank() const { return bank_; }       ///< [V, width]
  const torch::Tensor& is_known() const { return known_; }  ///< bool [V]
  void restore(torch::Tensor bank, torch::Tensor is_known);

 private:
  torch::Tensor queries(const torch::Tensor& ids, const torch::Tensor& student) const;
  void remember(const torch::Tensor& ids, const torch::Tensor& is_token,
                const torch::Tensor& queries);

  TokenContrastiveOptions options_;
  torch::Tensor bank_, known_;
};

}  // namespace quell::train
