// Token ids as the models take them.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace quell {

struct TokenSequence {
  std::vector<std::int32_t> ids;
  std::vector<std::int32_t> type_ids;  ///< empty: all 0
  std::vector<std::int32_t> labels;    ///< per token, -100 where there is none; empty: no labels
};

/// `batch` sequences of `length` tokens, row-major; `mask` is 1 on tokens and 0 on padding.
struct TokenBatch {
  std::int64_t batch = 0, length = 0;
  std::vector<std::int32_t> ids, mask, type_ids, labels;

  /// What a decoder reads besides, [batch, decoder_length]; empty: the model makes it from `ids`.
  std::int64_t decoder_length = 0;
  std::vector<std::int32_t> decoder_ids, decoder_mask;
  /// Images instead of ids: [batch, channels, height, width]; `length` counts the tokens that the model makes of one.
  std::vector<float> pixels;

  std::int64_t rows() const { return batch * length; }
};

/// Pads the sequences `indices` of `sequences` on the right with `pad_id` to their longest.
TokenBatch make_batch(const std::vector<TokenSequence>& sequences, std::span<const std::size_t> indices, std::int32_t pad_id);

/// Consecutive batches in the given order (calibration: the order is part of the result).
std::vector<TokenBatch> make_batches(const std::vector<TokenSequence>& sequences, std::size_t batch_size, std::int32_t pad_id);

/// Index lists of batches of similar length: at most `max_tokens` tokens with padding (at least one sequence) each.
std::vector<std::vector<std::size_t>> group_by_length(const std::vector<TokenSequence>& sequences, std::int64_t max_tokens);

}  // namespace quell
