#include "quell/train/trainer.h"

#include <chrono>
#include <cmath>

#include "quell/base/error.h"
#include "quell/io/json.h"
#include "quell/train/latent_clips.h"

namespace quell::train {
namespace {

constexpr const char* kParameter = "parameter.";
constexpr const char* kLearnedStep = "quantizer.";
constexpr const char* kTerm = "term.";
constexpr const char* kOptimizer = "optimizer.";
constexpr const char* kQuantizerState = "quantizer_state.";
constexpr const char* kTermState = "term_state.";
constexpr const char* kBest = "best.";

/// So much of a run may be lost at most, however slow its steps are.
constexpr std::chrono::minutes kLongestUnkept(5);

/// Weights decay, vectors (norms, biases, steps) do not.
std::vector<TrainedParameter> trained_parameters(const TrainingRecipe& recipe,
                                                 const TrainingParts& parts) {
  std::vector<TrainedParameter> out;
  for (const TorchParameter& p : parts.student.parameters().trained()) {
    if (!p.tensor.requires_grad()) continue;
    const bool decays = p.tensor.dim() > 1;
    out.push_back({.name = kParameter + p.name,
                   .value = p.tensor,
                   .weight_decay = decays ? recipe.weight_decay : 0});
  }
  for (const NamedTensor& t : parts.quantizers.parameters())
    out.push_back({.name = kLearnedStep + t.name,
                   .value = t.value,
                   .learning_rate = recipe.quantizer_learning_rate});
  for (const NamedTensor& t : parts.objective.parameters())
    out.push_back({.name = kTerm + t.name, .value = t.value});
  return out;
}

std::unique_ptr<Optimizer> make_optimizer(const TrainingRecipe& recipe,
                                          const TrainingParts& parts) {
  std::vector<TrainedParameter> parameters = trained_parameters(recipe, parts);
  if (recipe.optimizer == "bert_adam")
    return std::make_unique<BertAdam>(std::move(parameters), recipe.adam);
  if (recipe.optimizer == "sgd")
    return std::make_unique<Sgd>(std::move(parameters), recipe.momentum);
  return std::make_unique<AdamW>(std::move(parameters), recipe.adam);
}

std::int64_t steps_of(const TrainingRecipe& recipe, const TrainingData& data) {
  if (recipe.steps > 0) return recipe.steps;
  const auto batches = static_cast<double>(data.batches_per_epoch()) * recipe.epochs;
  return std::max<std::int64_t>(
      1, std::llround(std::ceil(batches / static_cast<double>(recipe.accumulate))));
}

std::string rows_text(const TrainingData& data, std::int64_t batch) {
  std::string text;
  for (const std::size_t row : data.rows(batch).rows)
    text += (text.empty() ? "" : " ") + std::to_string(row + 1);
  return text;
}

void copy_into(const torch::Tensor& to, const torch::Tensor& from, const std::string& name) {
  require(to.sizes() == from.sizes(), ErrorCode::kInvalidInput, "the checkpoint's ", name,
          " has another shape");
  const torch::NoGradGuard guard;
  // Writing through the same storage: quantizers and optimizer refer to it.
  torch::Tensor target = to;
  target.copy_(from);
}

}  // namespace

Trainer::Trainer(const TrainingRecipe& recipe, const TrainerOptions& options,
                 const TrainingParts& parts)
    : recipe_(recipe),
      options_(options),
      parts_(parts),
      total_(steps_of(recipe, parts.data)),
      eval_every_(recipe.eval_every) {
  require(options.checkpoint_every > 0 && options.log_every > 0, ErrorCode::kUsage,
          "checkpoints and log lines come every so many steps, at least one");
  if (eval_every_ == 0)
    eval_every_ = std::max<std::int64_t>(1, parts.data.batches_per_epoch() / recipe.accumulate);
}

void Trainer::begin_quantizers(std::int64_t batch, bool training) {
  if (parts_.quantizers.empty()) return;
  const auto step = static_cast<double>(batch / recipe_.accumulate);
  const QuantizerStep told{.seed = options_.seed,
                           .step = batch,
                           .training = training,
                           .frozen = step >= recipe_.freeze_at * static_cast<double>(total_)};
  const auto moments = optimizer_ ? optimizer_->state() : std::map<std::string, torch::Tensor>();
  parts_.quantizers.begin_step(told, [&](const std::string& name) {
    const auto found = moments.find(kParameter + name + ".square");
    return found == moments.end() ? torch::Tensor() : found->second;
  });
}

/// From the first batch, each behind those that come before it.
void Trainer::start_static_steps() {
  if (parts_.quantizers.empty()) return;
  begin_quantizers(0, false);
  parts_.quantizers.initialize([&] {
    const TrainingBatch batch = parts_.data.batch(0);
    parts_.student.forward(batch.tokens);
  });
}

TorchOutputs Trainer::teacher_outputs(const TrainingBatch& batch, std::int64_t index) {
  if (!parts_.teacher) return {};
  const torch::NoGradGuard guard;
  const Taps& taps = parts_.objective.teacher_taps();
  const auto make = [&] { return parts_.teacher->forward(batch.tokens, taps); };
  if (!parts_.cache) return make();
  return parts_.cache->outputs(parts_.data.rows(index).number, batch, taps, make);
}

void Trainer::check_finite(const std::map<std::string, torch::Tensor>& values, std::int64_t step,
                           std::int64_t batch) const {
  for (const auto& [name, value] : values) {
    if (std::isfinite(value.item<double>())) continue;
    throw Error(ErrorCode::kNumeric, str("step ", step, ": ", name, " is not finite in batch ",
                                         batch, " (rows ", rows_text(parts_.data, batch),
                                         "); an earlier checkpoint stays; try a smaller learning "
                                         "rate, or look at the labels of these rows"));
  }
}

/// What both sides gave is let go before gradients are taken, but for what these need.
std::map<std::string, torch::Tensor> Trainer::losses(std::int64_t index) {
  const TrainingBatch batch = parts_.data.batch(index);
  const TorchOutputs teacher = teacher_outputs(batch, index);

  begin_quantizers(index, true);
  const DropoutDraw draw{options_.seed, index};
  const TorchOutputs student =
      parts_.student.forward(batch.tokens, parts_.objective.student_taps(), draw);
  return parts_.objective.values({batch, student, teacher});
}

std::map<std::string, double> Trainer::step(std::int64_t step) {
  optimizer_->zero_gradients();
  std::map<std::string, double> sums;
  for (std::int64_t part = 0; part < recipe_.accumulate; ++part) {
    const std::int64_t index = step * recipe_.accumulate + part;
    const std::map<std::string, torch::Tensor> values = losses(index);
    check_finite(values, step, index);

    const auto parts = static_cast<double>(recipe_.accumulate);
    (values.at("loss") / parts).backward();
    for (const auto& [name, value] : values) sums[name] += value.item<double>() / parts;
  }

  const double rate = recipe_.learning_rate * recipe_.schedule.factor(step, total_);
  std::string culprit;
  const double largest = recipe_.clip_norm > 0 ? recipe_.clip_norm : INFINITY;
  const double norm = clip_gradients(optimizer_->parameters(), recipe_.clip, largest, &culprit);
  if (!culprit.empty())
    throw Error(ErrorCode::kNumeric,
                str("step ", step, ": the gradient of ", culprit, " is not finite (rows ",
                    rows_text(parts_.data, step * recipe_.accumulate),
                    "); an earlier checkpoint stays; try a smaller learning rate, or look at the "
                    "labels of these rows"));
  optimizer_->step(rate);
  sums["gradient_norm"] = norm;
  sums["learning_rate"] = rate;
  return sums;
}

std::map<std::string, torch::Tensor> Trainer::learned() const {
  std::map<std::string, torch::Tensor> out;
  for (const TrainedParameter& p : optimizer_->parameters()) out[p.name] = p.value;
  for (const NamedTensor& t : parts_.quantizers.state()) out[kQuantizerState + t.name] = t.value;
  return out;
}

std::map<std::string, torch::Tensor> Trainer::tensors_of_run() const {
  std::map<std::string, torch::Tensor> out = learned();
  for (const NamedTensor& t : parts_.objective.state()) out[kTermState + t.name] = t.value;
  for (const auto& [name, t] : optimizer_->state()) out[kOptimizer + name] = t;
  for (const auto& [name, t] : best_) out[kBest + name] = t;
  return out;
}

void Trainer::restore(const TrainingState& state) {
  std::map<std::string, torch::Tensor> moments;
  for (const auto& [name, t] : state.tensors) {
    if (name.starts_with(kOptimizer)) moments[name.substr(std::string(kOptimizer).size())] = t;
    if (name.starts_with(kBest)) best_[name.substr(std::string(kBest).size())] = t;
  }
  optimizer_->restore(moments);

  std::map<std::string, torch::Tensor> here = learned();
  for (const NamedTensor& t : parts_.objective.state()) here[kTermState + t.name] = t.value;
  for (const auto& [name, t] : here) {
    const auto found = state.tensors.find(name);
    require(found != state.tensors.end(), ErrorCode::kInvalidInput, "the checkpoint lacks ", name);
    copy_into(t, found->second, name);
  }
  best_step_ = state.best_step;
  best_score_ = state.best_score;
}

void Trainer::checkpoint(std::int64_t step, RunDirectory& run) const {
  run.write({.step = step,
             .tensors = tensors_of_run(),
             .best_step = best_step_,
             .best_score = best_score_,
             .metrics_bytes = run.metrics_bytes()});
}

void Trainer::check_parameters(std::int64_t step) const {
  const torch::NoGradGuard guard;
  for (const auto& [name, t] : learned()) {
    const bool is_finite = torch::isfinite(t).all().item<bool>();
    require(is_finite, ErrorCode::kNumeric, "step ", step, ": ", name,
            " is not finite after the update; an earlier checkpoint stays; try a smaller learning "
            "rate");
  }
}

void Trainer::evaluate(std::int64_t step, RunDirectory& run, const TrainerHooks& hooks) {
  const torch::NoGradGuard guard;
  begin_quantizers(step * recipe_.accumulate, false);
  const Evaluation evaluation = hooks.evaluate();

  Json line = {{"step", step}};
  for (const auto& [name, value] : evaluation.metrics) line["eval"][name] = value;
  if (options_.diagnostics) {
    const std::int64_t index = 0;
    const TrainingBatch batch = parts_.data.batch(index);
    const TorchOutputs teacher = teacher_outputs(batch, index);
    const TorchOutputs student =
        parts_.student.forward(batch.tokens, parts_.objective.student_taps());
    for (const auto& [name, value] : parts_.objective.diagnostics({batch, student, teacher}))
      line["diagnostics"][name] = value;
  }
  run.add_metrics(line.dump());

  const bool is_better =
      best_step_ < 0 || std::isnan(best_score_) || evaluation.score > best_score_;
  if (!is_better) return;
  best_step_ = step;
  best_score_ = evaluation.score;
  best_.clear();
  for (const auto& [name, t] : learned()) best_[name] = t.detach().clone();
}

TrainingResult Trainer::run(RunDirectory& run, const TrainerHooks& hooks) {
  const std::optional<TrainingState> kept = run.read(options_.allow_drift);
  const std::int64_t clip_tokens = recipe_.quantizers.clip_search;
  if (clip_tokens > 0 && !kept)
    clip_latent_weights(parts_.student, parts_.quantizers, parts_.data, clip_tokens);

  start_static_steps();
  optimizer_ = make_optimizer(recipe_, parts_);
  std::int64_t done = 0;
  if (kept) {
    restore(*kept);
    done = kept->step;
    require(done >= 0 && done <= total_, ErrorCode::kInvalidInput, "the checkpoint is of step ",
            done, ", and the run has ", total_);
  }
  run.cut_metrics(kept ? kept->metrics_bytes : 0);

  auto kept_at = std::chrono::steady_clock::now();
  while (done < total_) {
    const std::map<std::string, double> values = step(done);
    ++done;
    const bool is_last = done == total_;
    if (done % options_.log_every == 0 || is_last) {
      Json line = {{"step", done}};
      for (const auto& [name, value] : values) line[name] = value;
      run.add_metrics(line.dump());
    }
    if (hooks.progress) hooks.progress(done, total_, values.at("loss"), values.at("learning_rate"));

    const bool evaluates = hooks.evaluate && (done % eval_every_ == 0 || is_last);
    const bool is_due = std::chrono::steady_clock::now() - kept_at > kLongestUnkept;
    const bool keeps = done % options_.checkpoint_every == 0 || is_due || is_last;
    if (evaluates || keeps) check_parameters(done);
    if (evaluates) evaluate(done, run, hooks);
    if (!keeps) continue;
    checkpoint(done, run);
    kept_at = std::chrono::steady_clock::now();
  }

  for (const auto& [name, t] : learned())
    if (const auto best = best_.find(name); best != best_.end()) copy_into(t, best->second, name);
  begin_quantizers(total_ * recipe_.accumulate, false);
  return {.steps = total_, .best_step = best_step_, .best_score = best_score_};
}

}  // namespace quell::train
