#include "quell/train_cli/commands.h"

#include <nlohmann/json.hpp>

#include "quell/base/error.h"
#include "quell/cli/program.h"
#include "quell/train_job/train_job.h"

namespace quell::cli {
namespace {

using train::TrainJob;

constexpr std::int64_t kMostSteps = std::int64_t{1} << 40;

/// What both commands ask for, and what of the recipe is said anew.
struct TrainOptions {
  TrainJob job;
  std::string recipe, scheme;
  std::vector<std::string> unlabelled;
  std::optional<std::int64_t> steps, batch_size, max_seq_length, eval_every;
  std::optional<double> epochs, learning_rate;
};

template <typename T>
CLI::Option* optional_option(CLI::App& app, const std::string& name, std::optional<T>& target,
                             const CLI::Validator& check, const std::string& help) {
  return app
      .add_option_function<std::string>(
          name,
          [&target, name](const std::string& text) {
            if constexpr (std::is_same_v<T, double>)
              target = std::stod(text);
            else
              target = std::stoll(text);
          },
          help)
      ->transform(check);
}

void add_data_options(CLI::App& app, TrainOptions& o) {
  TrainJob& job = o.job;
  app.add_option("--task", job.task, "What is learned (docs/training.md)")
      ->required()
      ->check(CLI::IsMember(train::train_task_names()));
  data_option(app, "--data", job.data.file, "Rows to learn from (.tsv, .csv, .jsonl, .txt, ...)")
      ->required();
  add_column_options(app, job.data.columns);
  app.add_option("--limit", job.limit, "Rows of --data at most; 0: all")
      ->transform(whole_number(0, kMostRows));
  data_option(app, "--eval-data", job.eval_data.file,
              "Held-out rows: measured as training goes on, and the best model is kept");
  app.add_option("--eval-limit", job.eval_limit, "Rows of --eval-data at most; 0: all")
      ->transform(whole_number(0, kMostRows));
  optional_option(app, "--num-labels", job.num_labels, whole_number(1, 1 << 20),
                  "Classes of a head that the checkpoint lacks; default: as many as --data has");
  app.add_flag("--new-head", job.new_head,
               "Leave the checkpoint's classifier out and start from a new one");
}

void add_recipe_options(CLI::App& app, TrainOptions& o) {
  optional_option(app, "--epochs", o.epochs, real_number(1e-6, 1e6), "Instead of the recipe's");
  optional_option(app, "--steps", o.steps, whole_number(1, kMostSteps), "Instead of epochs");
  optional_option(app, "--batch-size", o.batch_size, whole_number(1, 1 << 20),
                  "Instead of the recipe's");
  optional_option(app, "--learning-rate", o.learning_rate, real_number(0, 1e3),
                  "Instead of the recipe's");
  optional_option(app, "--max-seq-length", o.max_seq_length, whole_number(2, kMostTokens),
                  "Tokens a row at most, instead of the recipe's");
  optional_option(app, "--eval-every", o.eval_every, whole_number(0, kMostSteps),
                  "Steps between evaluations; 0: once an epoch");
}

void add_run_options(CLI::App& app, TrainJob& job) {
  app.add_option("--seed", job.seed, "Of the order of rows, dropout and new weights")
      ->transform(seed());
  app.add_option("--checkpoint-every", job.checkpoint_every, "Steps between checkpoints")
      ->transform(whole_number(1, kMostSteps))
      ->capture_default_str();
  app.add_option("--log-every", job.log_every, "Steps between lines of metrics.jsonl")
      ->transform(whole_number(1, kMostSteps))
      ->capture_default_str();
  app.add_flag("--allow-drift", job.allow_drift,
               "Go on with a run of another build, processor or number of threads");
  app.add_flag("--force", job.replace_output, "Replace an existing output directory");
}

/// The recipe with what the command line says instead of it.
void set_recipe(TrainOptions& o) {
  train::TrainingRecipe& recipe = o.job.recipe;
  recipe = train::load_training_recipe(o.recipe);
  if (!o.scheme.empty()) train::set_training_scheme(recipe, o.scheme);
  require(!(o.epochs && o.steps), ErrorCode::kUsage,
          "--epochs and --steps both say how long; give one of them");
  if (o.epochs) {
    recipe.epochs = *o.epochs;
    recipe.steps = 0;
  }
  if (o.steps) recipe.steps = *o.steps;
  if (o.batch_size) recipe.batch_size = *o.batch_size;
  if (o.learning_rate) recipe.learning_rate = *o.learning_rate;
  if (o.max_seq_length) recipe.max_seq_length = *o.max_seq_length;
  if (o.eval_every) recipe.eval_every = *o.eval_every;
  require(!o.eval_every || !o.job.eval_data.file.empty(), ErrorCode::kUsage,
          "--eval-every: needs --eval-data");
}

int run(TrainOptions& o, const GlobalOptions& globals, ExecContext& ctx) {
  TrainJob& job = o.job;
  set_recipe(o);
  job.unlabelled.assign(o.unlabelled.begin(), o.unlabelled.end());
  job.eval_data.columns = job.data.columns;

  Results results(globals);
  say_how_to_go_on_when_stopped();
  const Report report = train::run_train_job(job, ctx);
  const bool measured = !job.eval_data.file.empty();
  results.print(report.to_json(), measured ? report.to_table() : std::string());
  return 0;
}

}  // namespace

Command add_train(CLI::App& app) {
  CLI::App* sub = app.add_subcommand("train", "Fine-tune a model on labels");
  const auto o = std::make_shared<TrainOptions>();
  model_option(*sub, "model", o->job.model_dir, "Model directory to start from")->required();
  output_option(*sub, "output", o->job.output, "Directory to write")->required();
  o->recipe = "fine_tune";
  sub->add_option("--recipe", o->recipe, "Built-in name, or YAML file")->capture_default_str();
  sub->add_flag("--config", o->job.random_weights,
                "Start from random weights: of the model only config.json and tokenizer are read");
  add_data_options(*sub, *o);
  add_recipe_options(*sub, *o);
  add_run_options(*sub, o->job);
  return {sub,
          [o](const GlobalOptions& globals, ExecContext& ctx) { return run(*o, globals, ctx); }};
}

Command add_distill(CLI::App& app) {
  CLI::App* sub =
      app.add_subcommand("distill", "Train a quantized or shallower student of a model");
  const auto o = std::make_shared<TrainOptions>();
  const auto student = std::make_shared<std::filesystem::path>();
  model_option(*sub, "teacher", o->job.teacher_dir, "Model directory of the teacher")->required();
  output_option(*sub, "output", o->job.output, "Directory to write")->required();
  sub->add_option("--recipe", o->recipe, "Built-in name, or YAML file (docs/training.md)")
      ->required();
  sub->add_option("--scheme", o->scheme,
                  "Bits of weights and activations, and of embeddings, as W1.58A8 or \"W2A8 E2\"; "
                  "overrides the recipe")
      ->check(not_empty());
  model_option(*sub, "--student", *student,
               "Model that the student starts from; default: the teacher");
  sub->add_option("--layers", o->job.layers,
                  "Layers of the student, taken from what it starts from")
      ->transform(whole_number(1, 4096));
  sub->add_option("--layer-map", o->job.layer_map,
                  "Which of the teacher's layers, from 0, as 0,2,5; default: evenly spread");
  sub->add_option("--unlabelled", o->unlabelled,
                  "More rows, whose labels are not read: the teacher says what is right")
      ->check(not_empty());
  add_data_options(*sub, *o);
  add_recipe_options(*sub, *o);
  sub->add_flag("--diagnostics", o->job.diagnostics,
                "What the papers look at beside the loss, at every evaluation");
  sub->add_flag("--cache-teacher", o->job.cache_teacher,
                "Keep on the disk what the teacher gives for each batch");
  add_run_options(*sub, o->job);
  return {sub, [o, student](const GlobalOptions& globals, ExecContext& ctx) {
            const ModelDirectory& teacher = o->job.teacher_dir;
            const std::vector<std::string> accepted = teacher.accepted().keys();
            o->job.model_dir = student->empty() ? teacher : ModelDirectory(*student, accepted);
            return run(*o, globals, ctx);
          }};
}

}  // namespace quell::cli
