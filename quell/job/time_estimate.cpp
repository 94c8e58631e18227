#include "quell/job/time_estimate.h"

#include <algorithm>
#include <chrono>
#include <map>
#include <set>
#include <utility>

#include "quell/base/mute_log.h"
#include "quell/compress/compress.h"
#include "quell/compress/pass.h"

namespace quell {
namespace {

constexpr std::int64_t kFewTokens = 256, kMoreTokens = 768;  // of the two trials
constexpr double kSettledSeconds = 0.5;  // of trials that are repeated on other layers
constexpr int kMostLayers = 4;
constexpr double kSimulated =
    2.5;  // a pass of the quantized model, simulated, beside one of the float model

template <typename Work>
double seconds_of(const Work& work) {
  const auto start = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

std::int64_t tokens_of(const std::vector<TokenBatch>& batches) {
  std::int64_t tokens = 0;
  for (const TokenBatch& b : batches) tokens += b.rows();
  return tokens;
}

/// Two batches, as passes that judge on held-out ones need, of about `tokens` tokens together.
std::vector<TokenBatch> part_of(const std::vector<TokenBatch>& samples, std::int64_t tokens) {
  std::vector<TokenBatch> out;
  for (std::size_t b = 0; b < std::min<std::size_t>(2, samples.size()); ++b)
    out.push_back(
        first_sequences(samples[b], std::max<std::int64_t>(1, tokens / 2 / samples[b].length)));
  return out;
}

/// Names of linears by the layer they lie in, and what share of all products a layer's are.
struct Layers {
  std::vector<std::set<std::string>> modules;
  std::vector<double> weights,
      depth;  ///< weights of a layer; share of the model's forward pass that is done in front of it
  double all_weights = 0;
};

Layers layers_of(const Model& model, const Recipe& recipe) {
  Layers out;
  std::map<std::pair<int, int>, std::size_t> index;
  const auto nodes = static_cast<double>(model.graph.num_nodes());
  for (const Site& site : derive_sites(model, scope_of(recipe)))
    for (const int n : site.linears) {
      const Param& p = model.param_of(n);
      if (is_ignored(recipe, p.module)) continue;
      const auto weights = static_cast<double>(model.weight_of(p).numel());
      out.all_weights += weights;
      const Node& first = model.graph.node(site.linears.front());
      if (first.place.layer < 0) continue;
      const auto [it, added] =
          index.emplace(std::pair(first.place.stack, first.place.layer), out.modules.size());
      if (added) {
        out.modules.emplace_back();
        out.weights.push_back(0);
        out.depth.push_back(static_cast<double>(site.linears.front()) / nodes);
      }
      out.modules[it->second].insert(p.module);
      out.weights[it->second] += weights;
    }
  return out;
}

/// Seconds of all sites as a function of the tokens.
struct Line {
  double constant = 0, per_token = 0;
  double at(std::int64_t tokens) const {
    return constant + per_token * static_cast<double>(tokens);
  }
};

class Trials {
 public:
  Trials(Model& model, const std::vector<TokenBatch>& samples, const Layers& layers,
         ExecContext& ctx)
      : model_(model), samples_(samples), layers_(layers), ctx_(ctx) {
    const TokenBatch batch = part_of(samples, kFewTokens).front();
    ForwardOutputs outputs;
    const auto forward = [&] { make_float_model(model)->forward(batch, outputs, ctx); };
    forward();  // threads and caches warm
    forward_ = seconds_of(forward) / static_cast<double>(batch.rows());
  }

  /// Of a float pass over the whole model, by token.
  double forward() const { return forward_; }

  Line measure(const Recipe& recipe) {
    const std::vector<TokenBatch> few = part_of(samples_, kFewTokens),
                                  more = part_of(samples_, kMoreTokens);
    const double first = settled(recipe, few), second = settled(recipe, more);
    const auto tokens_first = static_cast<double>(tokens_of(few)),
               tokens_second = static_cast<double>(tokens_of(more));
    Line line{0, second / tokens_second};
    if (tokens_second <= tokens_first || second <= first) return line;
    line.per_token = std::min((second - first) / (tokens_second - tokens_first), line.per_token);
    line.constant = second - line.per_token * tokens_second;
    return line;
  }

 private:
  /// A mean of several layers where one takes too little time to be measured well.
  double settled(const Recipe& recipe, const std::vector<TokenBatch>& batches) {
    double sum = 0;
    int count = 0;
    for (double spent = 0; count < kMostLayers && spent < kSettledSeconds; ++count)
      spent += seconds_of([&] { sum += run(recipe, batches); });
    return sum / count;
  }

  /// All sites, judged by the next layer.
  double run(Recipe recipe, const std::vector<TokenBatch>& batches) {
    const std::size_t layer = next_++ % layers_.modules.size();
    for (NodeId n = 0; n < model_.graph.num_nodes(); ++n) {
      if (!model_.graph.node(n).op->product || model_.graph.node(n).param < 0) continue;
      const std::string& module = model_.param_of(n).module;
      if (!layers_.modules[layer].contains(module)) recipe.ignore.push_back(module);
    }
    recipe.quantize_lm_head = recipe.quantize_embeddings = false;
    const double taken = seconds_of([&] { compress(model_, batches, recipe, ctx_); });
    model_.clear_weight_quantizers();  // float again, for the next trial
    clear_input_quants(model_.graph);
    for (const NodeId n : quantized_attentions(model_.graph))
      set_attention_quant(model_.graph, n, {});

    const auto compared = static_cast<double>(std::min(batches.front().rows(), kComparedTokens));
    const double around =
        forward_ * (2 * compared + layers_.depth[layer] * static_cast<double>(tokens_of(batches)));
    return std::max(0.0, taken - around) * layers_.all_weights / layers_.weights[layer];
  }

  Model& model_;
  const std::vector<TokenBatch>& samples_;
  const Layers& layers_;
  ExecContext& ctx_;
  std::size_t next_ = 0;
  double forward_ = 0;
};

bool is_plain_rounding(const PassParams& pass) {
  return pass.name() == "rtn" && pass.values().empty();
}

}  // namespace

TimeEstimate estimate_time(Model& model, const Recipe& recipe,
                           const std::vector<TokenBatch>& samples, ExecContext& ctx) {
  const MuteLog mute;
  const ProgressSink progress = std::exchange(ctx.on_progress, nullptr);
  const Layers layers = layers_of(model, recipe);
  const std::vector<Site> sites = derive_sites(model, scope_of(recipe));
  double passes_over_all = 0;
  Recipe by_site = recipe, rounding = recipe;
  by_site.passes.clear();
  rounding.passes.clear();
  for (const PassParams& params : recipe.passes) {
    const auto pass = make_pass(params, recipe);
    if (pass->stage() == PassStage::kRanges)
      passes_over_all += pass->effort(sites.front()).forwards;
    else
      by_site.passes.push_back(params);
  }

  TimeEstimate out;
  const std::int64_t tokens = tokens_of(samples);
  Trials trials(model, samples, layers, ctx);
  // The function is compared before and after, and so are the written model and the float one.
  const auto compared = static_cast<double>(std::min(samples.front().rows(), kComparedTokens));
  const double around = trials.forward() * compared * (3 + kSimulated);
  const bool searches =
      !std::all_of(by_site.passes.begin(), by_site.passes.end(), is_plain_rounding);
  if (!layers.modules.empty()) {
    const double rounded = trials.measure(rounding).at(tokens);
    out.calibrate = rounded + around;
    if (searches) out.search = std::max(0.0, trials.measure(by_site).at(tokens) - rounded);
  } else {
    // Rounding takes little beside the one pass over all samples.
    out.calibrate = trials.forward() * static_cast<double>(tokens) + around;
    if (searches) out.search = std::nullopt;
  }
  out.ranges = passes_over_all * kSimulated * trials.forward() * static_cast<double>(tokens);
  ctx.on_progress = progress;
  return out;
}

}  // namespace quell
