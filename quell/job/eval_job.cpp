#include "quell/job/eval_job.h"

#include <algorithm>

#include "quell/base/error.h"
#include "quell/engine/generate.h"
#include "quell/eval/image_classification.h"
#include "quell/eval/lane_detection.h"
#include "quell/eval/rouge.h"
#include "quell/io/json.h"
#include "quell/job/engine.h"
#include "quell/text/data/text_file.h"
#include "quell/vision/preprocessor_config.h"

namespace quell {
namespace {

/// Summaries are generated, so this task needs more than a forward pass.
std::vector<MetricResult> evaluate_summaries(const ForwardModel& model, const EvalJob& job,
                                             ExecContext& ctx) {
  const Tokenizer tokenizer = Tokenizer::open(job.model_dir);
  const std::vector<Json> rows = read_json_rows(job.data.file);
  const std::string document_key =
      job.data.columns.text.empty() ? "document" : job.data.columns.text.front();
  const std::string summary_key =
      job.data.columns.label.empty() ? "summary" : job.data.columns.label;
  const ModelSpec& spec = model.model().spec;
  const std::int64_t context =
      std::min<std::int64_t>(job.options.max_seq_length > 0 ? job.options.max_seq_length : 1024,
                             spec.max_position_embeddings);
  GenerateOptions options;
  options.max_new_tokens = job.max_new_tokens;
  options.settings = read_generation_settings(job.model_dir);
  job.model_dir.check_accepted();
  RougeScores sum;
  const auto begin = static_cast<std::size_t>(job.options.skip);
  const std::size_t end =
      job.options.limit > 0
          ? std::min(rows.size(), begin + static_cast<std::size_t>(job.options.limit))
          : rows.size();
  require(begin < end, ErrorCode::kInvalidInput, job.data.file.string(),
          ": no rows left to evaluate");
  for (std::size_t i = begin; i < end; ++i) {
    const std::string document = json_string(rows[i], document_key, ""),
                      summary = json_string(rows[i], summary_key, "");
    require(!document.empty() && !summary.empty(), ErrorCode::kInvalidInput, job.data.file.string(),
            ": row ", i + 1, " lacks \"", document_key, "\" or \"", summary_key, '"');
    const std::vector<TokenSequence> sequence = {
        {tokenizer.encode(document, {.max_length = context}).ids, {}, {}}};
    const std::size_t first = 0;
    const auto tokens =
        generate(model, make_batch(sequence, {&first, 1}, spec.pad_token_id), options, ctx);
    const RougeScores r = rouge(summary, tokenizer.decode(tokens.front()));
    sum = {sum.rouge1 + r.rouge1, sum.rouge2 + r.rouge2, sum.rouge_l + r.rouge_l};
    ctx.progress("summarize", static_cast<std::int64_t>(i - begin + 1),
                 static_cast<std::int64_t>(end - begin));
  }
  const auto n = static_cast<std::int64_t>(end - begin);
  const double factor = 100.0 / static_cast<double>(n);
  return {{"rouge1", factor * sum.rouge1, n},
          {"rouge2", factor * sum.rouge2, n},
          {"rougeL", factor * sum.rouge_l, n}};
}

/// The float model that others are compared with.
class FloatReference {
 public:
  explicit FloatReference(const EvalJob& job) {
    if (job.reference_dir.empty()) return;
    const std::vector<std::string> accepted = job.model_dir.accepted().keys();
    model_.emplace(load_model(Checkpoint::open(ModelDirectory(job.reference_dir, accepted))));
    engine_ = make_float_model(*model_);
  }
  /// Null where there is none.
  const ForwardModel* engine() const { return engine_.get(); }

 private:
  std::optional<Model> model_;
  std::unique_ptr<ForwardModel> engine_;
};

bool is_image_task(const std::string& task) {
  return task == kImageClassification || task == kLaneDetection;
}

/// Before files are looked for that only the other kind of model has.
void check_task_of(const Model& model, const EvalJob& job) {
  const bool of_images = is_image_task(job.options.task);
  if (model.reads_images() == of_images) return;
  throw Error(ErrorCode::kUsage,
              str("--task ", job.options.task, ": ", job.model_dir.string(),
                  of_images ? str(" reads text, not images")
                            : str(" reads images, not text; measure ", kImageClassification, " or ",
                                  kLaneDetection)));
}

std::vector<MetricResult> evaluate_image_folder(const ForwardModel& model, const EvalJob& job,
                                                ExecContext& ctx) {
  const EvalImages images =
      open_eval_images(job.data, job.image_labels, job.model_dir, job.options);
  job.model_dir.check_accepted();

  const FloatReference reference(job);
  ImageReference beside{.model = reference.engine()};
  return evaluate_images(model, beside.model ? &beside : nullptr, images.set, ctx);
}

std::vector<MetricResult> evaluate_frames(const ForwardModel& model, const EvalJob& job,
                                          ExecContext& ctx) {
  const std::vector<LabelledFrame> frames = read_lane_labels(job.data.file);
  const LaneEvalSet set{.frames = frames,
                        .steps = read_preprocessing(job.model_dir),
                        .skip = job.options.skip,
                        .limit = job.options.limit};
  job.model_dir.check_accepted();

  const FloatReference reference(job);
  return evaluate_lanes(model, reference.engine(), set, ctx);
}

}  // namespace

EvalImages open_eval_images(const DataChoice& data, const std::filesystem::path& labels,
                            const ModelDirectory& model_dir, const EvalOptions& options) {
  auto source = open_images({.images = data.file, .labels = labels});
  const ImageEvalSet set{.images = *source,
                         .steps = read_preprocessing(model_dir),
                         .skip = options.skip,
                         .limit = options.limit};
  return {std::move(source), set};
}

std::vector<std::string> eval_task_names() {
  std::vector<std::string> names = task_names();
  names.emplace_back(kSummarization);
  names.emplace_back(kImageClassification);
  names.emplace_back(kLaneDetection);
  return names;
}

Report run_eval_job(const EvalJob& job, ExecContext& ctx) {
  require(job.data.columns.text.empty() || data_ending(job.data.file) != ".txt", ErrorCode::kUsage,
          "--text-column: a .txt file holds lines of text, which have no columns");
  const Model model = load_model(Checkpoint::open(job.model_dir));
  check_task_of(model, job);
  const std::string engine_name = !job.engine.empty()    ? job.engine
                                  : model.is_quantized() ? "integer"
                                                         : "float";
  Report report;
  if (job.options.task == kSummarization) {
    const auto engine = make_engine(engine_name, model, ctx);
    report.add(engine_name, job.options.task, evaluate_summaries(*engine, job, ctx));
    return report;
  }
  if (job.options.task == kImageClassification) {
    const auto engine = make_engine(engine_name, model, ctx);
    report.add(engine_name, job.options.task, evaluate_image_folder(*engine, job, ctx));
    return report;
  }
  if (job.options.task == kLaneDetection) {
    const auto engine = make_engine(engine_name, model, ctx);
    report.add(engine_name, job.options.task, evaluate_frames(*engine, job, ctx));
    return report;
  }

  const EvalSet set = load_eval_set(job.options, job.data, model);
  job.model_dir.check_accepted();
  const auto engine = make_engine(engine_name, model, ctx);
  const FloatReference reference(job);
  Reference compared{.model = reference.engine()};
  report.add(engine_name, job.options.task,
             evaluate(*engine, compared.model ? &compared : nullptr, job.options, set, ctx));
  if (compared.tokens.count() > 0) report.tokens = std::move(compared.tokens);
  return report;
}

}  // namespace quell
