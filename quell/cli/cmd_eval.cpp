#include "quell/base/error.h"
#include "quell/cli/command.h"
#include "quell/job/eval_job.h"

namespace quell::cli {
namespace {

/// Options that the task has no use for are refused: whoever gives them expects another result.
void check_task_options(const EvalJob& job, bool max_new_tokens_given) {
  const std::string& task = job.options.task;
  const auto refuse_unless = [](bool fits, const char* message) {
    require(fits, ErrorCode::kUsage, message);
  };
  const bool perplexity = is_perplexity(task);
  refuse_unless(!perplexity || job.options.max_seq_length == 0,
                "--max-seq-length: perplexity goes by --window");
  refuse_unless(!perplexity || job.options.probe.empty(), "--probe: goes with classification");
  refuse_unless(!perplexity || job.data.columns.label.empty(),
                "--label-column: perplexity reads no labels");
  refuse_unless(task == kSummarization || !max_new_tokens_given,
                "--max-new-tokens: goes with --task summarization");

  const bool classification = task == kImageClassification;
  const bool images = classification || task == kLaneDetection;
  const bool has_columns = !job.data.columns.text.empty() || !job.data.columns.label.empty();
  refuse_unless(classification || job.image_labels.empty(),
                "--labels: goes with --task image-classification");
  refuse_unless(!images || (job.options.max_seq_length == 0 && job.options.probe.empty()),
                "--max-seq-length, --probe: go with tasks of texts");
  refuse_unless(!images || !has_columns, "--text-column, --label-column: images have no columns");
}

}  // namespace

Command add_eval(CLI::App& app) {
  CLI::App* sub = app.add_subcommand("eval", "Measure a model on a task");
  const auto job = std::make_shared<EvalJob>();
  const auto kl_base = std::make_shared<std::filesystem::path>();
  model_option(*sub, "model", job->model_dir, "Model directory")->required();
  sub->add_option("--task", job->options.task,
                  "What to measure (docs/evaluation.md); perplexity where --kl-base is given")
      ->check(CLI::IsMember(eval_task_names()));
  data_option(*sub, "--data", job->data.file,
              "Data file (.txt, .jsonl, tab-separated, .u16, .safetensors); of images a folder, a "
              "tar file, an IDX or CIFAR file; of lanes TuSimple's label file")
      ->required();
  file_option(*sub, "--labels", job->image_labels,
              "Label file of images, where it does not lie beside them (docs/vision.md)");
  sub->add_option("--engine", job->engine,
                  "float, bf16, simulated, simulated-exact or integer; default integer where the "
                  "model is quantized")
      ->check(CLI::IsMember({"float", "bf16", "simulated", "simulated-exact", "integer"}));
  CLI::Option* reference =
      model_option(*sub, "--reference", job->reference_dir,
                   "Float model to compare with: cosine, KL divergence, top-1 agreement");
  model_option(*sub, "--kl-base", *kl_base,
               "Float model: prints the statistics of llama.cpp's perplexity tool (PPL ratio, KL "
               "divergence, token "
               "probabilities, each with its error)")
      ->excludes(reference);
  const CLI::Option* max_new_tokens =
      sub->add_option("--max-new-tokens", job->max_new_tokens, "Summarization: tokens at most")
          ->transform(whole_number(1, kMostSamples))
          ->capture_default_str();
  sub->add_option("--max-seq-length", job->options.max_seq_length, "Tokens a row at most")
      ->transform(whole_number(1, kMostTokens));
  add_column_options(*sub, job->data.columns);
  add_eval_options(*sub, job->options);
  return {sub, [job, kl_base, max_new_tokens](const GlobalOptions& globals, ExecContext& ctx) {
            if (!kl_base->empty()) {
              if (job->options.task.empty()) job->options.task = "perplexity";
              require(is_perplexity(job->options.task), ErrorCode::kUsage,
                      "--kl-base goes with --task perplexity");
              job->reference_dir = *kl_base;
            }
            require(!job->options.task.empty(), ErrorCode::kUsage, "--task is required");
            check_perplexity_options(job->options);
            check_task_options(*job, max_new_tokens->count() > 0);
            Results results(globals);
            const Report report = run_eval_job(*job, ctx);
            results.print(report.to_json(),
                          kl_base->empty() ? report.to_table() : report.tokens.to_text());
            return 0;
          }};
}

}  // namespace quell::cli
