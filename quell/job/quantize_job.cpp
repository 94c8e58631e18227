#include "quell/job/quantize_job.h"
#include "quell/job/calibration_samples.h"

#include <algorithm>

#include "quell/base/error.h"
#include "quell/base/log.h"
#include "quell/compress/compress.h"
#include "quell/compress/ignored.h"
#include "quell/engine/lower.h"
#include "quell/exporting/compressed_tensors.h"
#include "quell/exporting/float_checkpoint.h"
#include "quell/graph/image_ops.h"
#include "quell/io/output_file.h"
#include "quell/io/output_path.h"
#include "quell/job/calibration_check.h"
#include "quell/job/divergence.h"
#include "quell/job/export_message.h"
#include "quell/job/memory_estimate.h"
#include "quell/job/model_options.h"
#include "quell/job/outputs.h"
#include "quell/job/preflight.h"
#include "quell/job/quantize_sizes.h"

namespace quell {
namespace fs = std::filesystem;
std::string default_recipe(const ModelDirectory& model_dir) {
  const Checkpoint checkpoint = Checkpoint::open(model_dir);
  const Graph graph = build_architecture(checkpoint).graph;
  return is_convolutional(graph) ? "images" : "os_plus";
}

fs::path check_output(const QuantizeJob& job) {
  const fs::path output = resolve_output(job.output);
  keep_input_folders(job.output, {job.model_dir.path()});
  keep_inputs(job.output, {job.calibration.data.file, job.eval_data.file, job.eval_labels});
  return output;
}

namespace {

/// The integer engine on what was written; says why where there is none for the scheme.
std::unique_ptr<ForwardModel> integer_engine(const Model& exported, ExecContext& ctx) {
  try {
    return lower(exported, ctx);
  } catch (const Error& e) {
    if (e.code() != ErrorCode::kUnsupported) throw;
    log(LogLevel::kWarning, std::string("no integer engine for this scheme: ") + e.what());
    return nullptr;
  }
}

/// A few sequences on which the written model is compared with the float one, whatever the recipe
/// does.
std::vector<TokenBatch> compared_samples(const std::vector<TokenBatch>& samples) {
  const std::int64_t sequences =
      std::max<std::int64_t>(1, kComparedTokens / samples.front().length);
  std::vector<TokenBatch> out;
  out.push_back(first_sequences(samples.front(), sequences));
  return out;
}

void say_if(const std::string& message, LogLevel level = LogLevel::kInfo) {
  if (!message.empty()) log(level, message);
}

}  // namespace

namespace {

/// What --eval-task asks for, of one engine after the other; beside the float model.
class Task {
 public:
  virtual ~Task() = default;
  virtual std::vector<MetricResult> measure(const std::string& engine, const ForwardModel& forward,
                                            ExecContext& ctx) = 0;
};

class TextTask final : public Task {
 public:
  TextTask(const QuantizeJob& job, const Model& original, const CalibrationSamples& calibration)
      : options_(*job.eval),
        set_(load_eval_set(options_, job.eval_data, original)),
        reference_(make_float_model(original)),
        compared_{.model = reference_.get()} {
    check_calibration_against(job.calibration, calibration.sequences, options_, job.eval_data,
                              set_);
  }
  std::vector<MetricResult> measure(const std::string& engine, const ForwardModel& forward,
                                    ExecContext& ctx) override {
    return evaluate(forward, engine == "float" ? nullptr : &compared_, options_, set_, ctx);
  }

 private:
  EvalOptions options_;
  EvalSet set_;
  std::unique_ptr<ForwardModel> reference_;
  Reference compared_;  ///< keeps what it has computed
};

class ImageTask final : public Task {
 public:
  ImageTask(const QuantizeJob& job, const Model& original)
      : images_(open_eval_images(job.eval_data, job.eval_labels, job.model_dir, *job.eval)),
        reference_(make_float_model(original)),
        compared_{.model = reference_.get()} {}
  std::vector<MetricResult> measure(const std::string& engine, const ForwardModel& forward,
                                    ExecContext& ctx) override {
    return evaluate_images(forward, engine == "float" ? nullptr : &compared_, images_.set, ctx);
  }

