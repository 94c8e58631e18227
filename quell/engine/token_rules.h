// What a model's generation settings do to the scores of the next token, before one is chosen.
#pragma once

#include <span>

#include "quell/model/generation_settings.h"

namespace quell {

/// Rules for one sequence. They run in the order of transformers' logits processors.
class TokenRules {
 public:
  /// `prompt_length`: tokens that are there at the start; the text ends after `max_new_tokens`
  /// more.
  TokenRules(const GenerationSettings& settings, std::int64_t prompt_length,
             std::int64_t max_new_tokens);

  /// Whether any score can change.
  bool active() const { return active_; }
  /// Changes `scores` [vocabulary] of the token that comes behind `history` (prompt included).
  void apply(std::span<const std::int32_t> history, std::span<float> scores) const;

 private:
  void ban_repetitions(std::span<const std::int32_t> history, std::span<float> scores) const;
  void ban_bad_words(std::span<const std::int32_t> history, std::span<float> scores) const;
  void force(std::span<const std::int32_t> ids, std::span<float> scores) const;

  GenerationSettings settings_;
  std::int64_t prompt_length_, max_length_;
  bool active_ = false;
};

}  // namespace quell
