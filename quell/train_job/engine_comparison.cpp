#include "quell/train_job/engine_comparison.h"

#include <algorithm>
#include <cmath>
#include <span>

#include "quell/eval/metrics.h"
#include "quell/job/report.h"
#include "quell/train/distance.h"

namespace quell::train {
namespace {

constexpr std::size_t kMostSequences = 64;
constexpr std::int64_t kMostTokens = 2048;
constexpr std::int64_t kTokensOfBatch = 1024;

Tensor logits_of(const ForwardModel& model, const TokenBatch& batch, ExecContext& ctx) {
  ForwardOutputs outputs;
  model.forward(batch, outputs, ctx);
  return std::move(outputs.values.at("logits"));
}

}  // namespace

std::vector<TokenBatch> compared_batches(const TrainingSet& set) {
  const TrainingData data(set, {.batch_size = 1, .seed = 0, .fixed_batches = true});
  std::vector<TokenBatch> out;
  std::vector<std::size_t> rows;
  std::int64_t of_batch = 0;
  std::int64_t tokens = 0;

  const std::size_t count = std::min(kMostSequences, set.sequences.size());
  for (std::size_t row = 0; row < count && tokens < kMostTokens; ++row) {
    rows.push_back(row);
    of_batch += std::ssize(set.sequences[row].ids);
    tokens += std::ssize(set.sequences[row].ids);
    if (of_batch < kTokensOfBatch) continue;
    out.push_back(data.tokens_of(rows));
    rows.clear();
    of_batch = 0;
  }
  if (!rows.empty()) out.push_back(data.tokens_of(rows));
  return out;
}

void Agreement::add(const float* row, const float* other, std::int64_t columns) {
  const auto size = static_cast<std::size_t>(columns);
  for (std::size_t c = 0; c < size; ++c) {
    const double apart = std::abs(row[c] - other[c]);
    if (is_farther(apart, distance)) distance = apart;
    magnitude = std::max<double>(magnitude, std::abs(row[c]));
  }
  if (columns == 1) return;
  ++labels;
  same += argmax(std::span(row, size)) == argmax(std::span(other, size)) ? 1 : 0;
}

std::string Agreement::text() const {
  const std::string apart = format_text("logits differ by at most %.2e", distance);
  if (labels == 0) return apart;
  return format_text("%.2f %% of %lld labels are the same, ", percent(),
                     static_cast<long long>(labels)) +
         apart;
}

EngineComparison compare_engines(const ForwardModel& trained, const ForwardModel& engine,
                                 const ForwardModel* exact, const LogitRows& rows,
                                 const std::vector<TokenBatch>& batches, ExecContext& ctx) {
  EngineComparison out;
  for (const TokenBatch& batch : batches) {
    const Tensor of_training = logits_of(trained, batch, ctx);
    const Tensor of_engine = logits_of(engine, batch, ctx);
    if (exact) {
      const Tensor of_exact = logits_of(*exact, batch, ctx);
      const auto x = of_engine.f32();
      const auto y = of_exact.f32();
      out.engines_agree = out.engines_agree && std::equal(x.begin(), x.end(), y.begin(), y.end());
    }

    TrainingBatch unlabelled;
    unlabelled.tokens = batch;
    const torch::Tensor counted = rows.counted(unlabelled).at.contiguous();
    const std::int64_t* row = counted.data_ptr<std::int64_t>();
    for (std::int64_t i = 0; i < counted.numel(); ++i)
      out.agreement.add(of_training.row(row[i]), of_engine.row(row[i]), of_training.cols());
  }
  return out;
}

}  // namespace quell::train
