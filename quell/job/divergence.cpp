#include "quell/job/divergence.h"

#include "quell/compress/channel_stats.h"
#include "quell/eval/metrics.h"
#include "quell/eval/scoring.h"

namespace quell {

Divergence::Divergence(const Model& model)
    : spec_(model.spec), output_(model.pooling != PoolingKind::kNone ? "embedding" : "last_hidden_state") {
  for (const auto& [name, value] : model.graph.outputs)
    if (name == "logits") output_ = name;
}

std::string Divergence::words() const {
  if (output_ == "embedding") return "1 - cosine of the sentence embeddings";
  if (output_ == "logits") return "KL divergence of the logits, in nats";
  return "relative squared error of the last hidden states";
}

std::vector<Tensor> Divergence::outputs(const ForwardModel& model, const std::vector<TokenBatch>& samples, ExecContext& ctx) const {
  std::vector<Tensor> out;
  for (const TokenBatch& batch : samples) {
    ForwardOutputs result;
    model.forward(batch, result, ctx);
    out.push_back(std::move(result.values.at(output_)));
  }
  return out;
}

double Divergence::between(const std::vector<Tensor>& want, const std::vector<Tensor>& got,
                           const std::vector<TokenBatch>& samples) const {
  double sum = 0, count = 0, signal = 0, noise = 0;
  for (std::size_t b = 0; b < want.size(); ++b) {
    const TokenBatch batch = spec_.stacks.size() > 1 ? decoder_batch(spec_, samples[b]) : samples[b];
    for (std::int64_t i = 0; i < want[b].rows(); ++i) {
      if (!row_counts(want[b], batch, i)) continue;
      const std::span<const float> w = row_of(want[b], i), g = row_of(got[b], i);
      if (output_ == "logits") sum += kl_divergence(w, g);
      if (output_ == "embedding") sum += 1 - cosine(w, g);
      for (std::size_t c = 0; c < w.size(); ++c) {
        const double x = static_cast<double>(w[c]), d = x - static_cast<double>(g[c]);
        signal += x * x;
        noise += d * d;
      }
      ++count;
    }
  }
  return output_ == "last_hidden_state" ? noise / signal : sum / count;
}

}  // namespace quell
