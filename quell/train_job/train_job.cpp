#include "quell/train_job/train_job.h"

#include <dlfcn.h>

#include <algorithm>
#include <chrono>
#include <set>

#include "quell/base/build_id.h"
#include "quell/base/cpu_features.h"
#include "quell/base/error.h"
#include "quell/base/log.h"
#include "quell/engine/lower.h"
#include "quell/exporting/compressed_tensors.h"
#include "quell/exporting/float_checkpoint.h"
#include "quell/io/json.h"
#include "quell/io/mapped_file.h"
#include "quell/io/output_file.h"
#include "quell/io/output_path.h"
#include "quell/io/tensor_hash.h"
#include "quell/job/export_message.h"
#include "quell/job/outputs.h"
#include "quell/model/model_hash.h"
#include "quell/model/text_encoder.h"
#include "quell/train/build_id.h"
#include "quell/train/deploy.h"
#include "quell/train/deployment_check.h"
#include "quell/train/shallow.h"
#include "quell/train/torch_forward.h"
#include "quell/train/trainer.h"
#include "quell/train_job/engine_comparison.h"
#include "quell/train_job/start_model.h"

namespace quell::train {
namespace fs = std::filesystem;
namespace {

/// Of the largest logit: two orders of summation in f32.
constexpr double kLargestFloatDistance = 1e-3;
constexpr std::chrono::seconds kBetweenLines(10);

std::string hash_of(const TrainingSet& set) {
  TensorHash hash;
  hash.add(str(static_cast<int>(set.kind), " ", set.pad_id, " ", set.decoder_start_id, " ",
               set.mask_id, " ", set.vocabulary, " ", set.masked_share));
  const auto add = [&](const std::vector<TokenSequence>& sequences) {
    for (const TokenSequence& s : sequences) {
      hash.add(s.ids);
      hash.add(s.type_ids);
    }
  };
  add(set.sequences);
  add(set.targets);
  hash.add(set.labels.data(), set.labels.size() * sizeof(double));
  hash.add(set.special_ids);
  return hash.text();
}

std::string columns_text(const ColumnChoice& columns) {
  std::string text = " label " + columns.label;
  for (const std::string& column : columns.text) text += " text " + column;
  for (const std::string& name : columns.label_names) text += " class " + name;
  return text;
}

/// What the bytes of the run depend on.
RunKey key_of(const TrainJob& job, const TrainingSet& set, const Model& student,
              const Model* teacher, const ExecContext& ctx) {
  TensorHash models;
  add_model(student, models);
  if (teacher) add_model(*teacher, models);
  TensorHash held_out;
  if (!job.eval_data.file.empty())
    held_out.add(read_text_file(job.eval_data.file) + str(" ", job.eval_limit) +
                 columns_text(job.eval_data.columns));

  RunKey key;
  key["recipe"] = canonical_text(job.recipe);
  key["data"] = job.task + " " + hash_of(set) + " " + held_out.text();
  key["start"] = models.text();
  key["options"] =
      str("seed ", job.seed, ", layer map \"", job.layer_map, "\", log every ", job.log_every,
          job.diagnostics ? ", diagnostics" : "", job.cache_teacher ? ", teacher kept" : "");
  key["threads"] = std::to_string(ctx.pool.num_threads());
  key["isa"] = str(isa_name(ctx.isa), ", ", processor_name());
  key["build"] = str(quell::build_id(), " ", build_id(), ", torch " TORCH_VERSION);
  return key;
}

void check_teacher(const Model& student, const Model& teacher) {
  require(student.spec.vocab_size == teacher.spec.vocab_size, ErrorCode::kInvalidInput,
          teacher.dir.string(), ": the teacher has a vocabulary of ", teacher.spec.vocab_size,
          " tokens, the student one of ", student.spec.vocab_size,
          "; both read the same tokens, so that they must be the same");
}

bool has_tokenizer(const Model& model) {
  try {
    open_tokenizer(model);
    return true;
  } catch (const Error&) {
    return false;
  }
}

/// Both sides read the ids that the student's tokenizer makes.
void check_tokenizers(const TrainJob& job, const TrainTask& task, const RowChoice& asked,
                      const TrainingSet& of_student, const Model& teacher) {
  constexpr std::int64_t kComparedRows = 64;
  if (job.model_dir.path() == job.teacher_dir.path() || !has_tokenizer(teacher)) return;

  RowChoice rows = asked;
  rows.limit = rows.limit > 0 ? std::min(rows.limit, kComparedRows) : kComparedRows;
  const TrainingSet of_teacher = read_training_set(task, rows, teacher);
  const std::size_t count = std::min(of_teacher.sequences.size(), of_student.sequences.size());
  for (std::size_t i = 0; i < count; ++i)
    require(of_teacher.sequences[i].ids == of_student.sequences[i].ids, ErrorCode::kInvalidInput,
            teacher.dir.string(), ": the teacher's tokenizer gives other ids for row ", i + 1,
            " of --data than the student's (", job.model_dir.string(),
            "); both must have the same vocabulary");
}

void check_terms(const TrainJob& job) {
  bool has_teacher_term = false;
  for (const TermChoice& term : job.recipe.objective) {
    const TermFactory& factory = term_factory(term.method.name());
    require(!factory.needs_teacher || !job.teacher_dir.empty(), ErrorCode::kUsage, "recipe ",
            job.recipe.name, ": term \"", factory.name,
            "\" learns from a teacher; use quell distill");
    require(!factory.needs_labels || job.unlabelled.empty(), ErrorCode::kUsage,
            "--unlabelled: term \"", factory.name, "\" of recipe ", job.recipe.name,
            " learns from labels, which these rows do not have");
    has_teacher_term |= factory.needs_teacher;
  }
  const bool makes_a_student = has_teacher_term || job.recipe.quantizers.any() || job.layers > 0;
  require(job.teacher_dir.empty() || makes_a_student, ErrorCode::kUsage, "recipe ", job.recipe.name,
          " learns nothing from a teacher and quantizes nothing; use quell train");
  require(has_teacher_term || !job.cache_teacher, ErrorCode::kUsage, "--cache-teacher: recipe ",
          job.recipe.name, " learns nothing from a teacher");
}

/// Options that would change nothing.
void check_options(const TrainJob& job) {
  const bool has_eval = !job.eval_data.file.empty();
  require(has_eval || job.eval_limit == 0, ErrorCode::kUsage, "--eval-limit: needs --eval-data");
  require(has_eval || !job.diagnostics, ErrorCode::kUsage,
          "--diagnostics: are taken at evaluations; needs --eval-data");
  const bool uses_map = job.layers > 0 || !job.teacher_dir.empty();
  require(uses_map || job.layer_map.empty(), ErrorCode::kUsage,
          "--layer-map: goes with --layers, or names the teacher's layers for --student");
}

Model make_student(const TrainJob& job, const TrainTask& task) {
  const StartChoice choice{.directory = job.model_dir,
                           .random_weights = job.random_weights,
                           .num_labels = job.num_labels,
                           .new_head = job.new_head,
                           .count_labels = [&] { return count_classes(task, job.data); },
                           .seed = job.seed};
  Model start = load_start(choice, task);
  return job.layers > 0 ? make_shallow_student(start, job.layers, job.layer_map) : std::move(start);
}

/// Which layers of the teacher the student's stand beside.
LayerMap layers_of(const TrainJob& job, const Model& student, const Model* teacher) {
  if (!teacher) return {};
  // A deeper student has no layers spread over it. Terms that compare layers say what they lack.
  bool is_deeper = false;
  const std::size_t stacks = std::min(student.graph.stacks.size(), teacher->graph.stacks.size());
  for (std::size_t s = 0; s < stacks; ++s)
    is_deeper |= student.graph.stacks[s].layers > teacher->graph.stacks[s].layers;
  if (is_deeper && job.layer_map.empty()) return {};
  return make_layer_map(student.graph, teacher->graph, job.layer_map);
}

Evaluation evaluation_of(const HeldOut& held_out, const std::vector<MetricResult>& results) {
  Evaluation out;
  for (const MetricResult& result : results) out.metrics.emplace_back(result.metric, result.value);
  out.score = held_out.score(results);
  return out;
}

/// Says now and then how far training is.
class ProgressLines {
 public:
  void step(std::int64_t done, std::int64_t total, double loss, double rate) {
    const auto now = std::chrono::steady_clock::now();
    if (first_ < 0) {
      first_ = done;
      start_ = now;
      last_ = now;
    }
    if (done < total && now - last_ < kBetweenLines) return;
    last_ = now;

    const double spent = std::chrono::duration<double>(now - start_).count();
    const auto timed = static_cast<double>(done - first_);
    const double left = timed > 0 ? spent / timed * static_cast<double>(total - done) : 0;
    log(LogLevel::kInfo,
        format_text("step %lld of %lld: loss %.4f, learning rate %.2e, %.0f s left",
                    static_cast<long long>(done), static_cast<long long>(total), loss, rate, left));
  }

