#include "quell/job/quantize_job.h"

#include <algorithm>
#include <numeric>

#include "quell/base/error.h"
#include "quell/base/log.h"
#include "quell/base/random.h"
#include "quell/compress/compress.h"
#include "quell/compress/ignored.h"
#include "quell/engine/lower.h"
#include "quell/exporting/compressed_tensors.h"
#include "quell/exporting/float_checkpoint.h"
#include "quell/io/output_file.h"
#include "quell/io/output_path.h"
#include "quell/job/calibration_check.h"
#include "quell/job/divergence.h"
#include "quell/job/export_message.h"
#include "quell/job/outputs.h"
#include "quell/job/preflight.h"
#include "quell/model/text_encoder.h"

namespace quell {
namespace fs = std::filesystem;
namespace {

constexpr std::int64_t kDefaultLength = 512;

std::vector<TokenSequence> cut_stream(const std::vector<std::int32_t>& ids, std::int64_t length) {
  std::vector<TokenSequence> out;
  for (std::size_t at = 0; at + static_cast<std::size_t>(length) <= ids.size();
       at += static_cast<std::size_t>(length))
    out.push_back({{ids.begin() + static_cast<std::ptrdiff_t>(at),
                    ids.begin() + static_cast<std::ptrdiff_t>(at) + length},
                   {},
                   {}});
  return out;
}

}  // namespace

fs::path check_output(const QuantizeJob& job) {
  const fs::path output = resolve_output(job.output);
  keep_input_folders(job.output,
                     {job.model_dir.path(), job.calibration.data.file, job.eval_data.file});
  return output;
}

std::vector<TokenSequence> load_samples(const CalibrationChoice& choice, const Model& model) {
  Dataset data = read_dataset(choice.data.file, choice.data.columns, LabelUse::kIgnore);
  const std::int64_t context = model.spec.max_position_embeddings;
  const std::int64_t length = std::min(choice.max_seq_length > 0  ? choice.max_seq_length
                                       : model.max_seq_length > 0 ? model.max_seq_length
                                                                  : kDefaultLength,
                                       context);
  const PairMode mode = model.sentence.defined() ? PairMode::kSeparate : PairMode::kPair;
  std::vector<TokenSequence> all;
  if (!data.stream.empty()) {
    all = cut_stream(data.stream, length);
    require(!all.empty(), ErrorCode::kInvalidInput, data.source, ": ", data.stream.size(),
            " tokens are fewer than one sample of ", length, "; lower --max-seq-length");
  } else {
    const auto tokenizer = open_tokenizer_for(data, model);
    if (mode == PairMode::kSeparate) prepend_default_prompt(model, data);
    all = tokenize_examples(data, tokenizer.get(), mode, length, EmptyRows::kLeaveOut);
    if (mode == PairMode::kSeparate) note_default_prompt(model, tokenizer.get(), all);
  }
  require(choice.skip < static_cast<std::int64_t>(all.size()), ErrorCode::kUsage, data.source,
          ": --calibration-skip ", choice.skip, " leaves nothing of ", all.size(), " samples");
  all.erase(all.begin(), all.begin() + choice.skip);
  if (choice.sampling == Sampling::kRandom) Random(choice.seed).shuffle(all);
  if (static_cast<std::int64_t>(all.size()) > choice.num_samples)
    all.resize(static_cast<std::size_t>(choice.num_samples));
  for (const TokenSequence& s : all)
    for (const std::int32_t id : s.ids)
      require(id >= 0 && id < model.spec.vocab_size, ErrorCode::kInvalidInput, data.source,
              ": token id ", id, " is outside the model's vocabulary of ", model.spec.vocab_size);
  check_calibration_data(choice, data, all);
  return all;
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
  const std::vector<TokenSequence> sequences = load_samples(job.calibration, model);
  const std::vector<TokenBatch> samples = make_batches(
      sequences, static_cast<std::size_t>(job.recipe.batch_size), model.spec.pad_token_id);
  fit_memory(job, model, samples);
  scratch = model.scratch;
  check_quantize_job(job, model, samples);
  EvalSet set;
  if (job.eval) {
    set = load_eval_set(*job.eval, job.eval_data, model);
    check_calibration_against(job.calibration, sequences, *job.eval, job.eval_data, set);
  }
  job.model_dir.check_accepted();
  const std::optional<Model> original =
      job.eval ? std::optional(load_model(checkpoint, {.scratch = scratch})) : std::nullopt;
  const auto reference = original ? make_float_model(*original) : nullptr;
  Reference compared{.model = reference.get()};
  Report report;
  const auto measure = [&](const std::string& engine, const ForwardModel& forward) {
    if (job.eval)
      report.add(engine, job.eval->task,
                 evaluate(forward, engine == "float" ? nullptr : &compared, *job.eval, set, ctx));
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
  if (!as_float) {
    const auto after =
        divergence.outputs(*make_simulated_model(exported, false, ctx.isa), compared_batches, ctx);
    measured = {divergence.words(), divergence.between(before, after, compared_batches).mean(),
                compared_batches.front().rows()};
  }
  log(LogLevel::kInfo, size_message(checkpoint.num_bytes(), summary, measured));
  report.written = export_json(checkpoint.num_bytes(), summary, measured);
  return report;
}

}  // namespace quell
