#include "quell/engine/token_rules.h"

#include <algorithm>
#include <limits>
#include <set>

namespace quell {
namespace {

constexpr float kBanned = -std::numeric_limits<float>::infinity();

void ban(std::int32_t id, std::span<float> scores) {
  if (id >= 0 && static_cast<std::size_t>(id) < scores.size())
    scores[static_cast<std::size_t>(id)] = kBanned;
}

void ban_all(std::span<const std::int32_t> ids, std::span<float> scores) {
  for (const std::int32_t id : ids) ban(id, scores);
}

/// Keskar et al. 2019: tokens that were there become less likely.
void penalize(double penalty, std::span<const std::int32_t> history, std::span<float> scores) {
  const auto factor = static_cast<float>(penalty);
  for (const std::int32_t id : std::set<std::int32_t>(history.begin(), history.end())) {
    if (static_cast<std::size_t>(id) >= scores.size()) continue;
    float& score = scores[static_cast<std::size_t>(id)];
    score = score < 0 ? score * factor : score / factor;
  }
}

}  // namespace

TokenRules::TokenRules(const GenerationSettings& settings, std::int64_t prompt_length,
                       std::int64_t max_new_tokens)
    : settings_(settings),
      prompt_length_(prompt_length),
      max_length_(prompt_length + max_new_tokens) {
  const GenerationSettings& s = settings_;
  const bool lengths = s.min_length > 0 || s.min_new_tokens > 0;
  const bool forced = s.forced_bos_token_id.has_value() || !s.forced_eos_token_ids.empty();
  const bool banned =
      !s.suppress_tokens.empty() || !s.begin_suppress_tokens.empty() || !s.bad_words.empty();
  active_ = lengths || forced || banned || s.repetition_penalty != 1 || s.no_repeat_ngram_size > 0;
}

void TokenRules::apply(std::span<const std::int32_t> history, std::span<float> scores) const {
  const auto length = static_cast<std::int64_t>(history.size());

  if (settings_.repetition_penalty != 1) penalize(settings_.repetition_penalty, history, scores);
  if (settings_.no_repeat_ngram_size > 0) ban_repetitions(history, scores);
  ban_bad_words(history, scores);
  if (length < settings_.min_length || length - prompt_length_ < settings_.min_new_tokens)
    ban_all(settings_.eos_token_ids, scores);

  if (settings_.forced_bos_token_id && length == 1)
    force({&*settings_.forced_bos_token_id, 1}, scores);
  if (!settings_.forced_eos_token_ids.empty() && length == max_length_ - 1)
    force(settings_.forced_eos_token_ids, scores);

  ban_all(settings_.suppress_tokens, scores);
  const bool starts_behind_bos = prompt_length_ <= 1 && settings_.forced_bos_token_id.has_value();
  if (length == prompt_length_ + (starts_behind_bos ? 1 : 0))
    ban_all(settings_.begin_suppress_tokens, scores);
}

/// No n-gram comes twice: what followed the last n - 1 tokens before does not follow them again.
void TokenRules::ban_repetitions(std::span<const std::int32_t> history,
                                 std::span<float> scores) const {
  const auto n = static_cast<std::size_t>(settings_.no_repeat_ngram_size);
  if (history.size() + 1 < n) return;

  const std::span<const std::int32_t> last = history.last(n - 1);
  for (std::size_t i = 0; i + n <= history.size(); ++i)
    if (std::equal(last.begin(), last.end(), history.begin() + static_cast<std::ptrdiff_t>(i)))
      ban(history[i + n - 1], scores);
}

void TokenRules::ban_bad_words(std::span<const std::int32_t> history,
                               std::span<float> scores) const {
  for (const std::vector<std::int32_t>& word : settings_.bad_words) {
    const std::span<const std::int32_t> before(word.data(), word.size() - 1);
    if (before.size() > history.size()) continue;
    const std::span<const std::int32_t> last = history.last(before.size());
    if (std::equal(before.begin(), before.end(), last.begin())) ban(word.back(), scores);
  }
}

void TokenRules::force(std::span<const std::int32_t> ids, std::span<float> scores) const {
  std::fill(scores.begin(), scores.end(), kBanned);
  for (const std::int32_t id : ids)
    if (id >= 0 && static_cast<std::size_t>(id) < scores.size())
      scores[static_cast<std::size_t>(id)] = 0;
}

}  // namespace quell
