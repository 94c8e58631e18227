#include "quell/job/preflight.h"

#include <algorithm>
#include <chrono>

#include "quell/base/error.h"
#include "quell/compress/compress.h"
#include "quell/compress/ignored.h"
#include "quell/compress/pass.h"
#include "quell/exporting/float_checkpoint.h"
#include "quell/graph/image_ops.h"
#include "quell/io/json.h"
#include "quell/io/output_file.h"
#include "quell/job/calibration_samples.h"
#include "quell/job/export_message.h"
#include "quell/job/memory_estimate.h"
#include "quell/job/model_options.h"
#include "quell/job/quantize_sizes.h"
#include "quell/job/time_estimate.h"

namespace quell {
namespace {
namespace fs = std::filesystem;

/// The directory that `path` will be created in, or the nearest one above it that exists.
fs::path directory_above(fs::path path) {
  std::error_code ec;
  path = fs::absolute(path, ec);
  do path = path.parent_path();
  while (!fs::exists(path, ec) && path.has_parent_path() && path != path.parent_path());
  return path;
}

std::uint64_t free_disk(const fs::path& path) {
  std::error_code ec;
  const fs::space_info space = fs::space(directory_above(path), ec);
  return ec ? 0 : space.available;
}

std::uint64_t float_bytes(const Checkpoint& checkpoint) {
  std::uint64_t bytes = 0;
  for (const auto& [name, view] : checkpoint.tensors())
    bytes += sizeof(float) * static_cast<std::uint64_t>(view.numel());
  return bytes;
}

constexpr std::uint64_t kProgram =
    std::uint64_t{16} << 20;  ///< bytes of the program itself, its libraries and threads

/// While the checkpoint is read, its file lies in memory beside the matrices; while the written one
/// is read again, its file lies beside the matrices made of it and the codes. With matrices on the
/// disk neither does.
std::uint64_t holding_files(const Checkpoint& checkpoint, const Model& model,
                            const QuantizeSizes& sizes, std::uint64_t output_bytes) {
  if (model.scratch) return 0;
  return std::max(checkpoint.num_bytes() + sizeof(float) * sizes.floats,
                  output_bytes + sizes.matrices());
}

}  // namespace

std::shared_ptr<ScratchFile> scratch_for(const QuantizeJob& job, const Checkpoint& checkpoint) {
  // With codes and a site's copies, matrices take about twice their f32.
  const std::uint64_t limit = job.max_memory > 0 ? job.max_memory / 2 : kMatricesInMemory;
  if (float_bytes(checkpoint) <= limit) return nullptr;
  return std::make_shared<ScratchFile>(directory_above(job.output));
}

void fit_memory(const QuantizeJob& job, Model& model, const std::vector<TokenBatch>& samples) {
  const auto fits = [&] {
    return job.max_memory == 0 || peak_of(job, model, samples).memory <= job.max_memory;
  };
  if (fits()) return;
  if (!model.scratch) {
    model.scratch = std::make_shared<ScratchFile>(directory_above(job.output));
    model.spill();
    if (fits()) return;
  }
  model.values_in_scratch = true;
}

namespace {

/// Whether the ReLU6 that makes the channels would have to change with them.
bool is_behind_relu6(const Graph& graph, const std::vector<ChangedValue>& values) {
  return std::any_of(values.begin(), values.end(), [&](const ChangedValue& v) {
    return v.producer == ProducerKind::kLinearRows && graph.is_from(v.value, op_activation) &&
           activation_of(graph.producer_of(v.value)) == ActivationKind::kRelu6;
  });
}

/// Refuses a change that a plain checkpoint has no place for. `fits_weights`: some weight takes up
/// the scale.
void check_float_change(const Model& model, const std::string& pass, const std::string& where,
                        const std::vector<ChangedValue>& values, bool fits_weights) {
  const auto refuse_unless = [&](bool fits, const char* why) {
    require(fits, ErrorCode::kUnsupported, "--format float: ", plain_checkpoint(model),
            " cannot hold what ", pass, " does to ", where, why,
            "; write --format compressed-tensors instead");
  };
  refuse_unless(!is_behind_relu6(model.graph, values),
                " (a ReLU6 would get a bound for each channel)");
  const bool restored =
      std::any_of(values.begin(), values.end(), [](const ChangedValue& v) { return v.restore; });
  refuse_unless(!restored, " (a residual branch would have to undo it)");
  refuse_unless(fits_weights, " (a scale that no weight can hold)");
}

/// What a pass does to the whole model is known before anything runs; else, what it may do site by
/// site.
void check_float_changes(const Model& model, const std::string& name, const Pass& pass,
                         const std::vector<Site>& sites) {
  const Plan plan = pass.plan_equivalences(model);
  for (const PlanItem& item : plan)
    if (const auto* change = std::get_if<ShiftScale>(&item))
      check_float_change(model, name, model.graph.producer_of(change->values.front().value).label,
                         change->values, true);
  if (!plan.empty()) return;

  for (const Site& site : sites)
    if (pass.may_change(site))
      check_float_change(model, name, site.name, site.values, !pass.may_be_explicit(site));
}

}  // namespace

void check_quantize_job(const QuantizeJob& job, const Model& model,
                        const std::vector<TokenBatch>& samples) {
  require(job.format == "compressed-tensors" || job.format == "float", ErrorCode::kUsage,
          "--format ", job.format, " is unknown; use compressed-tensors or float");
  check_recipe(model, job.recipe);
  const QuantizeSizes sizes = sizes_of(model, job.recipe);
  const std::uint64_t need = job.format == "float" ? sizeof(float) * sizes.floats : sizes.output,
                      room = free_disk(job.output);
  // The matrices lie in scratch already, their codes do not.
  const QuantizePeak peak = peak_of(job, model, samples);
  const std::uint64_t passing = sizes.journal +
                                (model.scratch ? sizeof(std::int16_t) * sizes.quantized : 0) +
                                (model.values_in_scratch ? peak.values : 0);
  require(room == 0 || need + passing <= room, ErrorCode::kIo, job.output.string(),
          ": needs about ", bytes_text(need + passing),
          " with the journal of the run, the disk has ", bytes_text(room),
          "; free some, or write elsewhere");
  if (job.max_memory > 0 && peak.memory > job.max_memory)
    throw Error(ErrorCode::kUsage,
                str("--max-memory ", bytes_text(job.max_memory), " is too little: about ",
                    bytes_text(peak.memory), " are needed, with matrices and values on the disk",
                    "; allow more, or use fewer ",
                    model.reads_images() ? "images (--num-samples)"
                                         : "or shorter samples (--num-samples, --max-seq-length)"));
  if (job.format != "float") return;
  require(!model.graph.has(op_batch_norm), ErrorCode::kUnsupported,
          "--format float: ", plain_checkpoint(model),
          " has batch norms, which are folded into convolutions here; write --format "
          "compressed-tensors instead");
  const std::vector<Site> sites = derive_sites(model, scope_of(job.recipe));
  for (const PassParams& params : job.recipe.passes) {
    const auto pass = make_pass(params, job.recipe);
    require(!pass->changes_float_function(), ErrorCode::kUnsupported, "--format float: with ",
            params.name(),
            " a float checkpoint would not compute what the original does; leave it out, or write "
            "--format compressed-tensors");
    if (pass->stage() == PassStage::kEquivalence)
      check_float_changes(model, params.name(), *pass, sites);
  }
}

Preflight run_preflight(const QuantizeJob& asked, ExecContext& ctx) {
  QuantizeJob job = asked;
  job.output = check_output(asked);
  {
    const OutputDirectory probe(job.output, job.replace_output);
  }  // what the run would be refused for

  using Clock = std::chrono::steady_clock;
  const auto start = Clock::now();
  const Checkpoint checkpoint = Checkpoint::open(job.model_dir);
  Preflight out;
  out.available_memory = available_memory();
  const auto scratch = scratch_for(job, checkpoint);
  require(scratch || out.available_memory == 0 || float_bytes(checkpoint) < out.available_memory,
          ErrorCode::kInvalidInput, job.model_dir.string(), ": its weights take ",
          bytes_text(float_bytes(checkpoint)), " in memory, of which ",
          bytes_text(out.available_memory), " are available; --max-memory leaves them on the disk");
  Model model = load_model(checkpoint, {.scratch = scratch});
  resolve_ignored(model, job.recipe);
  const auto seconds = [&] { return std::chrono::duration<double>(Clock::now() - start).count(); };
  const double load = seconds();
  const CalibrationSamples calibration = load_calibration(job.calibration, model, ctx.pool);
  job.model_dir.check_accepted();
  const std::vector<TokenBatch> samples = calibration.batches(model, job.recipe.batch_size);
  const double read = seconds();
  fit_memory(job, model, samples);
  check_quantize_job(job, model, samples);
  warn_of_unused(model, job.recipe);
  out.samples = calibration.size();
  out.of_images = model.reads_images();
  for (const TokenBatch& b : samples) out.tokens += b.rows();

  const QuantizeSizes sizes = sizes_of(model, job.recipe);
  out.sites = static_cast<std::int64_t>(derive_sites(model, scope_of(job.recipe)).size());
  const QuantizePeak peak = peak_of(job, model, samples);
  out.output_bytes = job.format == "float" ? sizeof(float) * sizes.floats : sizes.output;
  out.peak_memory =
      std::max(peak.memory, holding_files(checkpoint, model, sizes, out.output_bytes)) + kProgram;
  out.values_in_scratch = model.values_in_scratch;
  if (model.scratch)
    out.scratch_bytes = sizes.matrices() + (model.values_in_scratch ? peak.values : 0);
  out.journal_bytes = sizes.journal;
  out.free_disk = free_disk(job.output);

  const TimeEstimate time = estimate_time(model, job.recipe, samples, ctx);
  constexpr double kWrittenPerSecond = 5e8;  // bytes; not measured, a disk of today
  out.stages = {
      {"read the model and the samples", read},
      {"calibrate and round", time.calibrate},
      {"search", time.search},
      {"choose ranges", time.ranges},
      {"write, and read again", load + static_cast<double>(out.output_bytes) / kWrittenPerSecond}};
  return out;
}

Json Preflight::to_json() const {
  Json rows = Json::array();
  for (const Stage& s : stages)
    rows.push_back({{"stage", s.name}, {"seconds", s.seconds ? Json(*s.seconds) : Json()}});
  return {{"samples", samples},
          {"tokens", tokens},
          {"sites", sites},
          {"stages", rows},
          {"peak_memory_bytes", peak_memory},
          {"available_memory_bytes", available_memory},
          {"output_bytes", output_bytes},
          {"journal_bytes", journal_bytes},
          {"scratch_bytes", scratch_bytes},
          {"free_disk_bytes", free_disk}};
}

std::string Preflight::to_text() const {
  const std::string what = of_images ? str(samples, " images")
                                     : str(samples, " samples, ", tokens, " tokens with padding");
  std::string out = str(what, ", ", sites, " sites\n");
  double total = 0;
  bool all_known = true;
  const auto line = [](const char* name, double seconds) {
    return format_text("  %-42s about %8.1f s\n", name, seconds);
  };
  for (const Stage& s : stages) {
    total += s.seconds.value_or(0);
    all_known &= s.seconds.has_value();
    out += s.seconds ? line(s.name.c_str(), *s.seconds)
                     : format_text("  %-42s not known before it is done\n", s.name.c_str());
  }
  out +=
      line(all_known ? "together, evaluation left out" : "together, that and evaluation left out",
           total);
  out +=
      "memory at its peak: about " + bytes_text(peak_memory) + " of " +
      bytes_text(available_memory) + " available" +
      (values_in_scratch   ? ", the matrices and values on the disk"
       : scratch_bytes > 0 ? ", the matrices on the disk"
                           : "") +
      (peak_memory > available_memory ? "; NOT ENOUGH: fewer --num-samples, or a machine with more"
                                      : "") +
      "\n";
  return out + "disk: about " + bytes_text(output_bytes) + ", and " +
         bytes_text(journal_bytes + scratch_bytes) + " while it runs, of " + bytes_text(free_disk) +
         " free\n";
}

}  // namespace quell