 private:
  EvalImages images_;
  std::unique_ptr<ForwardModel> reference_;
  ImageReference compared_;  ///< keeps what it has computed
};

std::unique_ptr<Task> make_task(const QuantizeJob& job, const Model& original,
                                const CalibrationSamples& calibration) {
  const bool of_images = job.eval->task == kImageClassification;
  require(of_images == original.reads_images(), ErrorCode::kUsage, "--eval-task ", job.eval->task,
          ": ", job.model_dir.string(), original.reads_images() ? " reads images" : " reads text");
  if (of_images) return std::make_unique<ImageTask>(job, original);
  return std::make_unique<TextTask>(job, original, calibration);
}

/// Values of many images take more memory than any model, and what does not fit would only be found
/// out by the system, which ends the process.
void check_room(const QuantizeJob& job, const Model& model,
                const std::vector<TokenBatch>& samples) {
  if (!model.reads_images() || job.max_memory > 0) return;
  const std::uint64_t need = peak_of(job, model, samples).memory;
  const std::uint64_t available = available_memory();
  if (available > 0 && need > available)
    throw Error(ErrorCode::kUsage,
                str("calibration takes about ", bytes_text(need), " of memory, of which ",
                    bytes_text(available),
                    " are available; use fewer images (--num-samples), or leave values on the "
                    "disk (--max-memory)"));
}

}  // namespace

Report run_quantize_job(const QuantizeJob& asked, ExecContext& ctx) {
  QuantizeJob job = asked;
  job.output = check_output(asked);
  const OutputLock lock(job.output);  // of the journal too, which lies beside it
  {
    const OutputDirectory probe(job.output, job.replace_output);
  }  // an unwritable output must not cost a calibration

  const Checkpoint checkpoint = Checkpoint::open(job.model_dir);
  auto scratch = scratch_for(job, checkpoint);
  Model model = load_model(checkpoint, {.scratch = scratch});
  checkpoint.drop_pages();
  resolve_ignored(model, job.recipe);
  const CalibrationSamples calibration = load_calibration(job.calibration, model, ctx.pool);
  const std::vector<TokenBatch> samples = calibration.batches(model, job.recipe.batch_size);
  fit_memory(job, model, samples);
  scratch = model.scratch;
  check_quantize_job(job, model, samples);
  check_room(job, model, samples);
  warn_of_unused(model, job.recipe);
  const std::optional<Model> original =
      job.eval ? std::optional(load_model(checkpoint, {.scratch = scratch})) : std::nullopt;
  const auto task = original ? make_task(job, *original, calibration) : nullptr;
  job.model_dir.check_accepted();
  Report report;
  const auto measure = [&](const std::string& engine, const ForwardModel& forward) {
    if (task) report.add(engine, job.eval->task, task->measure(engine, forward, ctx));
  };
  measure("float", *make_float_model(model));
  const bool as_float = job.format == "float";
  const Divergence divergence(model);
  const std::vector<TokenBatch> compared_batches = compared_samples(samples);
  const std::vector<Tensor> before =
      as_float ? std::vector<Tensor>()
               : divergence.outputs(*make_float_model(model), compared_batches, ctx);
  const fs::path kept = journal_beside(job.output);
  const Journal journal(kept, journal_key(model, samples, job.recipe, ctx.isa));
  if (journal.found() > 0)
    log(LogLevel::kInfo,
        str("going on with ", journal.found(), " steps of an earlier run: ", kept.string()));
  else
    log(LogLevel::kInfo, "every step is kept in " + kept.string() +
                             "; should this run be stopped, run the same command to go on");
  compress(model, samples, job.recipe, ctx, &journal);
  measure("simulated", *make_simulated_model(model, false, ctx.isa));
  const ExportSummary summary = (as_float ? export_float_checkpoint : export_compressed_tensors)(
      model, job.output, job.replace_output);
  const std::string what = as_float ? "migrated float" : scheme_of(job.recipe);
  journal.finish();
  log(LogLevel::kInfo,
      "wrote " + asked.output.string() + " (" + what + ", recipe " + job.recipe.name + ")");
  say_if(reader_message(model, summary));
  say_if(left_behind_message(summary), LogLevel::kWarning);
  model = Model();
  const Model exported = load_model(Checkpoint::open(job.output),
                                    {.scratch = scratch});  // read back what users will read
  if (as_float) measure("migrated", *make_float_model(exported));
  if (job.eval && !as_float)
    if (const auto integer = integer_engine(exported, ctx)) measure("integer", *integer);
  std::optional<MeasuredDivergence> measured;
  const bool images = exported.reads_images();
  if (!as_float) {
    const auto after =
        divergence.outputs(*make_simulated_model(exported, false, ctx.isa), compared_batches, ctx);
    measured = {divergence.words(), divergence.between(before, after, compared_batches).mean(),
                images ? compared_batches.front().batch : compared_batches.front().rows(),
                images ? "images" : "tokens"};
  }
  log(LogLevel::kInfo, size_message(checkpoint.num_bytes(), summary, measured));
  report.written = export_json(checkpoint.num_bytes(), summary, measured);
  return report;
}

}  // namespace quell
