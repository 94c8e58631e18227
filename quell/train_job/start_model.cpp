#include "quell/train_job/start_model.h"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <set>

#include "quell/base/error.h"
#include "quell/base/log.h"
#include "quell/base/random.h"
#include "quell/io/json.h"
#include "quell/model/family.h"

namespace quell::train {
namespace {

/// transformers' default, where config.json does not say.
constexpr double kInitializerRange = 0.02;

bool is_classifier(const TrainTask& task) { return task.head == Head::kSequenceClassification; }

/// "Bert" of "BertModel" and "BertForMaskedLM", "GPT2" of "GPT2LMHeadModel".
std::string name_of_family(const std::string& architecture) {
  for (const char* ending : {"LMHeadModel", "Model"})
    if (architecture.ends_with(ending))
      return architecture.substr(0, architecture.size() - std::string(ending).size());
  return architecture.substr(0, architecture.find("For"));
}

const char* class_ending(Head head) {
  switch (head) {
    case Head::kSequenceClassification: return "ForSequenceClassification";
    case Head::kMaskedLm: return "ForMaskedLM";
    case Head::kSeq2SeqLm: return "ForConditionalGeneration";
    default: return "ForCausalLM";
  }
}

Json config_with_head(Json config, const TrainTask& task, std::int64_t labels) {
  const std::string architecture = architecture_of(Settings(config, "config.json"));
  require(!architecture.empty(), ErrorCode::kInvalidInput,
          "config.json: key \"architectures\" is missing, from which the class with a head for the "
          "task would follow");
  config["architectures"] = {name_of_family(architecture) + class_ending(task.head)};
  if (!is_classifier(task)) return config;

  Json names = Json::object();
  Json numbers = Json::object();
  for (std::int64_t i = 0; i < labels; ++i) {
    const std::string name = str("LABEL_", i);
    names[std::to_string(i)] = name;
    numbers[name] = i;
  }
  config["id2label"] = names;
  config["label2id"] = numbers;
  config["num_labels"] = labels;
  config["problem_type"] =
      task.kind == TaskKind::kValue ? "regression" : "single_label_classification";
  return config;
}

double initializer_range(const Json& config) {
  for (const char* key : {"initializer_range", "init_std"})
    if (config.contains(key) && config[key].is_number()) return config[key].get<double>();
  return kInitializerRange;
}

/// Box and Muller's.
double normal(Random& random) {
  const double radius = std::sqrt(-2 * std::log(1 - random.uniform()));
  return radius * std::cos(2 * std::numbers::pi * random.uniform());
}

void fill_normal(Tensor& values, double deviation, Random& random) {
  for (float& value : values.f32()) value = static_cast<float>(deviation * normal(random));
}

/// Matrices of normal numbers, norms of ones, biases of zeros.
void randomize(Param& p, double deviation, Random& random) {
  if (p.weight.defined() && p.weight.shape().rank() == 1)
    std::fill(p.weight.f32().begin(), p.weight.f32().end(), 1.0F);
  else if (p.weight.defined() && p.tied_to == kNoParam)
    fill_normal(p.weight, deviation, random);
  if (p.bias.defined()) std::fill(p.bias.f32().begin(), p.bias.f32().end(), 0.0F);
}

bool is_of_head(const Graph& graph, ParamId p) {
  const std::vector<NodeId>& users = graph.users(p);
  return graph.head_begin != kNoNode && !users.empty() &&
         std::all_of(users.begin(), users.end(), [&](NodeId n) { return n >= graph.head_begin; });
}

/// Fills what the checkpoint did not have, which may be no more than a head.
void make_head(double deviation, std::uint64_t seed, Model& model) {
  std::set<std::string> missing(model.missing_tensors.begin(), model.missing_tensors.end());
  Random random(seed);
  std::string made;
  for (ParamId p = 0; p < model.graph.num_params(); ++p) {
    Param& param = model.param(p);
    const bool is_missing =
        missing.contains(param.weight_name) || missing.contains(param.bias_name);
    if (!is_missing || !is_of_head(model.graph, p)) continue;
    randomize(param, deviation, random);
    missing.erase(param.weight_name);
    missing.erase(param.bias_name);
    made += (made.empty() ? "" : ", ") + param.module;
  }
  require(missing.empty(), ErrorCode::kInvalidInput, model.dir.string(), ": tensor \"",
          missing.empty() ? "" : *missing.begin(), "\" is missing");
  model.missing_tensors.clear();
  if (!made.empty())
    log(LogLevel::kInfo,
        model.dir.string() + ": a new head for the task (" + made + ") starts from random numbers");
}

void check_float(const Model& model) {
  require(!model.is_quantized(), ErrorCode::kUnsupported, model.dir.string(),
          ": is quantized; training starts from a float model");
  require(!model.reads_images(), ErrorCode::kUnsupported, model.dir.string(),
          ": reads images; quell train and quell distill train models of text");
}

Model random_model(const StartChoice& choice, const Json& config) {
  const Settings settings(config, choice.directory.string() + "/config.json",
                          choice.directory.accepted());
  Model model = make_zero_model(build_architecture(settings));
  Random random(choice.seed);
  const double deviation = initializer_range(config);
  for (Param& p : model.params) randomize(p, deviation, random);
  model.config = normalize_config(config);
  model.dir = choice.directory;
  check_float(model);
  return model;
}

/// Sentence embeddings are not what is trained: their files would say something else of the result.
void leave_out_sentence_modules(Model& model) {
  model.sentence = {};
  model.max_seq_length = 0;
}

std::int64_t labels_of(const Json& config) { return num_labels(Settings(config, "config.json")); }

/// Tensors of the head, but for a pooler, which belongs to the encoder.
std::vector<std::string> head_tensors(const Model& model) {
  std::vector<std::string> names;
  for (ParamId p = 0; p < model.graph.num_params(); ++p) {
    const Param& param = model.param(p);
    if (param.role == Role::kPooler || !is_of_head(model.graph, p)) continue;
    names.insert(names.end(), {param.weight_name, param.bias_name});
  }
  return names;
}

bool has_head(const Model& model, const TrainTask& task, std::optional<std::int64_t> labels) {
  if (model.spec.head != task.head) return false;
  if (!is_classifier(task) || !labels) return true;

  const std::int64_t there = labels_of(*model.config);
  require(there == *labels, ErrorCode::kInvalidInput, model.dir.string(), ": its head has ", there,
          " labels, and ", *labels, " are needed; --new-head starts from another one");
  return true;
}

}  // namespace

Model load_start(const StartChoice& choice, const TrainTask& task) {
  require(!choice.num_labels || task.kind == TaskKind::kClasses, ErrorCode::kUsage,
          "--num-labels: goes with tasks about classes, not with --task ", task.name);
  require(!choice.num_labels || *choice.num_labels > 1, ErrorCode::kUsage,
          "--num-labels 1: is no choice; for numbers use --task regression");
  std::optional<std::int64_t> labels = choice.num_labels;
  if (task.kind == TaskKind::kValue) labels = 1;

  require(!choice.new_head || (is_classifier(task) && !choice.random_weights), ErrorCode::kUsage,
          "--new-head: goes with tasks about classes and numbers, and not with --config");
  const auto with_head = [&](const Json& config) {
    const bool counts = is_classifier(task) && !labels;
    return config_with_head(config, task, counts ? choice.count_labels() : labels.value_or(0));
  };
  if (choice.random_weights) {
    const Json config = choice.directory.read("config.json").json();
    Model model = random_model(choice, config);
    const bool says_labels = is_classifier(task) && labels;
    if (says_labels || model.spec.head != task.head)
      model = random_model(choice, with_head(config));
    return model;
  }

  const Checkpoint checkpoint = Checkpoint::open(choice.directory);
  Model model = load_model(checkpoint);
  check_float(model);
  if (choice.new_head || !has_head(model, task, labels)) {
    const std::vector<std::string> old_head =
        choice.new_head ? head_tensors(model) : std::vector<std::string>();
    const Json config = with_head(checkpoint.config().json());
    model = load_model(checkpoint.without(old_head).with_config(config), {.allow_missing = true});
    make_head(initializer_range(config), choice.seed, model);
  }
  leave_out_sentence_modules(model);
  return model;
}

Model load_teacher(const ModelDirectory& directory, const TrainTask& task) {
  Model model = load_model(Checkpoint::open(directory));
  check_float(model);
  require(model.spec.head == task.head, ErrorCode::kInvalidInput, directory.string(),
          ": the teacher has no head for --task ", task.name, " (it has ",
          head_name(model.spec.head), "); fine-tune it first: quell train ", directory.string(),
          " TEACHER --task ", task.name, " --data FILE");
  leave_out_sentence_modules(model);
  return model;
}

}  // namespace quell::train
