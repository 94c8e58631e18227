#include "quell/train/training_recipe.h"

#include <algorithm>

#include "quell/base/error.h"
#include "quell/base/exact_text.h"
#include "quell/io/yaml_section.h"
#include "quell/quant/scheme.h"
#include "quell/text/data/recipe_library.h"

namespace quell::train {
namespace {

constexpr double kLargestWeight = 1e9;
constexpr std::int64_t kMostSteps = std::int64_t{1} << 40;

std::optional<MethodParams> read_quantizer(const Section& s, const std::string& key) {
  const YAML::Node* node = s.find(key);
  if (!node || (node->IsScalar() && node->Scalar() == "float")) return std::nullopt;
  return read_method(*node, s.where(key), "quantizer");
}

QuantizerChoices read_quantizers(const YAML::Node& node, const std::string& where) {
  const Section s(
      node, where,
      {"weights", "embeddings", "head", "activations", "attention", "map", "clip_search"});
  QuantizerChoices out = {.weights = read_quantizer(s, "weights"),
                          .embeddings = read_quantizer(s, "embeddings"),
                          .head = read_quantizer(s, "head"),
                          .activations = read_quantizer(s, "activations"),
                          .attention = read_quantizer(s, "attention"),
                          .map = read_quantizer(s, "map"),
                          .clip_search = s.integer("clip_search", 0, 1 << 20, 0)};
  require(out.clip_search == 0 || out.weights, ErrorCode::kInvalidInput, s.where("clip_search"),
          ": there is no quantizer of weights; name one, or leave it out");
  require(!out.head || out.embeddings, ErrorCode::kInvalidInput, s.where("head"),
          ": is about heads that multiply with the quantized word table; name a quantizer under "
          "\"embeddings\", or leave it out");
  return out;
}

/// `weight` is the sum's, everything else the term's own.
std::vector<TermChoice> read_objective(const YAML::Node& node, const std::string& where) {
  std::vector<TermChoice> terms;
  for (const MethodParams& method : read_methods(node, where, "term")) {
    const double weight = method.number("weight", -kLargestWeight, kLargestWeight, 1);
    std::map<std::string, std::string> settings = method.values();
    settings.erase("weight");
    terms.push_back({MethodParams(method.name(), std::move(settings), "term"), weight});
  }
  return terms;
}

void read_optimizer(const Section& s, TrainingRecipe& recipe) {
  recipe.optimizer = s.choice("optimizer", {"adamw", "bert_adam", "sgd"}, recipe.optimizer);
  if (recipe.optimizer == "bert_adam") recipe.adam.epsilon = 1e-6;
  const bool is_adam = recipe.optimizer != "sgd";
  for (const char* key : {"beta1", "beta2", "epsilon"})
    require(is_adam || !s.find(key), ErrorCode::kInvalidInput, s.where(key),
            ": sgd has none; leave it out");
  require(!is_adam || !s.find("momentum"), ErrorCode::kInvalidInput, s.where("momentum"), ": ",
          recipe.optimizer, " has beta1 instead");

  recipe.adam.beta1 = s.number("beta1", 0, 1, recipe.adam.beta1);
  recipe.adam.beta2 = s.number("beta2", 0, 1, recipe.adam.beta2);
  recipe.adam.epsilon = s.number("epsilon", 0, 1, recipe.adam.epsilon);
  recipe.momentum = s.number("momentum", 0, 1, recipe.momentum);
  recipe.learning_rate = s.number("learning_rate", 0, 1e3, recipe.learning_rate);
  recipe.quantizer_learning_rate =
      s.number("quantizer_learning_rate", 0, 1e6, recipe.quantizer_learning_rate);
  recipe.weight_decay = s.number("weight_decay", 0, 1, recipe.weight_decay);

  const std::string clip = s.choice("clip_gradients", {"global", "each_tensor", "none"}, "global");
  recipe.clip = clip == "each_tensor" ? ClipNorm::kEachTensor : ClipNorm::kGlobal;
  require(clip != "none" || !s.find("clip_norm"), ErrorCode::kInvalidInput, s.where("clip_norm"),
          ": has no effect with clip_gradients: none");
  recipe.clip_norm = clip == "none" ? 0 : s.number("clip_norm", 1e-9, 1e9, recipe.clip_norm);
}

void read_schedule(const Section& s, TrainingRecipe& recipe) {
  const std::string decay = s.choice("decay", {"linear", "constant", "cosine"}, "linear");
  if (decay == "constant") recipe.schedule.decay = Decay::kConstant;
  if (decay == "cosine") recipe.schedule.decay = Decay::kCosine;
  recipe.schedule.warmup = s.number("warmup", 0, 0.999, recipe.schedule.warmup);
  require(!(s.find("epochs") && s.find("steps")), ErrorCode::kInvalidInput, s.where("steps"),
          ": epochs say how long too; leave one of them out");
  recipe.epochs = s.number("epochs", 1e-6, 1e6, recipe.epochs);
  recipe.steps = s.integer("steps", 0, kMostSteps, recipe.steps);
  recipe.freeze_at = s.number("freeze_at", 0, 1, recipe.freeze_at);
  recipe.eval_every = s.integer("eval_every", 0, kMostSteps, recipe.eval_every);
}

std::string text_of(const MethodParams& method) {
  std::string text = method.name();
  for (const auto& [key, value] : method.values()) text += " " + key + "=" + value;
  return text;
}

}  // namespace

TrainingRecipe parse_training_recipe(const std::string& yaml, const std::string& source) {
  TrainingRecipe recipe;
  read_yaml(yaml, source, [&](const YAML::Node& root) {
    const Section s(root, source, {"name", "description", "quantizers", "objective", "training"});
    recipe.name = s.scalar("name", source);
    if (const YAML::Node* q = s.find("quantizers"))
      recipe.quantizers = read_quantizers(*q, s.where("quantizers"));
    const YAML::Node* objective = s.find("objective");
    require(objective, ErrorCode::kInvalidInput, source,
            ": nothing to minimize; name terms under the key \"objective\"");
    recipe.objective = read_objective(*objective, s.where("objective"));
    require(!recipe.objective.empty(), ErrorCode::kInvalidInput, s.where("objective"),
            ": has no terms");

    const YAML::Node* training = s.find("training");
    const Section t(training ? *training : YAML::Node(YAML::NodeType::Map), s.where("training"),
                    {"optimizer",
                     "beta1",
                     "beta2",
                     "epsilon",
                     "momentum",
                     "learning_rate",
                     "quantizer_learning_rate",
                     "weight_decay",
                     "clip_gradients",
                     "clip_norm",
                     "decay",
                     "warmup",
                     "epochs",
                     "steps",
                     "batch_size",
                     "accumulate",
                     "max_seq_length",
                     "dropout",
                     "attention_dropout",
                     "head_dropout",
                     "freeze_at",
                     "eval_every"});
    read_optimizer(t, recipe);
    read_schedule(t, recipe);
    recipe.batch_size = t.integer("batch_size", 1, 1 << 20, recipe.batch_size);
    recipe.accumulate = t.integer("accumulate", 1, 1 << 20, recipe.accumulate);
    recipe.max_seq_length = t.integer("max_seq_length", 1, 1 << 24, recipe.max_seq_length);
    recipe.dropout.hidden = t.number("dropout", 0, 0.99, 0);
    recipe.dropout.attention = t.number("attention_dropout", 0, 0.99, recipe.dropout.hidden);
    recipe.dropout.head = t.number("head_dropout", 0, 0.99, recipe.dropout.hidden);
  });
  return recipe;
}

TrainingRecipe load_training_recipe(const std::string& name_or_file) {
  return parse_training_recipe(training_recipes().read(name_or_file), name_or_file);
}

namespace {

void set_bits(std::optional<MethodParams>& method, const SchemeBits& side,
              const std::string& scheme, const std::string& what) {
  require(method.has_value(), ErrorCode::kUsage, "--scheme ", scheme, ": the recipe leaves ", what,
          " in floats; choose another recipe, or name a quantizer for them in a copy of it");
  require(!side.is_float(), ErrorCode::kUsage, "--scheme ", scheme, ": the recipe quantizes ", what,
          "; leave the quantizer out in a copy of it");
  static const std::vector<std::string> kTernary = {"twn", "absmean", "lat"};
  const bool is_ternary =
      std::find(kTernary.begin(), kTernary.end(), method->name()) != kTernary.end();
  if (is_ternary) {
    require(side.bits == 2, ErrorCode::kUsage, "--scheme ", scheme, ": ", method->name(),
            " has three values, not ", side.text(), " bits");
    return;
  }

  std::map<std::string, std::string> values = method->values();
  values["bits"] = side.text();
  if (side.is_ternary) {
    // Two symmetric bits are three values, which is what dynscale and laq call 2 bits.
    const bool has_three = method->name() == "dynscale" || method->name() == "laq";
    require(has_three || method->name() == "seq", ErrorCode::kUsage, "--scheme ", scheme, ": ",
            method->name(), " has no ternary form; use W2");
    if (has_three) values["bits"] = "2";
  }
  method = MethodParams(method->name(), std::move(values), "quantizer");
}

}  // namespace

void set_training_scheme(TrainingRecipe& recipe, const std::string& text) {
  const Scheme scheme = parse_scheme(text);
  QuantizerChoices& q = recipe.quantizers;
  set_bits(q.weights, scheme.weights, text, "weights");
  set_bits(q.activations, scheme.activations, text, "activations");
  if (q.head) set_bits(q.head, scheme.activations, text, "what the head reads");
  if (q.embeddings || scheme.embeddings)
    set_bits(q.embeddings, scheme.of_embeddings(), text, "embeddings");
}

std::string canonical_text(const TrainingRecipe& r) {
  std::string text;
  const auto add = [&](const char* what, const std::optional<MethodParams>& method) {
    if (method) text += str(what, " ", text_of(*method), "; ");
  };
  add("weights", r.quantizers.weights);
  add("embeddings", r.quantizers.embeddings);
  add("head", r.quantizers.head);
  add("activations", r.quantizers.activations);
  add("attention", r.quantizers.attention);
  add("map", r.quantizers.map);
  if (r.quantizers.clip_search > 0) text += str("clip search ", r.quantizers.clip_search, "; ");
  for (const TermChoice& term : r.objective)
    text += str("term ", text_of(term.method), " times ", exact_text(term.weight), "; ");

  text +=
      str(r.optimizer, " ", exact_text(r.adam.beta1), " ", exact_text(r.adam.beta2), " ",
          exact_text(r.adam.epsilon), " ", exact_text(r.momentum), " ", exact_text(r.learning_rate),
          " ", exact_text(r.quantizer_learning_rate), " ", exact_text(r.weight_decay), "; clip ",
          static_cast<int>(r.clip), " ", exact_text(r.clip_norm), "; ");
  text += str("decay ", static_cast<int>(r.schedule.decay), " ", exact_text(r.schedule.warmup),
              "; batch ", r.batch_size, " ", r.accumulate, "; epochs ", exact_text(r.epochs),
              " steps ", r.steps, "; length ", r.max_seq_length, "; ");
  text += str("dropout ", exact_text(r.dropout.hidden), " ", exact_text(r.dropout.attention), " ",
              exact_text(r.dropout.head), "; freeze ", exact_text(r.freeze_at), "; eval ",
              r.eval_every);
  return text;
}

}  // namespace quell::train
