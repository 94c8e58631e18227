#include "quell/eval/linear_probe.h"

#include <cmath>

#include "quell/base/error.h"
#include "quell/eval/metrics.h"
#include "quell/eval/scoring.h"
#include "quell/io/safetensors.h"

namespace quell {
namespace {

std::vector<ProbePart> parse_features(const std::string& text, const std::string& source) {
  std::vector<ProbePart> parts;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t end = std::min(text.find('+', at), text.size());
    const std::string part = text.substr(at, end - at);
    at = end + 1;
    if (part == "embedding") {
      parts.push_back({.sentence = true});
      continue;
    }
    const bool cls = part.starts_with("cls"), mean = part.starts_with("mean");
    const std::string number =
        part.substr(std::min(part.size(), cls ? std::size_t{3} : std::size_t{4}));
    require((cls || mean) && number.find_first_not_of("0123456789") == std::string::npos &&
                number.size() < 5,
            ErrorCode::kInvalidInput, source, ": feature \"", part,
            "\" is not meanN, clsN or embedding");
    parts.push_back({cls, number.empty() ? -1 : std::stoll(number)});
  }
  return parts;
}

void append_pooled(const ProbePart& part, const Tensor& hidden, const TokenBatch& batch,
                   std::int64_t r, std::vector<double>& out) {
  std::vector<double> sum(static_cast<std::size_t>(hidden.cols()), 0.0);
  double count = 0;
  for (std::int64_t i = r * batch.length; i < (r + 1) * batch.length; ++i) {
    if (!batch.mask[static_cast<std::size_t>(i)] || (part.cls && count > 0)) continue;
    ++count;
    for (std::size_t j = 0; j < sum.size(); ++j) sum[j] += static_cast<double>(hidden.row(i)[j]);
  }
  for (const double s : sum) out.push_back(s / std::max(count, 1.0));
}

}  // namespace

LinearProbe read_linear_probe(const std::filesystem::path& path, const Model& model) {
  const SafetensorsFile file(path);
  LinearProbe probe;
  probe.weight = to_f32(file.at("weight"), "weight");
  probe.bias = to_f32(file.at("bias"), "bias");
  const std::int64_t hidden = model.spec.hidden_size;
  require(probe.weight.shape().rank() == 2 && probe.bias.numel() == probe.weight.rows(),
          ErrorCode::kInvalidInput, file.source(),
          ": weight must be [classes, D] and bias [classes]");
  const auto features = file.metadata().find("features");
  if (features != file.metadata().end())
    probe.parts = parse_features(features->second, file.source());
  else
    probe.parts = {ProbePart{}};
  std::int64_t size = 0;
  for (const ProbePart& part : probe.parts) {
    require(!part.sentence || model.sentence.defined(), ErrorCode::kUsage, file.source(),
            ": reads sentence embeddings, which this model does not give");
    size += part.sentence ? model.sentence.dimension(hidden) : hidden;
  }
  probe.pair = probe.weight.cols() == 4 * size;
  require(probe.pair || probe.weight.cols() == size, ErrorCode::kInvalidInput, file.source(), ": ",
          probe.weight.cols(), " features, the model gives ", size, " (or ", 4 * size,
          " for pairs)");
  for (const ProbePart& part : probe.parts)
    require(part.hidden <= model.graph.stacks.front().layers, ErrorCode::kInvalidInput,
            file.source(), ": the model has no hidden state ", part.hidden);
  return probe;
}

std::vector<int> predict(const LinearProbe& probe, const ForwardModel& model,
                         const std::vector<TokenSequence>& sequences, ExecContext& ctx) {
  std::vector<std::vector<double>> features(sequences.size());
  for_each_forward(
      model, sequences, true,
      [&](std::size_t i, const TokenBatch& batch, std::int64_t r, const ForwardOutputs& outputs) {
        const std::vector<Tensor>& states = outputs.hidden_states.front();
        for (const ProbePart& part : probe.parts) {
          if (part.sentence) {
            const std::span<const float> embedding = row_of(outputs.values.at("embedding"), r);
            features[i].insert(features[i].end(), embedding.begin(), embedding.end());
            continue;
          }
          append_pooled(
              part, part.hidden < 0 ? states.back() : states[static_cast<std::size_t>(part.hidden)],
              batch, r, features[i]);
        }
      },
      "evaluate", ctx);
  std::vector<int> classes;
  for (std::size_t i = 0; i < features.size(); i += probe.pair ? 2 : 1) {
    std::vector<double> x = features[i];
    if (probe.pair) {
      const std::vector<double>& u = features[i];
      const std::vector<double>& v = features.at(i + 1);
      x.insert(x.end(), v.begin(), v.end());
      for (std::size_t j = 0; j < u.size(); ++j) x.push_back(std::fabs(u[j] - v[j]));
      for (std::size_t j = 0; j < u.size(); ++j) x.push_back(u[j] * v[j]);
    }
    std::vector<float> scores;
    for (std::int64_t c = 0; c < probe.weight.rows(); ++c) {
      double sum = static_cast<double>(probe.bias.f32()[static_cast<std::size_t>(c)]);
      for (std::size_t j = 0; j < x.size(); ++j)
        sum += static_cast<double>(probe.weight.row(c)[j]) * x[j];
      scores.push_back(static_cast<float>(sum));
    }
    classes.push_back(argmax(scores));
  }
  return classes;
}

}  // namespace quell
