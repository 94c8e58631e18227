#include "quell/eval/scoring.h"

#include "quell/base/error.h"
#include "quell/eval/metrics.h"
#include "quell/ops/likelihood.h"

namespace quell {
namespace {

constexpr std::int64_t kScoredTokens = 2048;

}  // namespace

std::span<const float> row_of(const Tensor& t, std::int64_t i) {
  return {t.row(i), static_cast<std::size_t>(t.cols())};
}

void for_each_forward(const ForwardModel& model, const std::vector<TokenSequence>& sequences,
                      bool hidden_states, const ForwardSink& sink, const std::string& stage,
                      ExecContext& ctx) {
  std::int64_t done = 0;
  for (const std::vector<std::size_t>& group : group_by_length(sequences, kScoredTokens)) {
    const TokenBatch batch = make_batch(sequences, group, model.model().spec.pad_token_id);
    ForwardOutputs outputs;
    outputs.want_hidden_states = hidden_states;
    model.forward(batch, outputs, ctx);
    for (std::size_t r = 0; r < group.size(); ++r)
      sink(group[r], batch, static_cast<std::int64_t>(r), outputs);
    done += static_cast<std::int64_t>(group.size());
    ctx.progress(stage, done, static_cast<std::int64_t>(sequences.size()));
  }
}

void for_each_output(const ForwardModel& model, const std::vector<TokenSequence>& sequences,
                     const std::string& output, const OutputSink& sink, const std::string& stage,
                     ExecContext& ctx) {
  for_each_forward(
      model, sequences, false,
      [&](std::size_t i, const TokenBatch& batch, std::int64_t r, const ForwardOutputs& outputs) {
        const auto it = outputs.values.find(output);
        require(it != outputs.values.end(), ErrorCode::kUsage, "this model gives no \"", output,
                "\"; choose another task");
        sink(i, batch, r, it->second);
      },
      stage, ctx);
}

std::vector<SequenceScore> score_labels(const ForwardModel& model,
                                        const std::vector<TokenSequence>& sequences,
                                        ExecContext& ctx) {
  std::vector<SequenceScore> scores(sequences.size());
  for_each_output(
      model, sequences, "logits",
      [&](std::size_t index, const TokenBatch& batch, std::int64_t r, const Tensor& logits) {
        SequenceScore& score = scores[index];
        for (std::int64_t i = r * batch.length; i < (r + 1) * batch.length; ++i) {
          const std::int32_t label = batch.labels[static_cast<std::size_t>(i)];
          if (label < 0) continue;
          require(label < logits.cols(), ErrorCode::kInvalidInput, "token id ", label,
                  " is outside the vocabulary of ", logits.cols());
          score.log_likelihood -= negative_log_likelihood(row_of(logits, i), label);
          score.greedy = score.greedy && argmax(row_of(logits, i)) == label;
          ++score.count;
        }
      },
      "evaluate", ctx);
  return scores;
}

}  // namespace quell