 private:
  std::int64_t first_ = -1;  ///< the first step of this process, which is not timed
  std::chrono::steady_clock::time_point start_, last_;
};

/// Gives a complete model its name. It lies beside it, so that nothing is copied.
void publish(const fs::path& model, const fs::path& output, bool replace) {
  OutputDirectory directory(output, replace);
  for (const fs::directory_entry& entry : fs::directory_iterator(model)) {
    const fs::path to = directory.staging() / entry.path().filename();
    std::error_code error;
    fs::rename(entry.path(), to, error);
    if (error) fs::copy(entry.path(), to, fs::copy_options::recursive, error);
    require(!error, ErrorCode::kIo, output.string(), ": cannot be written: ", error.message());
  }
  directory.commit();
}

/// What a run learned, and everything it was made of.
class TrainRun {
 public:
  TrainRun(const TrainJob& job, const TrainTask& task, ExecContext& ctx)
      : job_(job), task_(task), ctx_(ctx), student_model_(make_student(job, task)) {
    if (!job.teacher_dir.empty()) {
      teacher_model_.emplace(load_teacher(job.teacher_dir, task));
      check_teacher(student_model_, *teacher_model_);
      teacher_.emplace(*teacher_model_);
    }
    read_rows();
    job.model_dir.check_accepted();

    key_ = key_of(job, set_, student_model_, teacher_model_ ? &*teacher_model_ : nullptr, ctx);
    student_.emplace(student_model_);
    student_->set_dropout(dropout_points(student_model_.graph, job.recipe.dropout));
    quantizers_.emplace(job.recipe.quantizers, student_model_, *student_);
    check_deployable(*quantizers_, *student_);
    layers_ = layers_of(job, student_model_, teacher_model_ ? &*teacher_model_ : nullptr);
    const TermSetting setting{*student_, teacher_ ? &*teacher_ : nullptr, layers_, set_.kind};
    objective_.emplace(job.recipe.objective, setting);
  }

