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
  std::int32_t prompt_length = 0;      ///< tokens at the beginning that pooling may leave out
};

/// `batch` sequences: of `length` tokens each, `mask` being 1 on tokens and 0 on padding; or, where
/// `starts` is not empty, one behind the other without padding, `length` being the longest. The
/// tokens of sequence b are the rows [row_begin(b), row_begin(b)
/// + row_count(b)).
struct TokenBatch {
  std::int64_t batch = 0, length = 0;
  std::vector<std::int32_t> ids, mask, type_ids, labels;

  /// What a decoder reads besides, [batch, decoder_length]; empty: the model makes it from `ids`.
  std::int64_t decoder_length = 0;
  std::vector<std::int32_t> decoder_ids, decoder_mask;
  /// Images instead of ids: [batch, channels, height, width]; `length` counts the tokens that the
  /// model makes of one.
  std::vector<float> pixels;

  std::vector<std::int64_t> starts;          ///< [batch + 1], or empty
  std::vector<std::int32_t> prompt_lengths;  ///< [batch], or empty: none
  /// Tokens of each sequence that a KV cache already holds, [batch]; empty: none.
  std::vector<std::int32_t> past;

  std::int64_t rows() const { return starts.empty() ? batch * length : starts.back(); }
  std::int64_t row_begin(std::int64_t b) const {
    return starts.empty() ? b * length : starts[static_cast<std::size_t>(b)];
  }
  std::int64_t row_count(std::int64_t b) const {
    return starts.empty() ? length : row_begin(b + 1) - row_begin(b);
  }
  std::int32_t past_of(std::int64_t b) const {
    return past.empty() ? 0 : past[static_cast<std::size_t>(b)];
  }
};

/// Pads the sequences `indices` of `sequences` on the right with `pad_id` to their longest.
TokenBatch make_batch(const std::vector<TokenSequence>& sequences,
                      std::span<const std::size_t> indices, std::int32_t pad_id);

/// The sequences `indices` one behind the other, without padding.
TokenBatch make_concatenated_batch(const std::vector<TokenSequence>& sequences,
                                   std::span<const std::size_t> indices);

/// Consecutive batches in the given order (calibration: the order is part of the result).
std::vector<TokenBatch> make_batches(const std::vector<TokenSequence>& sequences,
                                     std::size_t batch_size, std::int32_t pad_id);

/// The first `count` sequences of a padded batch.
TokenBatch first_sequences(TokenBatch batch, std::int64_t count);

/// Index lists of batches of similar length: at most `max_tokens` tokens with padding (at least one
/// sequence) each.
std::vector<std::vector<std::size_t>> group_by_length(const std::vector<TokenSequence>& sequences,
                                                      std::int64_t max_tokens);

}  // namespace quell
