#include "quell/compress/calibration.h"

#include <algorithm>
#include <numeric>
#include <span>

#include "quell/compress/channel_stats.h"
#include "quell/quant/quantize.h"

namespace quell {

namespace {

/// Every so many pixels of an image are enough for a search over its values; a step that walks
/// through all columns of the image.
std::int64_t thinning(std::int64_t pixels, std::int64_t channels) {
  constexpr std::int64_t kValues = std::int64_t{1} << 15;
  std::int64_t step = std::max<std::int64_t>(1, pixels * channels / kValues);
  while (std::gcd(step, pixels) > 1) ++step;
  return step;
}

}  // namespace

void observe_rows(Observer& observer, const TensorView& x, const TokenBatch& batch,
                  const std::string& name) {
  // An image is a batch of its own: its pixels are as many rows as a batch of texts has.
  const bool by_image = !batch.pixels.empty() && (batch.length == 1 || x.rows() != batch.rows());
  const std::int64_t parts = by_image ? batch.batch : 1;
  const std::int64_t rows_a_part = x.rows() / parts;
  const std::int64_t step = by_image && observer.searches() ? thinning(rows_a_part, x.cols()) : 1;
  std::vector<std::span<const float>> rows;
  for (std::int64_t part = 0; part < parts; ++part) {
    rows.clear();
    for (std::int64_t i = part * rows_a_part; i < (part + 1) * rows_a_part; i += step)
      if (row_counts(x, batch, i)) rows.emplace_back(x.row(i), static_cast<std::size_t>(x.cols()));
    for (const std::span<const float> row : rows)
      range_of(row, name);  // throws where a value is not finite
    if (!rows.empty()) observer.observe(rows);
  }
}

void observe_attention(int node, const PointObservers& observers, Executor& executor,
                       const Model& model, const std::function<void(AttentionPoint)>& seen) {
  const Node& attention = model.graph.node(node);
  const std::string name = model.node_name(node);
  PointTap tap(executor, [&](NodeId, AttentionPoint point, const TensorView& operand, Range probs) {
    const auto it = observers.find(point);
    if (it == observers.end()) return;
    if (point == AttentionPoint::kProbs) {
      it->second->observe(probs);
    } else {
      const ValueId value = attention.in[static_cast<std::size_t>(
          point)];  // keys of a cross-attention are the encoder's tokens
      observe_rows(*it->second, operand, executor.batch_of(value), name);
    }
    if (seen) seen(point);
  });
  executor.on_attention = std::ref(tap);
  executor.keep_values = true;
  executor.run(node);
  executor.keep_values = false;
  executor.on_attention = nullptr;
}

void LaterRanges::add(const Site& site, std::unique_ptr<Observer> observer) {
  std::vector<ValueId> values;
  for (const ChangedValue& v : site.values) values.push_back(v.value);
  sites_.push_back({site.name, std::move(values), std::move(observer)});
}

void LaterRanges::add(int attention, AttentionPoint point, std::unique_ptr<Observer> observer) {
  attentions_[attention][point] = std::move(observer);
}

void LaterRanges::calibrate(Model& model, const OpTable& ops,
                            const std::vector<TokenBatch>& samples, ExecContext& ctx) {
  std::map<ValueId, OfSite*> by_value;  // as linears read it
  for (OfSite& site : sites_)
    for (const ValueId v : site.values) by_value[migrated(model.graph, v)] = &site;
  const NodeId last = last_node(model);
  // Attentions change while they run: beside the model, which takes over what comes out.
  now_ = quantizers_of(model);
  Quantization changing(Rounding::kDivide);
  changing.overlay = &now_;

  for (std::size_t b = 0; b < samples.size(); ++b) {
    Executor executor(model, ops, changing, samples[b], ctx);
    for (const NodeId n : model.graph.order()) {
      if (const auto it = attentions_.find(n); it != attentions_.end())
        calibrate_attention(n, it->second, executor, model);
      executor.run(n);

      const ValueId out = model.graph.node(n).out;
      if (const auto it = by_value.find(out); it != by_value.end())
        calibrate_site(*it->second, out, executor, model);
      executor.spill();
      if (n == last) break;
    }
    ctx.progress("calibrate", static_cast<std::int64_t>(b) + 1,
                 static_cast<std::int64_t>(samples.size()));
  }
  for (auto& [node, quant] : now_.attention)
    set_attention_quant(model.graph, node, std::move(quant));
}

void LaterRanges::calibrate_site(OfSite& site, ValueId value, const Executor& executor,
                                 Model& model) {
  observe_rows(*site.observer, executor.value(value), executor.batch_of(value), site.name);
  for (const ValueId v : site.values) {
    const NodeId node = quantize_node(model.graph, v);
    if (node == kNoNode) continue;  // no linear of the site reads it
    ActivationQuant quant = quantizer_of(model.graph.node(node));
    quant.qparams = calculate_qparams(site.observer->range(), quant.spec);
    model.graph.set_attributes(node, Attributes::of(quant));
    now_.inputs[v] = quant;
  }
}

void LaterRanges::calibrate_attention(int node, const PointObservers& observers, Executor& executor,
                                      const Model& model) {
  // The probabilities are shown when all of them are computed, and quantized with the old range:
  // this output is thrown away.
  AttentionQuant& quant = now_.attention.at(node);
  observe_attention(node, observers, executor, model, [&](AttentionPoint point) {
    std::optional<ActivationQuant>& at = *quant.points()[static_cast<std::size_t>(point)];
    at->qparams = calculate_qparams(observers.at(point)->range(), at->spec);
  });
}

NodeId LaterRanges::last_node(const Model& model) const {
  const Graph& graph = model.graph;
  NodeId last = kNoNode;
  const auto see = [&](NodeId n) {
    if (last == kNoNode || graph.position(n) > graph.position(last)) last = n;
  };
  for (const auto& [node, observers] : attentions_) see(node);
  for (const OfSite& site : sites_)
    for (const ValueId v : site.values) see(graph.producer(migrated(graph, v)));
  return last;
}

}  // namespace quell