  TrainingResult train(RunDirectory& run) {
    const BatchOrder order{.batch_size = job_.recipe.batch_size,
                           .seed = job_.seed,
                           .fixed_batches = job_.cache_teacher};
    const TrainingData data(set_, order);
    std::optional<TeacherCache> cache;
    if (job_.cache_teacher && teacher_) cache.emplace(run.teacher_directory());

    const TrainerOptions options{.seed = job_.seed,
                                 .checkpoint_every = job_.checkpoint_every,
                                 .log_every = job_.log_every,
                                 .diagnostics = job_.diagnostics,
                                 .allow_drift = job_.allow_drift};
    Trainer trainer(job_.recipe, options,
                    {*student_, *quantizers_, *objective_, data, teacher_ ? &*teacher_ : nullptr,
                     cache ? &*cache : nullptr});
    log(LogLevel::kInfo, str("training ", trainer.total_steps(), " steps on ",
                             set_.sequences.size(), " rows; kept in ", run.path().string(),
                             "; should this run be stopped, run the same command to go on"));

    ProgressLines lines;
    TrainerHooks hooks;
    hooks.progress = [&](std::int64_t step, std::int64_t total, double loss, double rate) {
      lines.step(step, total, loss, rate);
    };
    if (held_out_) hooks.evaluate = [this] { return evaluate_student(); };
    return trainer.run(run, hooks);
  }

  const RunKey& key() const { return key_; }

