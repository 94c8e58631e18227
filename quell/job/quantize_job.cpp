#include "quell/job/quantize_job.h"

#include <algorithm>
#include <numeric>

#include "quell/base/error.h"
#include "quell/base/log.h"
#include "quell/base/random.h"
#include "quell/compress/compress.h"
#include "quell/exporting/compressed_tensors.h"
#include "quell/exporting/float_checkpoint.h"
#include "quell/io/output_file.h"
#include "quell/job/preflight.h"
#include "quell/runtime/lower.h"

namespace quell {
namespace {

constexpr std::int64_t kDefaultLength = 512;

std::vector<TokenSequence> cut_stream(const std::vector<std::int32_t>& ids, std::int64_t length) {
  std::vector<TokenSequence> out;
  for (std::size_t at = 0; at + static_cast<std::size_t>(length) <= ids.size(); at += static_cast<std::size_t>(length))
    out.push_back(
        {{ids.begin() + static_cast<std::ptrdiff_t>(at), ids.begin() + static_cast<std::ptrdiff_t>(at) + length}, {}, {}});
  return out;
}

}  // namespace

std::vector<TokenSequence> load_samples(const CalibrationChoice& choice, const Model& model) {
  const Dataset data = read_dataset(choice.data.file, choice.data.columns);
  const std::int64_t context = model.spec.max_position_embeddings;
  const std::int64_t length = std::min(choice.max_seq_length > 0  ? choice.max_seq_length
                                       : model.max_seq_length > 0 ? model.max_seq_length
                                                                  : kDefaultLength,
                                       context);
  const PairMode mode = model.pooling != PoolingKind::kNone ? PairMode::kSeparate : PairMode::kPair;
  std::vector<TokenSequence> all;
  if (!data.stream.empty()) {
    all = cut_stream(data.stream, length);
    require(!all.empty(), ErrorCode::kInvalidInput, data.source, ": ", data.stream.size(), " tokens are fewer than one sample of ",
            length, "; lower --max-seq-length");
  } else {
    all = tokenize_examples(data, open_tokenizer_for(data, model.dir).get(), mode, length);
  }
  require(choice.skip < static_cast<std::int64_t>(all.size()), ErrorCode::kUsage, data.source, ": --calibration-skip ", choice.skip,
          " leaves nothing of ", all.size(), " samples");
  all.erase(all.begin(), all.begin() + choice.skip);
  if (choice.sampling == Sampling::kRandom) Random(choice.seed).shuffle(all);
  if (static_cast<std::int64_t>(all.size()) > choice.num_samples) all.resize(static_cast<std::size_t>(choice.num_samples));
  for (const TokenSequence& s : all)
    for (const std::int32_t id : s.ids)
      require(id >= 0 && id < model.spec.vocab_size, ErrorCode::kInvalidInput, data.source, ": token id ", id,
              " is outside the model's vocabulary of ", model.spec.vocab_size);
  return all;
}

Report run_quantize_job(const QuantizeJob& job, ExecContext& ctx) {
  { const OutputDirectory probe(job.output, job.replace_output); }  // an unwritable output must not cost a calibration
  const Checkpoint checkpoint = Checkpoint::open(job.model_dir);
  auto scratch = scratch_for(job, checkpoint);
  Model model = load_model(checkpoint, false, scratch);
  checkpoint.drop_pages();
  const std::vector<TokenBatch> samples =
      make_batches(load_samples(job.calibration, model), static_cast<std::size_t>(job.recipe.batch_size), model.spec.pad_token_id);
  fit_memory(job, model, samples);
  scratch = model.scratch;
  check_quantize_job(job, model, samples);
  EvalSet set;
  if (job.eval) set = load_eval_set(*job.eval, job.eval_data, model);
  job.model_dir.check_accepted();
  const std::optional<Model> original = job.eval ? std::optional(load_model(checkpoint, false, scratch)) : std::nullopt;
  const auto reference = original ? make_float_model(*original) : nullptr;
  Reference compared{.model = reference.get()};
  Report report;
  const auto measure = [&](const std::string& engine, const ForwardModel& forward) {
    if (job.eval)
      report.add(engine, job.eval->task, evaluate(forward, engine == "float" ? nullptr : &compared, *job.eval, set, ctx));
  };
  measure("float", *make_float_model(model));
  // Where the path ends in a slash, the journal still lies beside the directory.
  const std::string output = job.output.has_filename() ? job.output.string() : job.output.parent_path().string();
  const Journal journal(output + ".journal", journal_key(model, samples, job.recipe, ctx.isa));
  if (journal.found() > 0)
    log(LogLevel::kInfo, str("going on with ", journal.found(), " steps of an earlier run: ", output, ".journal"));
  compress(model, samples, job.recipe, ctx, &journal);
  measure("simulated", *make_simulated_model(model, false, ctx.isa));
  const bool as_float = job.format == "float";
  (as_float ? export_float_checkpoint : export_compressed_tensors)(model, job.output, job.replace_output);
  const std::string what = as_float ? "migrated float" : scheme_of(job.recipe);
  journal.finish();
  log(LogLevel::kInfo, "wrote " + job.output.string() + " (" + what + ", recipe " + job.recipe.name + ")");
  model = Model();
  const Model exported = load_model(Checkpoint::open(job.output), false, scratch);  // read back what users will read
  if (as_float) measure("migrated", *make_float_model(exported));
  if (!job.eval || as_float) return report;
  std::unique_ptr<ForwardModel> integer;
  try {
    integer = lower(exported, ctx);
  } catch (const Error& e) {
    if (e.code() != ErrorCode::kUnsupported) throw;
    log(LogLevel::kWarning, std::string("no integer engine for this scheme: ") + e.what());
    return report;
  }
  measure("integer", *integer);
  return report;
}

}  // namespace quell
