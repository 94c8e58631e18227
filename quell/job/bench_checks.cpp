#include "quell/job/bench_checks.h"

#include <algorithm>

#include "quell/base/error.h"
#include "quell/job/export_message.h"
#include "quell/job/memory_estimate.h"
#include "quell/job/model_options.h"
#include "quell/model/image_input.h"

namespace quell {
namespace {

void check_shapes(const BenchJob& job, const Model& model) {
  const bool images = model.reads_images();
  for (const BenchShape& s : job.shapes) {
    require(!images || s.length == 0, ErrorCode::kUsage, "--shape ", s.to_text(), ": ",
            job.model_dir.string(), " reads images of one size; write --shape ", s.batch);
    require(images || s.length > 0, ErrorCode::kUsage, "--shape ", s.to_text(),
            ": write BATCHxLENGTH, such as 8x128");
  }
}

/// Whoever gives an option that changes nothing expects other figures.
void check_options(const BenchJob& job, const Model& model) {
  refuse_text_options(model, {{job.prompt > 0, "-p"},
                              {job.generate > 0, "-n"},
                              {!job.text.empty(), "--text"},
                              {job.sequences > 1, "--sequences"},
                              {job.kv_int8, "--kv-int8"},
                              {job.quantize_lm_head, "--quantize-lm-head"}});
  require(!job.kv_int8 || job.prompt > 0 || job.generate > 0, ErrorCode::kUsage,
          "--kv-int8: goes with -p or -n");
  require(job.sequences == 1 || job.generate > 0, ErrorCode::kUsage, "--sequences: goes with -n");

  const std::string name = job.random.empty() ? job.model_dir.string() : job.random;
  require(!job.quantize_attention || model.graph.has(op_attention), ErrorCode::kUsage,
          "--quantize-attention: ", name, " has no attention");
  const bool has_lm_head = std::any_of(model.params.begin(), model.params.end(),
                                       [](const Param& p) { return p.role == Role::kLmHead; });
  require(!job.quantize_lm_head || has_lm_head, ErrorCode::kUsage, "--quantize-lm-head: ", name,
          " has no language-model head");
}

BatchSize size_of(const BenchShape& shape, const Model& model) {
  const std::int64_t length =
      model.reads_images() ? model.spec.max_position_embeddings : shape.length;
  return {shape.batch, shape.batch * length};
}

/// A batch that does not fit would only be found out by the system, which ends the process. All
/// batches are there from the beginning; values only while one is run.
void check_memory(const BenchJob& job, const Model& model) {
  const bool all_in_codes =
      !job.engines.empty() && std::all_of(job.engines.begin(), job.engines.end(),
                                          [](const std::string& e) { return e == "integer"; });
  const std::uint64_t value_bytes = all_in_codes ? 1 : sizeof(float);
  const std::uint64_t available = available_memory();
  const std::optional<ImageAttributes> image = image_input_of(model.graph);
  const std::int64_t image_size = image ? image->channels * image->size.pixels() : 0;

  std::uint64_t batches = 0;
  for (const BenchShape& shape : job.shapes) {
    batches += sizeof(float) * static_cast<std::uint64_t>(shape.batch * image_size);
    const std::uint64_t need = batches + value_bytes * most_values(model, size_of(shape, model));
    if (available == 0 || need <= available) continue;
    throw Error(ErrorCode::kUsage,
                str("--shape ", shape.to_text(), ": takes about ", bytes_text(need),
                    " of memory, of which ", bytes_text(available),
                    " are available; choose a smaller batch"));
  }
}

}  // namespace

std::string BenchShape::to_text() const {
  return length == 0 ? str(batch) : str(batch, "x", length);
}

void check_bench_job(const BenchJob& job, const Model& model) {
  check_shapes(job, model);
  check_options(job, model);
  check_memory(job, model);
}

}  // namespace quell