  /// Writes the model beside the run, reads it back and compares; then it gets its name.
  void finish(const TrainingResult& result, RunDirectory& run, Report& report) {
    const TorchForward trained(*student_);
    if (held_out_ && teacher_model_)
      report.add("teacher", job_.task,
                 held_out_->measure(*make_float_model(*teacher_model_), ctx_));
    if (held_out_) report.add("trained", job_.task, held_out_->measure(trained, ctx_));

    const bool quantized = !quantizers_->empty();
    Json notes = {{"recipe_name", job_.recipe.name},
                  {"task", job_.task},
                  {"data", job_.data.file.string()},
                  {"eval_data", job_.eval_data.file.string()},
                  {"start", job_.model_dir.string()},
                  {"teacher", job_.teacher_dir.path().string()},
                  {"layers", job_.layers},
                  {"layer_map", job_.layer_map},
                  {"seed", job_.seed},
                  {"key", key_},
                  {"recipe", canonical_text(job_.recipe)},
                  {"steps", result.steps},
                  {"best_step", result.best_step}};
    const fs::path written = run.model_directory();
    const ExportSummary summary = write_model(quantized, written);
    const Model read = load_model(Checkpoint::open(written));
    std::string failure;
    if (quantized)
      failure = compare_quantized(read, trained, report, notes);
    else
      failure = compare_float(read, trained, report);

    require(failure.empty(), ErrorCode::kVerification, job_.output.string(),
            ": is not written: the model, kept in ", written.string(), ", ", failure);
    keep_records(run, written, notes, report);
    publish(written, job_.output, job_.replace_output);
    run.remove();
    log(LogLevel::kInfo, "wrote " + job_.output.string() + " (recipe " + job_.recipe.name + ", " +
                             bytes_text(summary.total()) + ")");
  }

 private:
  void read_rows() {
    std::int64_t positions = student_model_.spec.max_position_embeddings;
    if (teacher_model_)
      positions = std::min(positions, teacher_model_->spec.max_position_embeddings);
    RowChoice rows{.data = job_.data,
                   .limit = job_.limit,
                   .max_seq_length = std::min(job_.recipe.max_seq_length, positions)};
    set_ = read_training_set(task_, rows, student_model_);
    if (teacher_model_) check_tokenizers(job_, task_, rows, set_, *teacher_model_);
    add_unlabelled_rows(job_.unlabelled, job_.data.columns, rows.max_seq_length, student_model_,
                        set_);
    if (job_.eval_data.file.empty()) return;
    rows.data = job_.eval_data;
    rows.limit = job_.eval_limit;
    held_out_.emplace(task_, rows, student_model_);
  }

  Evaluation evaluate_student() {
    const std::vector<MetricResult> results = held_out_->measure(TorchForward(*student_), ctx_);
    Evaluation out = evaluation_of(*held_out_, results);
    std::string text;
    for (const auto& [name, value] : out.metrics)
      text += (text.empty() ? "" : ", ") + format_text("%s %.4g", name.c_str(), value);
    log(LogLevel::kInfo, "held-out rows: " + text);
    return out;
  }

  ExportSummary write_model(bool quantized, const fs::path& to) {
    constexpr bool kReplace = true;  // of a run that was stopped just here
    if (quantized) {
      deploy(*student_, *quantizers_, student_model_);
      return export_compressed_tensors(student_model_, to, kReplace);
    }
    student_->parameters().write_to(student_model_);
    return export_float_checkpoint(student_model_, to, kReplace);
  }

  /// What is wrong with a file of floats; "": nothing.
  std::string compare_float(const Model& read, const TorchForward& trained, Report& report) {
    const auto engine = make_float_model(read);
    if (held_out_) report.add("float", job_.task, held_out_->measure(*engine, ctx_));

    const EngineComparison same =
        compare_engines(trained, *engine, nullptr, logit_rows(), compared_batches(set_), ctx_);
    log(LogLevel::kInfo, "the file read back, beside training: " + same.agreement.text());
    const bool agrees =
        same.agreement.distance <= kLargestFloatDistance * std::max(1.0, same.agreement.magnitude);
    return agrees ? "" : "does not compute what was trained: " + same.agreement.text();
  }

  LogitRows logit_rows() const {
    return {"logits", TermSetting{*student_, nullptr, layers_, set_.kind}};
  }

