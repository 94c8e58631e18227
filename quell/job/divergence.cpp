#include "quell/job/divergence.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "quell/compress/channel_stats.h"
#include "quell/eval/metrics.h"
#include "quell/eval/scoring.h"

namespace quell {
namespace {

struct ErrorEnergy {
  double signal = 0;
  double noise = 0;
};

ErrorEnergy energy_of(std::span<const float> exact, std::span<const float> got) {
  ErrorEnergy out;
  for (std::size_t i = 0; i < exact.size(); ++i) {
    const double x = static_cast<double>(exact[i]);
    const double d = x - static_cast<double>(got[i]);
    out.signal += x * x;
    out.noise += d * d;
  }
  return out;
}

}  // namespace

Divergence::Divergence(const Model& model)
    : spec_(model.spec),
      two_stacks_(model.graph.is_encoder_decoder()),
      output_(model.sentence.defined() ? "embedding" : "last_hidden_state") {
  bool is_there = model.sentence.defined();
  for (const auto& [name, value] : model.graph.outputs) {
    if (name == "logits") output_ = name;
    is_there |= name == output_;
  }
  if (!is_there) output_ = model.graph.outputs.front().first;  // maps and heads of image networks
}

std::string Divergence::words() const {
  if (output_ == "embedding") return "1 - cosine of the sentence embeddings";
  if (output_ == "logits") return "KL divergence of the logits, in nats";
  if (output_ != "last_hidden_state") return "relative squared error of " + output_;
  return "relative squared error of the last hidden states";
}

std::vector<Tensor> Divergence::outputs(const ForwardModel& model,
                                        const std::vector<TokenBatch>& samples,
                                        ExecContext& ctx) const {
  std::vector<Tensor> out;
  for (const TokenBatch& batch : samples) {
    ForwardOutputs result;
    model.forward(batch, result, ctx);
    out.push_back(std::move(result.values.at(output_)));
  }
  return out;
}

Divergences Divergence::between(const std::vector<Tensor>& want, const std::vector<Tensor>& got,
                                const std::vector<TokenBatch>& samples) const {
  Divergences out;
  for (std::size_t b = 0; b < want.size(); ++b) {
    const TokenBatch batch = two_stacks_ ? decoder_batch(spec_, samples[b]) : samples[b];
    const std::int64_t rows_a_sequence = want[b].rows() / batch.batch;

    for (std::int64_t sequence = 0; sequence < batch.batch; ++sequence) {
      double sum = 0;
      double count = 0;
      for (std::int64_t i = sequence * rows_a_sequence; i < (sequence + 1) * rows_a_sequence; ++i) {
        if (!row_counts(want[b], batch, i)) continue;
        const std::span<const float> w = row_of(want[b], i);
        const std::span<const float> g = row_of(got[b], i);

        if (output_ != "logits" && output_ != "embedding") {
          const ErrorEnergy energy = energy_of(w, g);
          sum += energy.noise;
          count += energy.signal;
          continue;
        }
        sum += output_ == "logits" ? kl_divergence(w, g) : 1 - cosine(w, g);
        ++count;
      }
      out.sums.push_back(sum);
      out.counts.push_back(count);
      out.count += count;
    }
  }
  return out;
}

std::vector<std::int64_t> Divergence::top_classes(const std::vector<Tensor>& outputs,
                                                  const std::vector<TokenBatch>& samples) const {
  std::vector<std::int64_t> out;
  for (std::size_t b = 0; b < outputs.size(); ++b) {
    const Tensor& logits = outputs[b];
    const bool of_sequences = output_ == "logits" && logits.rows() == samples[b].batch;
    if (!of_sequences || logits.cols() < 2) return {};

    for (std::int64_t i = 0; i < logits.rows(); ++i)
      out.push_back(static_cast<std::int64_t>(argmax(row_of(logits, i))));
  }
  return out;
}

double Divergences::of(std::size_t sequence) const {
  return counts[sequence] > 0 ? sums[sequence] / counts[sequence] : 0;
}

double Divergences::mean() const { return std::accumulate(sums.begin(), sums.end(), 0.0) / count; }

bool clearly_smaller(const Divergences& better, const Divergences& worse) {
  const auto n = static_cast<double>(worse.sums.size());
  double mean = 0;
  for (std::size_t i = 0; i < worse.sums.size(); ++i) mean += (worse.sums[i] - better.sums[i]) / n;
  double variance = 0;
  for (std::size_t i = 0; i < worse.sums.size(); ++i) {
    const double off = worse.sums[i] - better.sums[i] - mean;
    variance += off * off / std::max(1.0, n - 1);
  }
  return mean > 2 * std::sqrt(variance / n);
}

}  // namespace quell
