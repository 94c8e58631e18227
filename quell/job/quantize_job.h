// `quell quantize`: the main job.
#pragma once

#include <filesystem>
#include <optional>

#include "quell/compress/recipe.h"
#include "quell/job/eval_job.h"
#include "quell/job/report.h"

namespace quell {

enum class Sampling { kRandom, kFirst };

struct CalibrationChoice {
  DataChoice data;
  std::int64_t num_samples = 128;
  std::int64_t skip = 0;  ///< rows or windows left out at the beginning
  Sampling sampling = Sampling::kRandom;
  std::int64_t max_seq_length = 0;  ///< 0: the model's own limit, at most 512
  std::uint64_t seed = 0;
};

struct QuantizeJob {
  ModelDirectory model_dir;
  std::filesystem::path output;
  Recipe recipe;
  CalibrationChoice calibration;
  bool replace_output = false;
  std::string format = "compressed-tensors";  ///< or "float": the migrated model, not quantized
  std::optional<EvalOptions> eval;            ///< measured as float, simulated and integer model
  DataChoice eval_data;
  std::filesystem::path eval_labels;  ///< image classification; empty: where they belong
  std::uint64_t max_memory =
      0;  ///< bytes; 0: matrices beyond kMatricesInMemory lie on the disk, whatever there is
};

inline constexpr std::uint64_t kMatricesInMemory = std::uint64_t{2} << 30;

/// The built-in recipe for a model of that kind: of text, or a network of convolutions.
std::string default_recipe(const ModelDirectory& model_dir);

/// Where the job's output really goes (resolve_output). Throws Error(kUsage | kIo) where that
/// cannot be, or would replace what the job reads.
std::filesystem::path check_output(const QuantizeJob& job);

/// A second run with the same output ends at once with Error(kIo) while this one works.
Report run_quantize_job(const QuantizeJob& asked, ExecContext& ctx);

}  // namespace quell
