// What a quantization will need, and what would make it fail, before any work.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "quell/job/quantize_job.h"

namespace quell {

struct Preflight {
  struct Stage {
    std::string name;
    std::optional<double> seconds = 0;  ///< nothing: not known
  };
  std::vector<Stage> stages;  ///< evaluation left out
  std::int64_t samples = 0, tokens = 0, sites = 0;
  bool of_images = false;                               ///< which samples are
  std::uint64_t peak_memory = 0, available_memory = 0;  ///< bytes
  /// Journal and scratch (matrices that nobody reads) go away with the last step.
  std::uint64_t output_bytes = 0, journal_bytes = 0, scratch_bytes = 0, free_disk = 0;
  bool values_in_scratch = false;  ///< what calibration carries along too

  Json to_json() const;
  std::string to_text() const;
};

/// Where matrices of the job's model lie on the disk: beside the output, or nowhere (null), by
/// `max_memory`.
std::shared_ptr<ScratchFile> scratch_for(const QuantizeJob& job, const Checkpoint& checkpoint);

/// Where the job's `max_memory` would not do otherwise, moves the matrices to the disk, and if that
/// is not enough what calibration carries from step to step.
void fit_memory(const QuantizeJob& job, Model& model, const std::vector<TokenBatch>& samples);

/// Throws Error(kInvalidInput | kUnsupported | kIo) where `job` cannot end well: sizes that do not
/// fit the recipe, a format that cannot hold what its passes do, no room on the disk, and
/// Error(kUsage) where its `max_memory` is too little.
void check_quantize_job(const QuantizeJob& job, const Model& model,
                        const std::vector<TokenBatch>& samples);

/// Estimates from the sizes of model and samples, and from trying the recipe on a layer or two
/// (time_estimate.h).
Preflight run_preflight(const QuantizeJob& asked, ExecContext& ctx);

}  // namespace quell
