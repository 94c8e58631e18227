#include "quell/train_job/train_job.h"

#include <algorithm>
#include <chrono>
#include <set>

#include "quell/base/build_id.h"
#include "quell/base/cpu_features.h"
#include "quell/base/error.h"
#include "quell/base/log.h"
#include "quell/engine/lower.h"
#include "quell/eval/metrics.h"
#include "quell/exporting/compressed_tensors.h"
#include "quell/exporting/float_checkpoint.h"
#include "quell/io/json.h"
#include "quell/io/mapped_file.h"
#include "quell/io/output_file.h"
#include "quell/io/output_path.h"
#include "quell/io/tensor_hash.h"
#include "quell/job/export_message.h"
#include "quell/job/outputs.h"
#include "quell/train/build_id.h"
#include "quell/train/deploy.h"
#include "quell/train/deployment_check.h"
#include "quell/train/shallow.h"
#include "quell/train/torch_forward.h"
#include "quell/train/trainer.h"
#include "quell/train_job/start_model.h"

namespace quell::train {
namespace fs = std::filesystem;
namespace {

/// Sequences that the written file is compared with training on, and tokens a batch of them.
constexpr std::size_t kComparedSequences = 64;
constexpr std::int64_t kComparedTokens = 1024;
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

void add_model(const Model& model, TensorHash& hash) {
  hash.add(model.config->dump());
  for (const Param& p : model.params) {
    hash.add(p.weight);
    hash.add(p.bias);
    for (const Tensor& v : p.vectors) hash.add(v);
  }
}

/// What the bytes of the run depend on.
RunKey key_of(const TrainJob& job, const TrainingSet& set, const Model& student,
              const Model* teacher, const ExecContext& ctx) {
  TensorHash models;
  add_model(student, models);
  if (teacher) add_model(*teacher, models);
  TensorHash held_out;
  if (!job.eval_data.file.empty())
    held_out.add(read_text_file(job.eval_data.file) + str(" ", job.eval_limit));

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

void check_terms(const TrainJob& job) {
  for (const TermChoice& term : job.recipe.objective) {
    const TermFactory& factory = term_factory(term.method.name());
    require(!factory.needs_teacher || !job.teacher_dir.empty(), ErrorCode::kUsage, "recipe ",
            job.recipe.name, ": term \"", factory.name,
            "\" learns from a teacher; use quell distill");
    require(!factory.needs_labels || job.unlabelled.empty(), ErrorCode::kUsage,
            "--unlabelled: term \"", factory.name, "\" of recipe ", job.recipe.name,
            " learns from labels, which these rows do not have");
  }
}

Model make_student(const TrainJob& job, const TrainTask& task) {
  const StartChoice choice{.directory = job.model_dir,
                           .random_weights = job.random_weights,
                           .num_labels = job.num_labels,
                           .count_labels = [&] { return count_classes(task, job.data); },
                           .seed = job.seed};
  Model start = load_start(choice, task);
  require(job.layers > 0 || job.layer_map.empty(), ErrorCode::kUsage,
          "--layer-map: goes with --layers");
  return job.layers > 0 ? make_shallow_student(start, job.layers, job.layer_map) : std::move(start);
}

/// Which layers of the teacher the student's stand beside.
LayerMap layers_of(const TrainJob& job, const Model& student, const Model* teacher) {
  if (!teacher) return {};
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

/// Some rows, in batches as training pads them.
std::vector<TokenBatch> compared_batches(const TrainingSet& set) {
  const TrainingData data(set, {.batch_size = 1, .seed = 0, .fixed_batches = true});
  std::vector<TokenBatch> out;
  std::vector<std::size_t> rows;
  std::int64_t tokens = 0;
  const std::size_t count = std::min(kComparedSequences, set.sequences.size());
  for (std::size_t row = 0; row < count; ++row) {
    rows.push_back(row);
    tokens += std::ssize(set.sequences[row].ids);
    if (tokens < kComparedTokens && row + 1 < count) continue;
    out.push_back(data.tokens_of(rows));
    rows.clear();
    tokens = 0;
  }
  return out;
}

/// How often two models give the same label, in per cent; and how far their outputs are apart.
struct Agreement {
  std::int64_t labels = 0;  ///< 0: the models give numbers, which are no labels
  std::int64_t same = 0;
  double distance = 0;

  double percent() const { return 100 * static_cast<double>(same) / static_cast<double>(labels); }
  std::string text() const {
    const std::string apart = format_text("logits differ by at most %.2e", distance);
    if (labels == 0) return apart;
    return format_text("%.2f %% of %lld labels are the same, ", percent(),
                       static_cast<long long>(labels)) +
           apart;
  }
};

Agreement agreement_of(const ForwardModel& a, const ForwardModel& b,
                       const std::vector<TokenBatch>& batches, ExecContext& ctx) {
  Agreement out;
  for (const TokenBatch& batch : batches) {
    ForwardOutputs of_a, of_b;
    a.forward(batch, of_a, ctx);
    b.forward(batch, of_b, ctx);
    const Tensor& x = of_a.values.at("logits");
    const Tensor& y = of_b.values.at("logits");
    for (std::int64_t r = 0; r < x.rows(); ++r) {
      const std::span<const float> row(x.row(r), static_cast<std::size_t>(x.cols()));
      const std::span<const float> other(y.row(r), static_cast<std::size_t>(y.cols()));
      for (std::size_t c = 0; c < row.size(); ++c)
        out.distance = std::max<double>(out.distance, std::abs(row[c] - other[c]));
      if (row.size() == 1) continue;
      ++out.labels;
      out.same += argmax(row) == argmax(other) ? 1 : 0;
    }
  }
  return out;
}

bool same_bytes(const ForwardModel& a, const ForwardModel& b, const TokenBatch& batch,
                ExecContext& ctx) {
  ForwardOutputs of_a, of_b;
  a.forward(batch, of_a, ctx);
  b.forward(batch, of_b, ctx);
  const auto x = of_a.values.at("logits").f32();
  const auto y = of_b.values.at("logits").f32();
  return std::equal(x.begin(), x.end(), y.begin(), y.end());
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
    layers_ = layers_of(job, student_model_, teacher_model_ ? &*teacher_model_ : nullptr);
    const TermSetting setting{*student_, teacher_ ? &*teacher_ : nullptr, layers_, set_.kind};
    objective_.emplace(job.recipe.objective, setting);
  }

  TrainingResult train(const fs::path& directory) {
    RunDirectory run(directory, key_);
    const BatchOrder order{.batch_size = job_.recipe.batch_size,
                           .seed = job_.seed,
                           .fixed_batches = job_.cache_teacher};
    const TrainingData data(set_, order);
    std::optional<TeacherCache> cache;
    if (job_.cache_teacher && teacher_) cache.emplace(directory / "teacher");

    const TrainerOptions options{.seed = job_.seed,
                                 .checkpoint_every = job_.checkpoint_every,
                                 .log_every = job_.log_every,
                                 .diagnostics = job_.diagnostics,
                                 .allow_drift = job_.allow_drift};
    Trainer trainer(job_.recipe, options,
                    {*student_, *quantizers_, *objective_, data, teacher_ ? &*teacher_ : nullptr,
                     cache ? &*cache : nullptr});
    log(LogLevel::kInfo, str("training ", trainer.total_steps(), " steps on ",
                             set_.sequences.size(), " rows; kept in ", directory.string(),
                             "; should this run be stopped, run the same command to go on"));

    ProgressLines lines;
    TrainerHooks hooks;
    hooks.progress = [&](std::int64_t step, std::int64_t total, double loss, double rate) {
      lines.step(step, total, loss, rate);
    };
    if (held_out_) hooks.evaluate = [this] { return evaluate_student(); };
    return trainer.run(run, hooks);
  }

  /// Writes the model, reads it back and compares.
  void finish(const TrainingResult& result, const fs::path& directory, Report& report) {
    const TorchForward trained(*student_);
    if (held_out_ && teacher_model_)
      report.add("teacher", job_.task,
                 held_out_->measure(*make_float_model(*teacher_model_), ctx_));
    if (held_out_) report.add("trained", job_.task, held_out_->measure(trained, ctx_));

    const bool quantized = !quantizers_->empty();
    Json notes = {{"recipe", canonical_text(job_.recipe)},
                  {"steps", result.steps},
                  {"best_step", result.best_step}};
    const ExportSummary summary = write_model(quantized);
    const Model read = load_model(Checkpoint::open(job_.output));
    std::string failure;
    if (quantized)
      failure = compare_quantized(read, trained, report, notes);
    else if (held_out_)
      report.add("float", job_.task, held_out_->measure(*make_float_model(read), ctx_));

    keep_records(directory, notes, report);
    log(LogLevel::kInfo, "wrote " + job_.output.string() + " (recipe " + job_.recipe.name + ", " +
                             bytes_text(summary.total()) + ")");
    require(failure.empty(), ErrorCode::kVerification, job_.output.string(), ": ", failure);
  }

 private:
  void read_rows() {
    RowChoice rows{.data = job_.data,
                   .limit = job_.limit,
                   .max_seq_length = std::min(job_.recipe.max_seq_length,
                                              student_model_.spec.max_position_embeddings)};
    set_ = read_training_set(task_, rows, student_model_);
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

  ExportSummary write_model(bool quantized) {
    if (quantized) {
      deploy(*student_, *quantizers_, student_model_);
      return export_compressed_tensors(student_model_, job_.output, job_.replace_output);
    }
    student_->parameters().write_to(student_model_);
    return export_float_checkpoint(student_model_, job_.output, job_.replace_output);
  }

  /// What is wrong with the file; "": nothing.
  std::string compare_quantized(const Model& read, const TorchForward& trained, Report& report,
                                Json& notes) {
    const std::vector<TokenBatch> batches = compared_batches(set_);
    const auto exact = make_simulated_model(read, true, ctx_.isa);
    const auto integer = lower(read, ctx_);
    if (held_out_) report.add("integer", job_.task, held_out_->measure(*integer, ctx_));

    const DeploymentCheck check = check_deployment(*student_, *quantizers_, read, batches, ctx_);
    const Agreement agreement = agreement_of(trained, *integer, batches, ctx_);
    const bool engines_agree = std::all_of(
        batches.begin(), batches.end(),
        [&](const TokenBatch& batch) { return same_bytes(*exact, *integer, batch, ctx_); });
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

  /// Metrics and notes go with the model; what only a stopped run needs goes away.
  void keep_records(const fs::path& directory, Json notes, const Report& report) {
    std::error_code error;
    const fs::path records = job_.output / "training";
    fs::create_directories(records, error);
    require(!error, ErrorCode::kIo, records.string(), ": cannot be made: ", error.message());
    notes["results"] = report.to_json().at("results");
    write_text_file(records / "metrics.jsonl", read_text_file(directory / "metrics.jsonl"));
    write_text_file(records / "run.json", notes.dump(2) + "\n");
    fs::remove_all(directory, error);
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

fs::path check_output(const TrainJob& job) {
  const fs::path output = resolve_output(job.output);
  keep_input_folders(job.output, {job.model_dir.path(), job.teacher_dir.path()});
  std::vector<fs::path> files = job.unlabelled;
  files.insert(files.end(), {job.data.file, job.eval_data.file});
  keep_inputs(job.output, files);
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
  const OutputLock lock(job.output);  // of the run beside it too
  {
    const OutputDirectory probe(job.output, job.replace_output);
  }  // an unwritable output must not cost a training run

  torch::set_num_threads(ctx.pool.num_threads());
  const fs::path directory = run_directory_beside(job.output);
  TrainRun run(job, task, ctx);
  const TrainingResult result = run.train(directory);

  Report report;
  run.finish(result, directory, report);
  return report;
}

}  // namespace quell::train
