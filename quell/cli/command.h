// What the subcommands share: global flags, output, progress.
#pragma once

#include <CLI/CLI.hpp>
#include <functional>
#include <memory>
#include <string>

#include "quell/base/exec_context.h"
#include "quell/cli/arguments.h"
#include "quell/job/eval_job.h"
#include "quell/job/outputs.h"
#include "quell/job/quantize_job.h"
#include "quell/job/report.h"

namespace quell::cli {

struct GlobalOptions {
  int threads = 0;
  bool quiet = false, verbose = false;
  std::string json_file;
};

/// A subcommand: options registered on `app`, work done by `run` (returns the exit code).
struct Command {
  CLI::App* app;
  std::function<int(const GlobalOptions&, ExecContext&)> run;
  bool has_results = true;  ///< for --json
};

Command add_quantize(CLI::App& app);
Command add_eval(CLI::App& app);
Command add_inspect(CLI::App& app);
Command add_verify(CLI::App& app);
Command add_tokenize(CLI::App& app);
Command add_detokenize(CLI::App& app);
Command add_generate(CLI::App& app);
Command add_embed(CLI::App& app);
Command add_classify(CLI::App& app);
Command add_rerank(CLI::App& app);
Command add_bench(CLI::App& app);
Command add_models(CLI::App& app);
Command add_recipes(CLI::App& app);
Command add_report(CLI::App& app);

/// Column flags that quantize and eval share.
void add_column_options(CLI::App& app, ColumnChoice& columns);
/// Options of the perplexity protocols and row limits.
void add_eval_options(CLI::App& app, EvalOptions& options);
/// Throws Error(kUsage) where those of perplexity are given for another task.
void check_perplexity_options(const EvalOptions& options);
/// What to do to a model, and on which data: options that quantize and report share.
struct CompressionOptions {
  std::string recipe, scheme, sampling = "random";  ///< recipe empty: the one for the model
  std::vector<std::string> ignore;
  CalibrationChoice calibration;
  EvalOptions eval;  ///< task empty: none
  DataChoice eval_data;
  std::filesystem::path eval_labels;  ///< of images; empty: where they belong

  Recipe load_recipe(const ModelDirectory& model) const;
  /// `calibration` with what the options say together. Throws Error(kUsage).
  CalibrationChoice calibration_choice() const;
  /// The task and its data, where one is asked for. Throws Error(kUsage).
  std::optional<EvalOptions> task(DataChoice& data) const;
};
void add_compression_options(CLI::App& app, CompressionOptions& options,
                             const std::string& task_help);

/// Checks the files that the command was given, and that what it will write replaces none of them.
/// For every command, before any work. Throws Error(kIo | kUsage).
void check_arguments(const CLI::App& command, const GlobalOptions& globals);

/// What a command says in the end. Made before any work: opens the file of --json. Throws Error(kIo
/// | kUsage).
class Results {
 public:
  explicit Results(const GlobalOptions& globals) : file_(globals.json_file) {}
  /// JSON to where it was asked for, `text` to the standard output where that is another place.
  void print(const Json& json, const std::string& text);

 private:
  JsonFile file_;
};
void print(const std::string& text);  ///< to stdout; throws Error(kIo) when that fails

/// Progress on stderr: a bar with the time left on a terminal, a plain line now and then otherwise.
ProgressSink make_progress();

}  // namespace quell::cli
