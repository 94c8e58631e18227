#include "quell/eval/evaluate.h"

#include <algorithm>
#include <cmath>
#include <functional>

#include "quell/base/error.h"
#include "quell/eval/glue.h"
#include "quell/eval/metrics.h"
#include "quell/eval/scoring.h"
#include "quell/model/text_encoder.h"
#include "quell/ops/likelihood.h"
#include "quell/text/data/text_file.h"

namespace quell {
namespace {

std::vector<std::vector<float>> embed_all(const ForwardModel& model, const EvalSet& set,
                                          const char* stage, ExecContext& ctx) {
  std::vector<std::vector<float>> out(set.sequences.size());
  for_each_output(
      model, set.sequences, "embedding",
      [&](std::size_t i, const TokenBatch&, std::int64_t r, const Tensor& t) {
        out[i].assign(row_of(t, r).begin(), row_of(t, r).end());
      },
      stage, ctx);
  return out;
}

std::vector<MetricResult> evaluate_sts(const ForwardModel& model, Reference* reference,
                                       const EvalSet& set, ExecContext& ctx) {
  const auto embeddings = embed_all(model, set, "evaluate", ctx);
  std::vector<double> scores;
  for (std::size_t i = 0; i + 1 < embeddings.size(); i += 2)
    scores.push_back(cosine(embeddings[i], embeddings[i + 1]));
  const auto pairs = static_cast<std::int64_t>(scores.size());
  std::vector<MetricResult> out = {{"spearman", spearman(scores, set.labels), pairs},
                                   {"pearson", pearson(scores, set.labels), pairs}};
  if (!reference) return out;
  if (reference->embeddings.empty())
    reference->embeddings = embed_all(*reference->model, set, "reference", ctx);
  const auto& expected = reference->embeddings;
  double sum = 0, low = 1;
  for (std::size_t i = 0; i < embeddings.size(); ++i) {
    const double c = cosine(embeddings[i], expected[i]);
    sum += c;
    low = std::min(low, c);
  }
  const auto n = static_cast<std::int64_t>(embeddings.size());
  out.push_back({"cosine_mean", sum / static_cast<double>(n), n});
  out.push_back({"cosine_min", low, n});
  return out;
}

/// Sums of KL divergence and of equal most likely tokens.
struct Agreement {
  double kl = 0, same = 0;
  std::int64_t count = 0;
  void add(std::span<const float> reference, std::span<const float> logits) {
    kl += kl_divergence(reference, logits);
    same += argmax(reference) == argmax(logits) ? 1 : 0;
    ++count;
  }
  void append_to(std::vector<MetricResult>& out) const {
    if (count == 0) return;
    out.push_back({"kl", kl / static_cast<double>(count), count});
    out.push_back({"top1_agreement", 100 * same / static_cast<double>(count), count});
  }
};

/// Runs both models batch by batch and calls `sink(sequence, batch, row, logits, reference logits
/// or null)`.
void for_each_logits(const ForwardModel& model, const ForwardModel* reference, const EvalSet& set,
                     ExecContext& ctx,
                     const std::function<void(std::size_t, const TokenBatch&, std::int64_t,
                                              const Tensor&, const Tensor*)>& sink) {
  const Tensor* expected = nullptr;
  ForwardOutputs expected_outputs;
  for_each_output(
      model, set.sequences, "logits",
      [&](std::size_t i, const TokenBatch& batch, std::int64_t r, const Tensor& logits) {
        if (reference && r == 0) {
          reference->forward(batch, expected_outputs, ctx);
          expected = &expected_outputs.values.at("logits");
          require(expected->shape() == logits.shape(), ErrorCode::kInvalidInput,
                  "the reference model gives logits of shape ", expected->shape().to_string(),
                  ", this one ", logits.shape().to_string());
        }
        sink(i, batch, r, logits, expected);
      },
      "evaluate", ctx);
}

std::vector<int> read_classes(const EvalSet& set, std::int64_t classes) {
  std::vector<int> expected;
  for (const double label : set.labels) {
    require(label >= 0 && label < static_cast<double>(classes) && label == std::floor(label),
            ErrorCode::kInvalidInput, set.source, ": label ", label, " is not a class from 0 to ",
            classes - 1);
    expected.push_back(static_cast<int>(label));
  }
  return expected;
}

std::vector<MetricResult> class_metrics(const std::vector<int>& predicted,
                                        const std::vector<int>& expected, std::int64_t classes) {
  const auto n = static_cast<std::int64_t>(predicted.size());
  std::vector<MetricResult> out = {{"accuracy", accuracy(predicted, expected), n}};
  if (classes == 2) out.push_back({"f1", f1(predicted, expected), n});
  out.push_back({"matthews", matthews(predicted, expected), n});
  return out;
}

std::vector<MetricResult> evaluate_probe(const ForwardModel& model, const ForwardModel* reference,
                                         const EvalSet& set, ExecContext& ctx) {
  const std::int64_t classes = set.probe->weight.rows();
  const std::vector<int> predicted = predict(*set.probe, model, set.sequences, ctx);
  std::vector<MetricResult> out = class_metrics(predicted, read_classes(set, classes), classes);
  if (!reference) return out;
  const auto n = static_cast<std::int64_t>(predicted.size());
  out.push_back({"top1_agreement",
                 accuracy(predicted, predict(*set.probe, *reference, set.sequences, ctx)), n});
  return out;
}

std::vector<MetricResult> evaluate_classification(const ForwardModel& model,
                                                  const ForwardModel* reference, const EvalSet& set,
                                                  ExecContext& ctx) {
  std::vector<int> predicted(set.sequences.size());
  std::vector<double> scores(set.sequences.size());
  Agreement agreement;
  std::int64_t classes = 0;
  for_each_logits(model, reference, set, ctx,
                  [&](std::size_t i, const TokenBatch&, std::int64_t r, const Tensor& logits,
                      const Tensor* ref) {
                    classes = logits.cols();
                    predicted[i] = argmax(row_of(logits, r));
                    scores[i] = static_cast<double>(logits.row(r)[0]);
                    if (ref && classes > 1) agreement.add(row_of(*ref, r), row_of(logits, r));
                  });
  const auto n = static_cast<std::int64_t>(predicted.size());
  if (classes == 1)
    return {{"spearman", spearman(scores, set.labels), n},
            {"pearson", pearson(scores, set.labels), n}};
  std::vector<MetricResult> out = class_metrics(predicted, read_classes(set, classes), classes);
  agreement.append_to(out);
  return out;
}

/// Tokens with labels: masked ones, or the next token of running text. Accuracy is reported for the
/// former.
std::vector<MetricResult> evaluate_tokens(const ForwardModel& model, Reference* reference,
                                          bool masked, const EvalSet& set, ExecContext& ctx) {
  double right = 0, nll = 0;
  std::int64_t count = 0;
  TokenStatistics statistics;
  const auto score = [&](const Tensor& logits, const Tensor* ref, std::int64_t i,
                         std::int32_t label) {
    require(label < logits.cols(), ErrorCode::kInvalidInput, set.source, ": token id ", label,
            " is outside the vocabulary of ", logits.cols());
    right += argmax(row_of(logits, i)) == label ? 1 : 0;
    nll += negative_log_likelihood(row_of(logits, i), label);
    ++count;
    if (ref) statistics.add(row_of(*ref, i), row_of(logits, i), label);
  };
  for_each_logits(model, reference ? reference->model : nullptr, set, ctx,
                  [&](std::size_t, const TokenBatch& batch, std::int64_t r, const Tensor& logits,
                      const Tensor* ref) {
                    for (std::int64_t i = r * batch.length; i < (r + 1) * batch.length; ++i)
                      if (const auto at = static_cast<std::size_t>(i);
                          batch.labels[at] >= 0 && batch.mask[at])
                        score(logits, ref, i, batch.labels[at]);
                  });
  require(count > 0, ErrorCode::kInvalidInput, set.source, ": no token has a label");
  std::vector<MetricResult> out;
  if (masked) out.push_back({"accuracy", 100 * right / static_cast<double>(count), count});
  if (set.words > 0) {
    out.push_back(
        {"word_perplexity", std::exp(nll / set.words), static_cast<std::int64_t>(set.words)});
    out.push_back(
        {"byte_perplexity", std::exp(nll / set.bytes), static_cast<std::int64_t>(set.bytes)});
    out.push_back(
        {"bits_per_byte", nll / set.bytes / std::log(2.0), static_cast<std::int64_t>(set.bytes)});
  }
  out.push_back({"perplexity", std::exp(nll / static_cast<double>(count)), count});
  if (statistics.count() > 0) {
    out.push_back({"kl", statistics.mean_kl(), count});
    out.push_back({"top1_agreement", statistics.same_top(), count});
    reference->tokens = std::move(statistics);
  }
  return out;
}

/// LAMBADA: is the last word the most likely one, and its perplexity.
std::vector<MetricResult> lambada_metrics(const std::vector<SequenceScore>& scores) {
  double right = 0, sum = 0;
  for (const SequenceScore& s : scores) {
    right += s.greedy ? 1 : 0;
    sum += s.log_likelihood;
  }
  const auto n = static_cast<double>(scores.size());
  return {{"accuracy", 100 * right / n, static_cast<std::int64_t>(scores.size())},
          {"perplexity", std::exp(-sum / n), static_cast<std::int64_t>(scores.size())}};
}

/// Accuracy by likelihood, and by likelihood over the number of characters.
std::vector<MetricResult> choice_metrics(const EvalSet& set,
                                         const std::vector<SequenceScore>& scores) {
  double plain = 0, normalized = 0;
  for (const ChoiceQuestion& q : set.questions) {
    const auto best = [&](bool by_length) {
      std::size_t chosen = 0;
      double top = -INFINITY;
      for (std::size_t c = 0; c < q.count; ++c) {
        const double value = scores[q.first + c].log_likelihood / (by_length ? q.lengths[c] : 1.0);
        if (value > top) {
          top = value;
          chosen = c;
        }
      }
      return chosen;
    };
    plain += best(false) == q.gold ? 1 : 0;
    normalized += best(true) == q.gold ? 1 : 0;
  }
  const auto n = static_cast<double>(set.questions.size());
  return {{"accuracy", 100 * plain / n, static_cast<std::int64_t>(n)},
          {"accuracy_norm", 100 * normalized / n, static_cast<std::int64_t>(n)}};
}

bool is_choice(const std::string& task) {
  return std::find(choice_task_names().begin(), choice_task_names().end(), task) !=
         choice_task_names().end();
}

/// What a task is computed as. A model with one output and no pooling predicts stsb by its head.
std::string kind_of(const std::string& task, const Model& model) {
  const GlueTask* glue = find_glue(task);
  if (!glue) return task;
  return std::string(glue->kind) == "sts" && !model.sentence.defined() ? "classification"
                                                                       : glue->kind;
}

/// Rows [skip, skip + limit).
template <typename Row>
void keep_rows(const EvalOptions& options, std::vector<Row>& rows) {
  rows.erase(rows.begin(), rows.begin() + std::min<std::ptrdiff_t>(options.skip, std::ssize(rows)));
  if (options.limit > 0 && std::ssize(rows) > options.limit)
    rows.resize(static_cast<std::size_t>(options.limit));
}

/// Means in per cent; those of version 2 also for questions with and without an answer.
std::vector<MetricResult> squad_metrics(const SquadScores& scores, bool version2) {
  const SquadTotal &with = scores.with_answer, &without = scores.without_answer;
  const SquadTotal all{with.exact + without.exact, with.f1 + without.f1,
                       with.count + without.count};
  std::vector<MetricResult> out;
  const auto add = [&](const char* exact, const char* f1, const SquadTotal& total) {
    if (total.count == 0) return;
    out.push_back({exact, 100 * total.exact / static_cast<double>(total.count), total.count});
    out.push_back({f1, 100 * total.f1 / static_cast<double>(total.count), total.count});
  };
  add("exact_match", "f1", all);
  if (!version2) return out;
  add("has_answer_exact_match", "has_answer_f1", with);
  add("no_answer_exact_match", "no_answer_f1", without);
  return out;
}

void check_examples(const std::string& kind, const Dataset& data, const Model& model) {
  for (const Example& e : data.examples) {
    if (kind == "sts") {
      require(model.sentence.defined(), ErrorCode::kUsage, model.dir.root().string(),
              ": no modules.json with a Pooling; sts needs a sentence-embedding model");
      require(e.texts.size() == 2 && e.label, ErrorCode::kUsage, data.source, ":", e.line,
              ": sts needs two text columns and a label; choose with --text-column A,B "
              "--label-column C");
    } else if (kind == "classification") {
      require(e.label.has_value(), ErrorCode::kUsage, data.source, ":", e.line,
              ": classification needs a label; choose with --label-column");
    } else {
      require(!e.tokens.labels.empty(), ErrorCode::kUsage, data.source,
              ": masked-lm needs a .safetensors file with input_ids and labels");
    }
  }
}

}  // namespace

const std::vector<std::string>& task_names() {
  static const std::vector<std::string> names = [] {
    std::vector<std::string> n = {"sts", "classification", "masked-lm", "perplexity", "squad"};
    for (const GlueTask& t : glue_tasks()) n.emplace_back(t.name);
    n.insert(n.end(), choice_task_names().begin(), choice_task_names().end());
    return n;
  }();
  return names;
}

bool is_perplexity(const std::string& task) { return task == "perplexity"; }

EvalSet load_eval_set(const EvalOptions& options, const DataChoice& choice, const Model& model) {
  require(std::find(task_names().begin(), task_names().end(), options.task) != task_names().end(),
          ErrorCode::kUsage, "--task ", options.task, " is unknown");
  EvalSet set;
  set.source = choice.file.string();
  const std::int64_t longest = longest_text(model);
  const std::int64_t length =
      options.max_seq_length > 0
          ? std::min(options.max_seq_length, model.spec.max_position_embeddings)
          : longest;
  if (is_choice(options.task)) {
    ChoiceSet c = load_choice_task(options.task, choice.file, open_tokenizer(model), model,
                                   options.skip, options.limit);
    set.sequences = std::move(c.sequences);
    set.questions = std::move(c.questions);
    return set;
  }
  if (options.task == "squad") {
    set.tokenizer = open_tokenizer(model);
    set.squad = read_squad(choice.file);
    keep_rows(options, set.squad.questions);
    set.max_length = std::min<std::int64_t>(length, options.max_seq_length > 0 ? length : 384);
    leave_out_long_questions(set.squad, *set.tokenizer, set.max_length, set.source);
    require(!set.squad.questions.empty(), ErrorCode::kInvalidInput, set.source,
            ": no rows left to evaluate");
    return set;
  }
  const std::string kind = kind_of(options.task, model);
  Dataset data = read_dataset(choice.file, task_columns(options.task, choice));
  const auto tokenizer = open_tokenizer_for(data, model);
  if (is_perplexity(kind)) {
    PerplexitySet p =
        make_perplexity_set({options.protocol, options.window, options.skip, options.limit}, data,
                            tokenizer.get(), model);
    set.sequences = std::move(p.sequences);
    set.words = p.words;
    set.bytes = p.bytes;
    return set;
  }
  keep_rows(options, data.examples);
  require(!data.examples.empty(), ErrorCode::kInvalidInput, data.source,
          ": no rows left to evaluate");
  check_examples(kind, data, model);
  for (const Example& e : data.examples)
    if (e.label) set.labels.push_back(*e.label);
  if (!options.probe.empty()) set.probe = read_linear_probe(options.probe, model);
  const bool apart = kind == "sts" || (set.probe && set.probe->pair);
  const bool prompted = apart && model.sentence.defined();
  if (prompted) prepend_default_prompt(model, data);
  set.sequences = tokenize_examples(data, tokenizer.get(),
                                    apart ? PairMode::kSeparate : PairMode::kPair, length);
  if (prompted) note_default_prompt(model, tokenizer.get(), set.sequences);
  return set;
}

std::vector<MetricResult> evaluate(const ForwardModel& model, Reference* reference,
                                   const EvalOptions& options, const EvalSet& set,
                                   ExecContext& ctx) {
  if (!set.squad.questions.empty())
    return squad_metrics(evaluate_squad(model, *set.tokenizer, set.squad, set.max_length, ctx),
                         set.squad.version2);
  if (!set.questions.empty()) {
    const std::vector<SequenceScore> scores = score_labels(model, set.sequences, ctx);
    return options.task == "lambada" ? lambada_metrics(scores) : choice_metrics(set, scores);
  }
  const ForwardModel* other = reference ? reference->model : nullptr;
  if (set.probe) return evaluate_probe(model, other, set, ctx);
  const std::string kind = kind_of(options.task, model.model());
  if (kind == "sts") return evaluate_sts(model, reference, set, ctx);
  if (kind == "classification") return evaluate_classification(model, other, set, ctx);
  return evaluate_tokens(model, reference, kind == "masked-lm", set, ctx);
}

}  // namespace quell
