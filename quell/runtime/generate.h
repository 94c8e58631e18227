// Text generation: greedy, for decoders and for encoder-decoder models.
#pragma once

#include <vector>

#include "quell/model/forward.h"

namespace quell {

struct GenerateOptions {
  std::int64_t max_new_tokens = 64;
  bool stop_at_eos = true;  ///< of config.json; the end token itself is not returned
};

/// The new tokens of each sequence of `prompt` (tokens where its mask is 1, padded on either side). Encoder-decoder models read it
/// with their encoder. Every step runs the whole sequence again. Throws Error(kUsage) when the model gives no logits over its
/// vocabulary.
std::vector<std::vector<std::int32_t>> generate(const ForwardModel& model, const TokenBatch& prompt, const GenerateOptions& options,
                                                ExecContext& ctx);

}  // namespace quell
