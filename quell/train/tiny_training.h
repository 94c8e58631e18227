// Runs of training on tiny models of random weights, for tests.
#pragma once

#include <filesystem>
#include <memory>
#include <stdexcept>
#include <string>

#include "quell/train/small_models.h"
#include "quell/train/tiny_configs.h"
#include "quell/train/trainer.h"

namespace quell::train {

/// A model, and rows that it can learn from.
struct TinyTask {
  Json config;
  TrainingSet set;
};

/// Seven sequences of three to five tokens, with classes.
inline TinyTask tiny_classes() {
  TinyTask task{tiny_bert(2), {}};
  task.set.kind = TaskKind::kClasses;
  task.set.source = "rows";
  for (std::int32_t i = 0; i < 7; ++i) {
    TokenSequence sequence;
    for (std::int32_t t = 0; t < 3 + i % 3; ++t) sequence.ids.push_back((5 * i + t) % kTinyWords);
    task.set.sequences.push_back(sequence);
    task.set.labels.push_back(i % 3);
  }
  return task;
}

inline TinyTask tiny_masked_words() {
  TinyTask task = tiny_classes();
  task.config["architectures"] = {"BertForMaskedLM"};
  task.set.kind = TaskKind::kMaskedLm;
  task.set.mask_id = 3;
  task.set.vocabulary = kTinyWords;
  task.set.masked_share = 0.9;
  return task;
}

inline TinyTask tiny_next_words(const Json& config) {
  TinyTask task = tiny_classes();
  task.config = config;
  task.set.kind = TaskKind::kCausalLm;
  return task;
}

/// To learn the sequence itself.
inline TinyTask tiny_seq2seq() {
  TinyTask task = tiny_classes();
  task.config = tiny_bart(2);
  task.set.kind = TaskKind::kSeq2Seq;
  task.set.targets = task.set.sequences;
  task.set.pad_id = 1;
  task.set.decoder_start_id = 2;
  return task;
}

class KilledError : public std::runtime_error {
 public:
  KilledError() : std::runtime_error("killed") {}
};

/// A student and a teacher that start with the same weights, and what trains the one.
struct TinyRun {
  TinyRun(const TrainingRecipe& recipe, TinyTask task, bool cached = false,
          const std::filesystem::path& cache_dir = {})
      : task(std::move(task)),
        recipe(recipe),
        model(random_model(build_architecture(Settings(this->task.config)), 3)),
        teacher_model(random_model(build_architecture(Settings(this->task.config)), 3)),
        student(model),
        teacher(teacher_model),
        quantizers(recipe.quantizers, model, student),
        layers(make_layer_map(model.graph, teacher_model.graph, "")),
        objective(recipe.objective, {student, &teacher, layers, this->task.set.kind}),
        data(this->task.set,
             {.batch_size = recipe.batch_size, .seed = 5, .fixed_batches = cached}) {
    model.config = this->task.config;
    student.set_dropout(dropout_points(model.graph, recipe.dropout));
    if (cached) cache = std::make_unique<TeacherCache>(cache_dir);
  }
  explicit TinyRun(const std::string& yaml, bool cached = false,
                   const std::filesystem::path& cache_dir = {})
      : TinyRun(parse_training_recipe(yaml, "test"), tiny_classes(), cached, cache_dir) {}

  TrainingResult go(const std::filesystem::path& dir, std::int64_t checkpoint_every,
                    std::int64_t killed_at = -1, const RunKey& key = {{"recipe", "a"}}) {
    RunDirectory run(dir, key);
    Trainer trainer(recipe, {.seed = 5, .checkpoint_every = checkpoint_every, .log_every = 1},
                    {student, quantizers, objective, data, &teacher, cache.get()});
    TrainerHooks hooks;
    hooks.evaluate = [this]() -> Evaluation {
      const double sum =
          student.forward(data.batch(0).tokens).values.at("logits").sum().item<double>();
      return {{{"sum", sum}}, sum};
    };
    hooks.progress = [&](std::int64_t step, std::int64_t, double, double) {
      if (step == killed_at) throw KilledError();
    };
    return trainer.run(run, hooks);
  }

  TinyTask task;
  TrainingRecipe recipe;
  Model model, teacher_model;
  TorchModel student, teacher;
  StudentQuantizers quantizers;
  LayerMap layers;
  Objective objective;
  TrainingData data;
  std::unique_ptr<TeacherCache> cache;
};

}  // namespace quell::train
