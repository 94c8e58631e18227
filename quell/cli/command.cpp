#include "quell/cli/command.h"

#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "quell/base/error.h"

namespace quell::cli {

void check_arguments(const CLI::App& command, const GlobalOptions& globals) {
  std::vector<std::filesystem::path> inputs;
  for (const InputArgument& input : input_arguments(command)) {
    const auto folder = input.may_be_folder ? FolderUse::kAllowed : FolderUse::kRefused;
    if (input.is_file) check_input_file(input.path, input.option, folder);
    inputs.push_back(input.path);
  }
  const std::vector<std::filesystem::path> outputs = output_arguments(command);
  for (const std::filesystem::path& output : outputs) keep_inputs(output, inputs);
  if (globals.json_file.empty()) return;
  keep_inputs(globals.json_file, inputs);
  for (const std::filesystem::path& output : outputs) keep_apart(globals.json_file, output);
}

void add_column_options(CLI::App& app, ColumnChoice& columns) {
  app.add_option("--text-column", columns.text,
                 "Text column, or two, by header name or by number from 1")
      ->delimiter(',')
      ->expected(1, 2);
  app.add_option("--label-column", columns.label,
                 "Label column, by header name or by number from 1");
}

void add_eval_options(CLI::App& app, EvalOptions& options) {
  app.add_option(
         "--protocol", options.protocol,
         "Perplexity: gptq (windows scored inside), windows (targets shifted by one; default), "
         "llama.cpp (second halves) or lm-eval (documents, per word)")
      ->check(CLI::IsMember({"gptq", "windows", "llama.cpp", "lm-eval"}));
  app.add_option(
         "--window", options.window,
         "Perplexity: tokens a window; default 2048 (llama.cpp: 512), or the model's context")
      ->transform(whole_number(0, kMostTokens));
  app.add_option("--limit", options.limit, "Rows or windows at most; 0: all")
      ->transform(whole_number(0, kMostRows));
  file_option(app, "--probe", options.probe,
              "Classification: a linear probe on the encoder (.safetensors) instead of the model's "
              "own head");
  app.add_option("--skip", options.skip, "Rows or windows left out at the beginning")
      ->transform(whole_number(0, kMostRows));
}

void add_compression_options(CLI::App& app, CompressionOptions& o, const std::string& task_help) {
  app.add_option("--recipe", o.recipe,
                 "Built-in name (see quell recipes) or YAML file; default os_plus, of networks of "
                 "convolutions images");
  app.add_option("--scheme", o.scheme,
                 "Bits of weights and activations, as W8A8; overrides the recipe")
      ->check(not_empty());
  app.add_option("--ignore", o.ignore,
                 "Linears and convolutions left in float: name, glob or re:REGEX; may be repeated");
  data_option(app, "--calibration", o.calibration.data.file,
              "Calibration data (.txt, .jsonl, tab-separated, .u16, .safetensors); of images a "
              "folder, a tar file, an IDX or CIFAR file")
      ->required();
  app.add_option("--num-samples", o.calibration.num_samples, "Samples at most")
      ->transform(whole_number(1, kMostSamples))
      ->capture_default_str();
  app.add_option("--calibration-skip", o.calibration.skip, "Samples left out at the beginning")
      ->transform(whole_number(0, kMostRows));
  app.add_option("--sampling", o.sampling, "random or first")
      ->check(CLI::IsMember({"random", "first"}))
      ->capture_default_str();
  app.add_option("--seed", o.calibration.seed, "Of random sampling")
      ->transform(seed())
      ->capture_default_str();
  app.add_option("--max-seq-length", o.calibration.max_seq_length, "Tokens a sample at most")
      ->transform(whole_number(1, kMostTokens));
  add_column_options(app, o.calibration.data.columns);
  std::vector<std::string> tasks = task_names();
  tasks.emplace_back(kImageClassification);
  app.add_option("--eval-task", o.eval.task, task_help)->check(CLI::IsMember(tasks));
  data_option(app, "--eval-data", o.eval_data.file, "Data of --eval-task");
  file_option(app, "--eval-labels", o.eval_labels,
              "Label file of images in --eval-data, where it does not lie beside them");
  app.add_option("--eval-text-column", o.eval_data.columns.text,
                 "Text columns of --eval-data; default --text-column")
      ->delimiter(',')
      ->expected(1, 2);
  add_eval_options(app, o.eval);
}

void check_perplexity_options(const EvalOptions& options) {
  require(is_perplexity(options.task) || (options.window == 0 && options.protocol.empty()),
          ErrorCode::kUsage, "--window and --protocol go with the task perplexity");
}

Recipe CompressionOptions::load_recipe(const ModelDirectory& model) const {
  Recipe out = quell::load_recipe(recipe.empty() ? default_recipe(model) : recipe);
  if (!scheme.empty()) set_scheme(out, scheme);
  out.ignore.insert(out.ignore.end(), ignore.begin(), ignore.end());
  return out;
}

CalibrationChoice CompressionOptions::calibration_choice() const {
  CalibrationChoice out = calibration;
  out.sampling = sampling == "first" ? Sampling::kFirst : Sampling::kRandom;
  return out;
}

std::optional<EvalOptions> CompressionOptions::task(DataChoice& data) const {
  require(eval.task.empty() == eval_data.file.empty(), ErrorCode::kUsage,
          "--eval-task and --eval-data belong together");
  if (eval.task.empty()) {
    const bool untouched = eval.limit == 0 && eval.skip == 0 && eval.window == 0 &&
                           eval.protocol.empty() && eval.probe.empty();
    require(untouched, ErrorCode::kUsage,
            "--limit, --skip, --window, --protocol and --probe go with --eval-task");
    require(eval_labels.empty() && eval_data.columns.text.empty(), ErrorCode::kUsage,
            "--eval-labels, --eval-text-column: go with --eval-task");
    return std::nullopt;
  }
  check_perplexity_options(eval);
  require(eval.task == kImageClassification || eval_labels.empty(), ErrorCode::kUsage,
          "--eval-labels: goes with --eval-task image-classification");
  data = eval_data;
  if (data.columns.text.empty()) data.columns.text = calibration.data.columns.text;
  data.columns.label = calibration.data.columns.label;
  const bool has_columns = !data.columns.text.empty() || !data.columns.label.empty();
  require(eval.task != kImageClassification || (!has_columns && eval.probe.empty()),
          ErrorCode::kUsage, "columns and --probe go with tasks of texts");
  EvalOptions out = eval;
  out.max_seq_length = calibration.max_seq_length;
  return out;
}

void print(const std::string& text) {
  const bool ok =
      std::fwrite(text.data(), 1, text.size(), stdout) == text.size() && std::fflush(stdout) == 0;
  require(ok, ErrorCode::kIo, "cannot write to standard output");
}

void Results::print(const Json& json, const std::string& text) {
  file_.write(json);
  cli::print(file_.is_standard_output() ? json.dump(2) + "\n" : text);
}

ProgressSink make_progress() {
  struct State {
    std::string stage;
    std::chrono::steady_clock::time_point start, last;
  };
  const auto state = std::make_shared<State>();
  const bool terminal = isatty(STDERR_FILENO) != 0;
  return [state, terminal](const std::string& stage, std::int64_t done, std::int64_t total) {
    const auto now = std::chrono::steady_clock::now();
    if (stage != state->stage) *state = {stage, now, now - std::chrono::hours(1)};
    const auto pause = terminal ? std::chrono::milliseconds(100) : std::chrono::seconds(10);
    if (done < total && now - state->last < pause) return;
    state->last = now;
    const double spent = std::chrono::duration<double>(now - state->start).count();
    const double left =
        done > 0 ? spent / static_cast<double>(done) * static_cast<double>(total - done) : 0;
    if (!terminal) {
      std::fprintf(stderr, "%s: %lld of %lld, %.0f s\n", stage.c_str(),
                   static_cast<long long>(done), static_cast<long long>(total), spent);
    } else {
      const int filled = total > 0 ? static_cast<int>(30 * done / total) : 30;
      std::fprintf(stderr, "\r%-24s [%.*s%*s] %3d%% %5.0f s left ", stage.c_str(), filled,
                   "##############################", 30 - filled, "",
                   total > 0 ? static_cast<int>(100 * done / total) : 100, left);
      if (done == total) std::fprintf(stderr, "\n");
    }
    if (done == total) state->stage.clear();
  };
}

}  // namespace quell::cli
