// `quell verify`: recorded outputs of a reference implementation against this one.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "quell/engine/engines.h"

namespace quell {

struct VerifyJob {
  ModelDirectory model_dir;
  std::filesystem::path reference;
  std::string engine = "float";
  double tolerance = 1e-4;
};

struct VerifyRow {
  std::string tensor;
  double max_difference = 0;  ///< largest |a - b|, where the mask is 1
  double worst_ratio =
      0;  ///< largest |a - b| / (tolerance * (1 + |b|)); infinite where one of them is NaN
  std::int64_t compared = 0;
  bool passed() const { return compared > 0 && worst_ratio <= 1; }
};

struct VerifyResult {
  std::vector<VerifyRow> rows;
  bool passed = true;
};

/// The file holds `input_ids` (and `attention_mask`, `token_type_ids`) with outputs: logits,
/// last_hidden_state, pooler_output, embedding, embedding_normalized, hidden_states.i. A prefix
/// ("left.", "first4.") has its own inputs, or the first rows and columns of the main ones. The
/// main inputs of such a file: input_ids, attention_mask, token_type_ids, decoder_input_ids, or
/// pixel_values.
TokenBatch read_recorded_inputs(const SafetensorsFile& file, const ModelSpec& spec);

/// Throws Error(kInvalidInput) where the file leaves nothing to compare.
VerifyResult run_verify_job(const VerifyJob& job, ExecContext& ctx);

}  // namespace quell
