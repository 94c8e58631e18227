#include "quell/train/logit_rows.h"

#include "quell/base/error.h"
#include "quell/train/losses/logits.h"
#include "quell/train/term_inputs.h"

namespace quell::train {
namespace {

const Value& logits_of(const std::string& term, const Graph& graph) {
  for (const auto& [name, v] : graph.outputs)
    if (name == "logits") return graph.value(v);
  throw Error(ErrorCode::kInvalidInput,
              "term \"" + term + "\": the model gives no logits; leave the term out");
}

bool is_of_sequences(TaskKind task) {
  return task == TaskKind::kClasses || task == TaskKind::kValue;
}

}  // namespace

LogitRows::LogitRows(const std::string& term, const TermSetting& setting)
    : term_(term), model_(setting.student.model()) {
  const Value& logits = logits_of(term, model_.graph);
  columns_ = logits.type.columns;
  stack_ = logits.type.rows.stack;
  if (logits.type.rows.kind == RowSpace::Kind::kTokens)
    place_ = model_.spec.head == Head::kCausalLm ? Place::kNextTokens : Place::kTokens;

  const bool fits =
      setting.task == TaskKind::kUnlabelled || is_of_sequences(setting.task) == of_sequences();
  require(fits, ErrorCode::kInvalidInput, "term \"", term, "\": the task is about ",
          of_sequences() ? "tokens" : "whole sequences", ", the model (",
          head_name(model_.spec.head), ") gives logits of ",
          of_sequences() ? "whole sequences" : "tokens");
  require((setting.task == TaskKind::kCausalLm) <= of_next_tokens(), ErrorCode::kInvalidInput,
          "term \"", term, "\": the task is about next tokens, which the model (",
          head_name(model_.spec.head), ") does not predict");
  require(setting.task != TaskKind::kValue || columns_ == 1, ErrorCode::kInvalidInput, "term \"",
          term, "\": the task is about one number a sequence, and the model gives ", columns_,
          " logits");
  if (!setting.teacher) return;

  const std::int64_t of_teacher = logits_of(term, setting.teacher->graph()).type.columns;
  require(columns_ == of_teacher, ErrorCode::kInvalidInput, "term \"", term, "\": the student has ",
          columns_, " logits (classes or vocabulary), the teacher ", of_teacher,
          "; leave the term out, or take a teacher with as many");
}

LogitRows::Counted LogitRows::counted(const TrainingBatch& batch) const {
  Counted out;
  if (of_sequences()) {
    out.at = torch::arange(batch.tokens.batch);
    out.labels = batch.labels;
    return out;
  }

  torch::Tensor counts = is_token(tokens_of(model_, batch.tokens, stack_));
  torch::Tensor labels = batch.labels;
  if (labels.defined()) {
    require(labels.sizes() == counts.sizes(), ErrorCode::kInvalidInput, "term \"", term_,
            "\": there are not as many labels as tokens");
    counts = counts.logical_and(labels.ne(kIgnoredLabel));
  }
  if (of_next_tokens()) {
    // The row in front of each counted token; none is in front of the first.
    const torch::Tensor nothing = torch::zeros({counts.size(0), 1}, torch::kBool);
    counts = torch::cat({counts.narrow(1, 1, counts.size(1) - 1), nothing}, 1);
    if (labels.defined()) labels = labels.roll(-1, 1);
  }

  out.at = counts.flatten().nonzero().squeeze(1);
  require(out.at.size(0) > 0, ErrorCode::kInvalidInput, "term \"", term_,
          "\": no position of the batch has a label");
  if (labels.defined()) out.labels = labels.flatten().index_select(0, out.at);
  return out;
}

torch::Tensor logits_at(const TorchOutputs& outputs, const torch::Tensor& rows) {
  const torch::Tensor& all = outputs.values.at("logits");
  return rows.size(0) == all.size(0) ? all : all.index_select(0, rows);
}

}  // namespace quell::train
