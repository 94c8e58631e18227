// What callers know of a model beside its graph: sizes, special tokens, and what its head is for.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace quell {

enum class Head {
  kNone,
  kSequenceClassification,
  kTokenClassification,
  kQuestionAnswering,
  kMaskedLm,
  kCausalLm,
  kSeq2SeqLm,
  kImageClassification
};
std::string head_name(Head head);

struct ModelSpec {
  std::string model_type;
  std::int64_t vocab_size = 0;
  std::int64_t hidden_size = 0;
  std::int64_t intermediate_size = 0;
  std::int64_t max_position_embeddings = 0;
  std::int32_t pad_token_id = 0;  ///< fills batches; 0 where the model has none
  bool has_pad_token = false;
  std::vector<std::int32_t> eos_token_ids;
  std::int32_t decoder_start_token_id = 0;  ///< encoder-decoder models
  std::int64_t num_queries = 0;  ///< learned ones, which a decoder reads instead of tokens; else 0
  Head head = Head::kNone;
};

/// Positions without a limit.
inline constexpr std::int64_t kUnlimitedPositions = std::int64_t{1} << 31;

}  // namespace quell
