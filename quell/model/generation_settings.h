// generation_config.json, or what older models say of generation in config.json.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "quell/io/model_directory.h"

namespace quell {

/// What a model directory says about the choice of tokens. Lengths count the prompt of a decoder,
/// and the decoder's start token of an encoder-decoder model.
struct GenerationSettings {
  std::vector<std::int32_t> eos_token_ids = {};
  std::optional<std::int32_t> decoder_start_token_id = {};
  std::optional<std::int32_t> forced_bos_token_id = {};
  std::vector<std::int32_t> forced_eos_token_ids = {};
  double repetition_penalty = 1;
  std::int64_t no_repeat_ngram_size = 0;  ///< 0: none
  std::int64_t min_length = 0, min_new_tokens = 0;
  std::optional<std::int64_t> max_length = {}, max_new_tokens = {};
  std::vector<std::int32_t> suppress_tokens = {}, begin_suppress_tokens = {};
  std::vector<std::vector<std::int32_t>> bad_words = {};
  /// Settings of sampling and beam search as "key: value", for people: how a token is drawn is
  /// Quell's own choice.
  std::vector<std::string> drawing = {};
};

/// Reads generation_config.json, which counts alone where it is there, else the keys of
/// config.json, as transformers does. Throws Error(kUnsupported) naming a key with which the
/// reference chooses other tokens, unless it was accepted; Error(kInvalidInput).
GenerationSettings read_generation_settings(const ModelDirectory& directory);

}  // namespace quell
