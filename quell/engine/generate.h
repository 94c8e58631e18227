// Text generation: greedy or sampled, for decoders (with a KV cache and sequences that come and go)
// and encoder-decoder models.
#pragma once

#include <functional>
#include <optional>
#include <vector>

#include "quell/base/random.h"
#include "quell/engine/engines.h"
#include "quell/engine/token_rules.h"

namespace quell {

/// How the next token is drawn from the logits.
struct SamplingOptions {
  double temperature = 0;  ///< 0: greedy
  std::int64_t top_k = 0;  ///< only the k most likely; 0: all
  double top_p = 1;        ///< only the most likely that together reach p
  std::uint64_t seed = 0;
};

/// The next token. `random` is not used when greedy; ties go to the smaller id.
std::int32_t sample_token(std::span<const float> logits, const SamplingOptions& options,
                          Random& random);

/// Decodes several sequences together; each may join and leave between steps. Where the model
/// allows it, keys and values are cached. Results of a sequence do not depend on its neighbours.
/// Not thread-safe.
class BatchDecoder {
 public:
  /// Room for `max_sequences` of `capacity` tokens each, prompt included. Throws Error(kUsage) when
  /// the model cannot generate, or Error(kUnsupported) when its sequences cannot be continued token
  /// by token.
  BatchDecoder(const ForwardModel& model, std::int64_t max_sequences, std::int64_t capacity,
               KvFormat format = KvFormat::kF32);

  /// Adds a sequence; its first token comes with the next step. Throws Error(kInvalidInput) when
  /// there is no room. `rules` change the scores of its tokens, where there are any.
  int add(std::vector<std::int32_t> prompt, const SamplingOptions& sampling = {},
          std::optional<TokenRules> rules = std::nullopt);
  void remove(int id);
  std::size_t size() const { return running_.size(); }
  bool has_room() const { return running_.size() < static_cast<std::size_t>(max_sequences_); }

  struct NewToken {
    int id;
    std::int32_t token;
    bool full;  ///< no room for another token: remove it
  };
  /// One token for each sequence, in the order of their ids: first the new ones read their prompts
  /// together, then the others go on together.
  std::vector<NewToken> step(ExecContext& ctx);
  std::size_t cache_bytes() const { return cache_.bytes(); }

 private:
  struct Running {
    std::vector<std::int32_t> pending;  ///< tokens that the model has not read yet
    std::int64_t slot = 0;
    SamplingOptions sampling;
    Random random;
    std::optional<TokenRules> rules;
    std::vector<std::int32_t> history;  ///< all tokens, where there are rules
  };
  void forward(const std::vector<int>& ids, std::map<int, std::int32_t>& tokens, ExecContext& ctx);

  const ForwardModel& model_;
  std::int64_t max_sequences_;
  KvCache cache_;
  std::map<int, Running> running_;
  std::vector<std::int64_t> free_slots_;
  int next_id_ = 0;
};

struct GenerateOptions {
  std::int64_t max_new_tokens = 64;
  bool stop_at_eos = true;  ///< the end token itself is not returned
  /// Of the model directory; without them only the end tokens of config.json count.
  std::optional<GenerationSettings> settings = {};
  SamplingOptions sampling = {};
  KvFormat kv_format = KvFormat::kF32;
  /// Sees every token as it comes, by sequence of the prompt.
  std::function<void(std::size_t sequence, std::int32_t token)> on_token = {};
  /// Sees every sequence that ends because the context is full, before an end token or the last of
  /// `max_new_tokens`.
  std::function<void(std::size_t sequence)> on_full_context = {};
};

/// The new tokens of each sequence of `prompt` (tokens where its mask is 1, padded on either side).
/// Encoder-decoder models read it with their encoder and run the whole sequence again at every
/// step. Stops early where the model's context is full. Throws Error(kUsage) when the model gives
/// no logits over its vocabulary.
std::vector<std::vector<std::int32_t>> generate(const ForwardModel& model, const TokenBatch& prompt,
                                                const GenerateOptions& options, ExecContext& ctx);

}  // namespace quell
