// Token by token comparison of a model with its float base: the numbers of llama.cpp's perplexity
// tool (docs/evaluation.md).
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "quell/io/json_fwd.h"

namespace quell {

class TokenStatistics {
 public:
  /// Logits of both models for one predicted token.
  void add(std::span<const float> base, std::span<const float> logits, std::int32_t target);
  std::int64_t count() const { return static_cast<std::int64_t>(kld_.size()); }
  double mean_kl() const;
  double same_top() const;  ///< 0..100
  /// Perplexities with their ratio, KL divergence, probability differences, each with its standard
  /// error or percentiles.
  Json to_json() const;
  /// The same as the lines that llama-perplexity prints.
  std::string to_text() const;

 private:
  std::vector<double> nll_, nll_base_, kld_, p_diff_;
  std::int64_t same_top_ = 0;
};

}  // namespace quell