  /// What is wrong with the file; "": nothing.
  std::string compare_quantized(const Model& read, const TorchForward& trained, Report& report,
                                Json& notes) {
    const std::vector<TokenBatch> batches = compared_batches(set_);
    const auto exact = make_simulated_model(read, true, ctx_.isa);
    const auto integer = lower(read, ctx_);
    if (held_out_) report.add("integer", job_.task, held_out_->measure(*integer, ctx_));

    const DeploymentCheck check = check_deployment(*student_, *quantizers_, read, batches, ctx_);
    const auto [agreement, engines_agree] =
        compare_engines(trained, *integer, exact.get(), logit_rows(), batches, ctx_);
    log(LogLevel::kInfo, "the file read back, on " + std::to_string(batches.size()) +
                             " batches of training rows: " + check.text());
    log(LogLevel::kInfo, "integer engine beside training: " + agreement.text() +
                             "; simulated-exact and integer engine give " +
                             (engines_agree ? "the same" : "DIFFERENT") + " bytes");
    notes["deployment"] = {{"codes", check.codes},
                           {"differing", check.differing},
                           {"share", check.share()},
                           {"by_more_than_one", check.by_more_than_one},
                           {"away_from_ties", check.away_from_ties},
                           {"rows", check.rows},
                           {"row_distance", check.row_distance},
                           {"labels", agreement.labels},
                           {"logit_distance", agreement.distance},
                           {"engines_agree", engines_agree}};
    if (agreement.labels > 0) notes["deployment"]["label_agreement"] = agreement.percent();
    if (!engines_agree) return "the integer engine gives other bytes than simulated-exact";
    if (!check.passes()) return "does not compute what was trained: " + check.text();
    return "";
  }

  /// Metrics and notes go with the model.
  static void keep_records(const RunDirectory& run, const fs::path& model, Json notes,
                           const Report& report) {
    std::error_code error;
    const fs::path records = model / "training";
    fs::create_directories(records, error);
    require(!error, ErrorCode::kIo, records.string(), ": cannot be made: ", error.message());
    notes["results"] = report.to_json().at("results");
    write_text_file(records / "metrics.jsonl", read_text_file(run.metrics_file()));
    write_text_file(records / "run.json", notes.dump(2) + "\n");
  }

  const TrainJob& job_;
  const TrainTask& task_;
  ExecContext& ctx_;
  Model student_model_;
  std::optional<Model> teacher_model_;
  TrainingSet set_;
  std::optional<HeldOut> held_out_;
  RunKey key_;
  std::optional<TorchModel> student_;
  std::optional<TorchModel> teacher_;
  std::optional<StudentQuantizers> quantizers_;
  LayerMap layers_;
  std::optional<Objective> objective_;
};

/// Of libtorch and of OpenBLAS, which it multiplies with and which counts its threads itself: how
/// many there are can change the last bits of a product.
void set_threads(int threads) {
  torch::set_num_threads(threads);
  using SetThreads = void (*)(int);
  const auto of_blas =
      reinterpret_cast<SetThreads>(::dlsym(RTLD_DEFAULT, "openblas_set_num_threads"));
  if (of_blas) of_blas(threads);
}

fs::path check_output(const TrainJob& job) {
  const fs::path output = resolve_output(job.output);
  std::vector<fs::path> files = job.unlabelled;
  files.insert(files.end(), {job.data.file, job.eval_data.file});
  for (const fs::path& written : {job.output, run_directory_beside(job.output)}) {
    keep_input_folders(written, {job.model_dir.path(), job.teacher_dir.path()});
    keep_inputs(written, files);
  }
  return output;
}

}  // namespace

fs::path run_directory_beside(const fs::path& output) {
  return resolve_output(output).string() + ".training";
}

Report run_train_job(const TrainJob& asked, ExecContext& ctx) {
  TrainJob job = asked;
  job.output = check_output(asked);
  const TrainTask& task = find_train_task(job.task);
  check_terms(job);
  check_options(job);
  const fs::path directory = run_directory_beside(job.output);
  const OutputLock lock(job.output);
  const OutputLock lock_of_run(directory);  // which another command may name as its output
  {
    const OutputDirectory probe(job.output, job.replace_output);
  }  // an unwritable output must not cost a training run

  set_threads(ctx.pool.num_threads());
  TrainRun run(job, task, ctx);
  RunDirectory kept(directory, run.key());
  const TrainingResult result = run.train(kept);

  Report report;
  run.finish(result, kept, report);
  return report;
}

}  // namespace quell::train
