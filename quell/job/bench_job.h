// `quell bench`: how fast a model runs, engines and thread counts interleaved in one run.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "quell/io/json_fwd.h"
#include "quell/io/model_directory.h"

namespace quell {

struct BenchShape {
  std::int64_t batch = 1, length = 128;  ///< length 0: of images, which have a size of their own
  /// As it is written: "8x128", "8".
  std::string to_text() const;
};

struct BenchJob {
  ModelDirectory model_dir;  ///< or
  std::string random;        ///< a shape with random weights
  /// Quantize a float model first, on random tokens: the numbers then say how fast such a model
  /// runs, not how good it is.
  std::string recipe, scheme;
  bool quantize_attention = false, quantize_lm_head = false;
  std::vector<std::string> engines;  ///< empty: float, and integer where quantized
  std::vector<BenchShape> shapes;
  std::int64_t prompt = 0, generate = 0;  ///< tokens; 0: not measured
  std::int64_t sequences = 1;             ///< generated together
  bool kv_int8 = false;
  std::filesystem::path text;  ///< lines to embed, tokenizer included; empty: none
  std::vector<int> threads;    ///< empty: what cpu_budget.h says
  int repeat = 5;
  bool profile = false;  ///< share of time by kind of operator
};

/// {"rows": [{"model", "scheme", "engine", "threads", "test", "ms_median", "ms_min", "per_second",
/// "unit"}], "profile": [...], "cpu", "isa", "threads": [counts], "threads_because"}
Json run_bench_job(const BenchJob& job);
/// The report as Markdown.
std::string bench_text(const Json& report);

}  // namespace quell
