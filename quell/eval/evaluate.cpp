#include "quell/eval/evaluate.h"

#include <algorithm>
#include <cmath>
#include <functional>

#include "quell/base/error.h"
#include "quell/eval/metrics.h"

namespace quell {
namespace {

constexpr std::int64_t kBatchTokens = 2048;

std::span<const float> row_of(const Tensor& t, std::int64_t i) { return {t.row(i), static_cast<std::size_t>(t.cols())}; }

/// Runs `model` over all sequences in batches of similar length; `sink(sequence index, batch, row in batch, output)`.
using Sink = std::function<void(std::size_t, const TokenBatch&, std::int64_t, const Tensor&)>;
void for_each_output(const ForwardModel& model, const std::vector<TokenSequence>& sequences, const std::string& output,
                     const Sink& sink, const std::string& stage, ExecContext& ctx) {
  std::int64_t done = 0;
  for (const std::vector<std::size_t>& group : group_by_length(sequences, kBatchTokens)) {
    const TokenBatch batch = make_batch(sequences, group, model.model().spec.pad_token_id);
    ForwardOutputs outputs;
    model.forward(batch, outputs, ctx);
    const auto it = outputs.values.find(output);
    require(it != outputs.values.end(), ErrorCode::kUsage, "this model gives no \"", output, "\"; choose another task");
    for (std::size_t r = 0; r < group.size(); ++r) sink(group[r], batch, static_cast<std::int64_t>(r), it->second);
    done += static_cast<std::int64_t>(group.size());
    ctx.progress(stage, done, static_cast<std::int64_t>(sequences.size()));
  }
}

std::vector<std::vector<float>> embed_all(const ForwardModel& model, const EvalSet& set, const char* stage, ExecContext& ctx) {
  std::vector<std::vector<float>> out(set.sequences.size());
  for_each_output(
      model, set.sequences, "embedding",
      [&](std::size_t i, const TokenBatch&, std::int64_t r, const Tensor& t) {
        out[i].assign(row_of(t, r).begin(), row_of(t, r).end());
      },
      stage, ctx);
  return out;
}

std::vector<MetricResult> evaluate_sts(const ForwardModel& model, Reference* reference, const EvalSet& set, ExecContext& ctx) {
  const auto embeddings = embed_all(model, set, "evaluate", ctx);
  std::vector<double> scores;
  for (std::size_t i = 0; i + 1 < embeddings.size(); i += 2) scores.push_back(cosine(embeddings[i], embeddings[i + 1]));
  const auto pairs = static_cast<std::int64_t>(scores.size());
  std::vector<MetricResult> out = {{"spearman", spearman(scores, set.labels), pairs},
                                   {"pearson", pearson(scores, set.labels), pairs}};
  if (!reference) return out;
  if (reference->embeddings.empty()) reference->embeddings = embed_all(*reference->model, set, "reference", ctx);
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

/// Runs both models batch by batch and calls `sink(sequence, batch, row, logits, reference logits or null)`.
void for_each_logits(const ForwardModel& model, const ForwardModel* reference, const EvalSet& set, ExecContext& ctx,
                     const std::function<void(std::size_t, const TokenBatch&, std::int64_t, const Tensor&, const Tensor*)>& sink) {
  const Tensor* expected = nullptr;
  ForwardOutputs expected_outputs;
  for_each_output(
      model, set.sequences, "logits",
      [&](std::size_t i, const TokenBatch& batch, std::int64_t r, const Tensor& logits) {
        if (reference && r == 0) {
          reference->forward(batch, expected_outputs, ctx);
          expected = &expected_outputs.values.at("logits");
          require(expected->shape() == logits.shape(), ErrorCode::kInvalidInput, "the reference model gives logits of shape ",
                  expected->shape().to_string(), ", this one ", logits.shape().to_string());
        }
        sink(i, batch, r, logits, expected);
      },
      "evaluate", ctx);
}

std::vector<MetricResult> evaluate_classification(const ForwardModel& model, const ForwardModel* reference, const EvalSet& set,
                                                  ExecContext& ctx) {
  std::vector<int> predicted(set.sequences.size()), expected;
  std::vector<double> scores(set.sequences.size());
  Agreement agreement;
  std::int64_t classes = 0;
  for_each_logits(model, reference, set, ctx,
                  [&](std::size_t i, const TokenBatch&, std::int64_t r, const Tensor& logits, const Tensor* ref) {
                    classes = logits.cols();
                    predicted[i] = argmax(row_of(logits, r));
                    scores[i] = static_cast<double>(logits.row(r)[0]);
                    if (ref && classes > 1) agreement.add(row_of(*ref, r), row_of(logits, r));
                  });
  const auto n = static_cast<std::int64_t>(predicted.size());
  if (classes == 1) return {{"spearman", spearman(scores, set.labels), n}, {"pearson", pearson(scores, set.labels), n}};
  for (const double label : set.labels) {
    require(label >= 0 && label < static_cast<double>(classes) && label == std::floor(label), ErrorCode::kInvalidInput, set.source,
            ": label ", label, " is not a class from 0 to ", classes - 1);
    expected.push_back(static_cast<int>(label));
  }
  std::vector<MetricResult> out = {{"accuracy", accuracy(predicted, expected), n}};
  if (classes == 2) out.push_back({"f1", f1(predicted, expected), n});
  out.push_back({"matthews", matthews(predicted, expected), n});
  agreement.append_to(out);
  return out;
}

/// Tokens with labels: masked ones, or the next token of running text. Accuracy is reported for the former.
std::vector<MetricResult> evaluate_tokens(const ForwardModel& model, const ForwardModel* reference, bool masked, const EvalSet& set,
                                          ExecContext& ctx) {
  double right = 0, nll = 0;
  std::int64_t count = 0;
  Agreement agreement;
  const auto score = [&](const Tensor& logits, const Tensor* ref, std::int64_t i, std::int32_t label) {
    require(label < logits.cols(), ErrorCode::kInvalidInput, set.source, ": token id ", label, " is outside the vocabulary of ",
            logits.cols());
    right += argmax(row_of(logits, i)) == label ? 1 : 0;
    nll += negative_log_likelihood(row_of(logits, i), label);
    ++count;
    if (ref) agreement.add(row_of(*ref, i), row_of(logits, i));
  };
  for_each_logits(model, reference, set, ctx,
                  [&](std::size_t, const TokenBatch& batch, std::int64_t r, const Tensor& logits, const Tensor* ref) {
                    for (std::int64_t i = r * batch.length; i < (r + 1) * batch.length; ++i)
                      if (const auto at = static_cast<std::size_t>(i); batch.labels[at] >= 0 && batch.mask[at])
                        score(logits, ref, i, batch.labels[at]);
                  });
  require(count > 0, ErrorCode::kInvalidInput, set.source, ": no token has a label");
  std::vector<MetricResult> out;
  if (masked) out.push_back({"accuracy", 100 * right / static_cast<double>(count), count});
  out.push_back({"perplexity", std::exp(nll / static_cast<double>(count)), count});
  agreement.append_to(out);
  return out;
}

std::vector<std::int32_t> token_stream(const Dataset& data, const Tokenizer* tokenizer) {
  if (!data.stream.empty()) return data.stream;
  std::vector<std::int32_t> ids;
  if (!data.raw_text.empty()) {
    require(tokenizer, ErrorCode::kInvalidInput, data.source, ": holds text, and the model directory has no tokenizer");
    return tokenizer->encode(data.raw_text).ids;
  }
  for (const TokenSequence& s : tokenize_examples(data, tokenizer, PairMode::kSeparate, 0))
    ids.insert(ids.end(), s.ids.begin(), s.ids.end());
  return ids;
}

/// Windows of `window` inputs; labels hold the next token (`windows`), or the next token inside the window (`gptq`).
void cut_windows(const EvalOptions& options, std::vector<std::int32_t> ids, const Model& model, EvalSet& set) {
  const bool gptq = options.protocol == "gptq";
  require(gptq || options.protocol == "windows" || options.protocol.empty(), ErrorCode::kUsage, "--protocol ", options.protocol,
          " is unknown; use gptq or windows");
  const std::int64_t context = model.spec.max_position_embeddings;
  const std::int64_t window = options.window > 0 ? options.window : std::min<std::int64_t>(2048, context);
  require(window >= 2 && window <= context, ErrorCode::kUsage, "--window ", window, ": use 2 to ", context,
          ", the model's context");
  const auto total = static_cast<std::int64_t>(ids.size());
  for (std::int64_t begin = options.skip * window; begin + window + (gptq ? 0 : 1) <= total; begin += window) {
    if (options.limit > 0 && static_cast<std::int64_t>(set.sequences.size()) == options.limit) break;
    TokenSequence s;
    s.ids.assign(ids.begin() + begin, ids.begin() + begin + window);
    s.labels.assign(static_cast<std::size_t>(window), -100);
    for (std::int64_t i = 0; i < window - (gptq ? 1 : 0); ++i)
      s.labels[static_cast<std::size_t>(i)] = ids[static_cast<std::size_t>(begin + i + 1)];
    set.sequences.push_back(std::move(s));
  }
  require(!set.sequences.empty(), ErrorCode::kInvalidInput, set.source, ": ", total, " tokens are fewer than one window of ",
          window);
}

}  // namespace

std::vector<std::string> task_names() { return {"sts", "classification", "masked-lm", "perplexity"}; }

EvalSet load_eval_set(const EvalOptions& options, const Dataset& data, const Tokenizer* tokenizer, const Model& model) {
  EvalSet set;
  set.source = data.source;
  if (options.task == "perplexity") {
    cut_windows(options, token_stream(data, tokenizer), model, set);
    return set;
  }
  Dataset rows = data;
  const auto skip = std::min(static_cast<std::size_t>(options.skip), rows.examples.size());
  rows.examples.erase(rows.examples.begin(), rows.examples.begin() + static_cast<std::ptrdiff_t>(skip));
  if (options.limit > 0 && rows.examples.size() > static_cast<std::size_t>(options.limit))
    rows.examples.resize(static_cast<std::size_t>(options.limit));
  require(!rows.examples.empty(), ErrorCode::kInvalidInput, data.source, ": no rows left to evaluate");
  const std::int64_t length = std::min(options.max_seq_length > 0 ? options.max_seq_length
                                       : model.max_seq_length > 0 ? model.max_seq_length
                                                                  : model.spec.max_position_embeddings,
                                       model.spec.max_position_embeddings);
  if (options.task == "sts") {
    require(model.pooling != PoolingKind::kNone, ErrorCode::kUsage, model.dir.string(),
            ": no 1_Pooling/config.json; sts needs a sentence-embedding model");
    for (const Example& e : rows.examples)
      require(e.texts.size() == 2 && e.label, ErrorCode::kUsage, data.source,
              ": sts needs two text columns and a label; choose with --text-column A,B --label-column C");
  } else if (options.task == "classification") {
    for (const Example& e : rows.examples)
      require(e.label.has_value(), ErrorCode::kUsage, data.source, ": classification needs a label; choose with --label-column");
  } else {
    require(options.task == "masked-lm", ErrorCode::kUsage, "--task ", options.task,
            " is unknown; use sts, classification, masked-lm or perplexity");
    for (const Example& e : rows.examples)
      require(!e.tokens.labels.empty(), ErrorCode::kUsage, data.source,
              ": masked-lm needs a .safetensors file with input_ids and labels");
  }
  for (const Example& e : rows.examples)
    if (e.label) set.labels.push_back(*e.label);
  set.sequences = tokenize_examples(rows, tokenizer, options.task == "sts" ? PairMode::kSeparate : PairMode::kPair, length);
  return set;
}

std::vector<MetricResult> evaluate(const ForwardModel& model, Reference* reference, const EvalOptions& options, const EvalSet& set,
                                   ExecContext& ctx) {
  if (options.task == "sts") return evaluate_sts(model, reference, set, ctx);
  const ForwardModel* other = reference ? reference->model : nullptr;
  if (options.task == "classification") return evaluate_classification(model, other, set, ctx);
  return evaluate_tokens(model, other, options.task == "masked-lm", set, ctx);
}

}  // namespace quell
