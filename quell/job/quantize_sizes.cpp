#include "quell/job/quantize_sizes.h"

#include <algorithm>

#include "quell/compress/compress.h"
#include "quell/compress/ignored.h"
#include "quell/compress/pass.h"
#include "quell/compress/site_objective.h"
#include "quell/exporting/stored_tensors.h"
#include "quell/job/memory_estimate.h"
#include "quell/model/stored_codes.h"

namespace quell {
namespace {

/// Bytes of the codes and steps of a matrix of `rows` rows.
std::uint64_t coded_bytes(const QuantSpec& spec, std::uint64_t elements, std::uint64_t rows) {
  std::uint64_t steps = 1;
  if (spec.granularity == Granularity::kPerChannel) steps = rows;
  if (spec.granularity == Granularity::kPerGroup)
    steps = elements / static_cast<std::uint64_t>(spec.group_size);
  const std::uint64_t codes = spec.num_bits <= kMaxPackedBits
                                  ? elements * static_cast<std::uint64_t>(spec.num_bits) / 8
                                  : elements;
  return codes + steps * (sizeof(float) + (spec.symmetric ? 0 : 1));
}

}  // namespace

QuantizeSizes sizes_of(const Model& model, const Recipe& recipe) {
  QuantizeSizes s;
  std::vector<const Param*> seen;
  for (const Site& site : derive_sites(model, scope_of(recipe)))
    for (const int n : site.linears)
      if (const Param& p = model.param_of(n); !is_ignored(recipe, p.module)) seen.push_back(&p);
  std::sort(seen.begin(), seen.end());
  seen.erase(std::unique(seen.begin(), seen.end()), seen.end());
  const std::uint64_t float_size = dtype_size(float_type_of(Checkpoint::open(model.dir)));
  QuantSpec table_spec = recipe.weights;
  table_spec.granularity = Granularity::kPerChannel;
  for (const Param& p : model.params) {
    const bool codes = std::binary_search(seen.begin(), seen.end(), &p);
    const Tensor& matrix = model.weight_of(p);
    // A tied head that gets codes gets a matrix of its own.
    const bool counts = matrix.defined() && (p.tied_to < 0 || codes);
    const auto weight = static_cast<std::uint64_t>(counts ? matrix.numel() : 0);
    const auto rows = static_cast<std::uint64_t>(counts ? matrix.rows() : 0);
    const auto bias = static_cast<std::uint64_t>(p.bias.defined() ? p.bias.numel() : 0);
    const bool table = recipe.quantize_embeddings && kind_of(model, p) == StoredKind::kEmbeddings;
    s.floats += (p.tied_to < 0 ? weight : 0) + bias;
    s.largest = std::max(s.largest, weight);
    s.output += sizeof(float) * bias;
    if (codes) {
      s.quantized += weight;
      s.journal += sizeof(std::int16_t) * weight;
      s.output += coded_bytes(recipe.weights, weight, rows);
    } else if (table) {
      s.output += coded_bytes(table_spec, weight, rows);
    } else {
      s.output += float_size * weight;
    }
  }
  return s;
}

namespace {

/// What a site takes, in elements.
struct SiteSizes {
  std::uint64_t inputs = 0;    ///< of all samples
  std::uint64_t compared = 0;  ///< by a search: inputs twice more, and outputs
  std::uint64_t weights = 0;
};

SiteSizes site_sizes(const Model& model, const Site& site, const BatchSize& all, bool searched) {
  SiteSizes s;
  const ValueId value = site.value();
  s.inputs = rows_of(model, value, all) *
             static_cast<std::uint64_t>(model.graph.value(value).type.columns);
  std::uint64_t outputs = 0;
  for (const int n : site.linears) {
    const Tensor& w = model.weight_of(model.param_of(n));
    outputs += rows_of(model, model.graph.node(n).out, all) * static_cast<std::uint64_t>(w.rows());
    s.weights += static_cast<std::uint64_t>(w.numel());
  }
  if (searched) s.compared = 2 * s.inputs + outputs;
  return s;
}

/// Whether a pass compares outputs of convolutions under several plans; linears always count as
/// searched.
bool searches_convolutions(const Recipe& recipe, const Site& site) {
  for (const auto& pass : make_passes(recipe)) {
    const PassEffort effort = pass->effort(site);
    if (pass->stage() == PassStage::kEquivalence && pass->takes_convolutions() &&
        effort.integer_products + effort.float_products > 0)
      return true;
  }
  return false;
}

/// Values that calibration carries from node to node, in elements: of texts a few times the hidden
/// size a token, of images as many as the graph has at one time.
std::uint64_t values_in_flight(const Model& model, const BatchSize& size) {
  constexpr std::uint64_t kTimesHidden = 4;
  if (model.reads_images()) return most_values(model, size);
  return kTimesHidden * static_cast<std::uint64_t>(model.spec.hidden_size * size.tokens);
}

/// Of the samples themselves: images lie there twice, one by one and in batches.
std::uint64_t bytes_of(const std::vector<TokenBatch>& samples) {
  std::uint64_t bytes = 0;
  for (const TokenBatch& b : samples) bytes += 2 * sizeof(float) * b.pixels.size();
  return bytes;
}

/// While float outputs of the first images are compared.
std::uint64_t comparing_images(const Model& model, const TokenBatch& first) {
  const std::int64_t images =
      std::min(first.batch, std::max<std::int64_t>(1, kComparedTokens / first.length));
  return sizeof(float) * most_values(model, {images, images * first.length});
}

/// The same of the first tokens, whose outputs take more than the values behind them.
std::uint64_t comparing_texts(const Model& model, std::uint64_t largest_matrix, std::int64_t rows) {
  std::int64_t outputs = model.spec.hidden_size;
  for (const auto& [name, value] : model.graph.outputs)
    if (name == "logits") outputs = model.spec.vocab_size;
  return sizeof(float) * (largest_matrix + 2 * static_cast<std::uint64_t>(
                                                   outputs * std::min(rows, kComparedTokens)));
}

bool reads_float_inputs(const Recipe& recipe) {
  const auto passes = make_passes(recipe);
  return std::any_of(passes.begin(), passes.end(),
                     [](const auto& pass) { return pass->reads_float_inputs(); });
}

}  // namespace

QuantizePeak peak_of(const QuantizeJob& job, const Model& model,
                     const std::vector<TokenBatch>& samples) {
  const QuantizeSizes sizes = sizes_of(model, job.recipe);
  const BatchSize all = BatchSize::of(samples);
  BatchSize largest_batch;
  for (const TokenBatch& b : samples)
    largest_batch = {std::max(largest_batch.sequences, b.batch),
                     std::max(largest_batch.tokens, b.rows())};

  QuantizePeak peak;
  std::uint64_t widest = 0;
  std::uint64_t matrices = 0;
  // Values of the float model go beside those of the quantized one where a pass reads them.
  const std::uint64_t sides = reads_float_inputs(job.recipe) ? 2 : 1;
  const std::uint64_t in_flight = sides * values_in_flight(model, all);
  for (const Site& site : derive_sites(model, scope_of(job.recipe))) {
    const bool searched = !site.has_convolution || searches_convolutions(job.recipe, site);
    const SiteSizes s = site_sizes(model, site, all, searched);
    const std::uint64_t copies = site.kind == SiteKind::kAttention ? 3 : 2;
    peak.values = std::max(peak.values, sizeof(float) * (s.compared + in_flight));
    const std::uint64_t values =
        model.values_in_scratch
            ? sides * s.inputs + s.compared / static_cast<std::uint64_t>(kRaceChunks)
            : s.compared;
    widest = std::max(widest, sizeof(float) * (values + copies * s.weights));
    matrices = std::max(matrices, (sizeof(float) + sizeof(std::int16_t)) * s.weights);
  }
  const std::uint64_t carried =
      model.values_in_scratch ? sides * values_in_flight(model, largest_batch) : in_flight;
  const std::uint64_t calibrating = widest + matrices + sizeof(float) * carried;
  const std::uint64_t comparing = model.reads_images()
                                      ? comparing_images(model, samples.front())
                                      : comparing_texts(model, sizes.largest, largest_batch.tokens);
  peak.memory = std::max(calibrating, comparing);
  if (!model.scratch)
    peak.memory = sizes.matrices() + (job.eval ? sizeof(float) * sizes.floats : 0) +
                  std::max(calibrating - matrices, comparing);
  peak.memory += bytes_of(samples);
  return peak;
}

}  // namespace quell
