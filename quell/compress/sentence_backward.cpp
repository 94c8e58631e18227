// Gradients through the modules behind an encoder.
#include <cmath>

#include "quell/compress/backward.h"

namespace quell {
namespace {

constexpr double kLayerNormEps = 1e-5;

double at(const TensorView& t, std::int64_t i, std::int64_t j) {
  return static_cast<double>(t.row(i)[j]);
}

void add_to(Tensor& t, std::int64_t i, std::int64_t j, double value) {
  t.row(i)[j] += static_cast<float>(value);
}

/// Weight of each pooled row in a mean.
std::vector<double> row_weights(PoolingMode mode, const std::vector<PooledRow>& rows) {
  std::vector<double> weights(rows.size(), 1.0);
  double sum = 0;
  for (std::size_t r = 0; r < rows.size(); ++r) {
    if (mode == PoolingMode::kWeightedMean) weights[r] = static_cast<double>(rows[r].place);
    sum += weights[r];
  }
  const double divisor = mode == PoolingMode::kMeanSqrtLength ? std::sqrt(sum) : sum;
  for (double& w : weights) w /= divisor;
  return weights;
}

/// Of one mode, whose gradient is `g` [H].
void add_pooling(PoolingMode mode, const TensorView& x, const std::vector<PooledRow>& rows,
                 const float* g, Tensor& out) {
  if (rows.empty()) return;

  if (mode == PoolingMode::kCls || mode == PoolingMode::kLastToken) {
    const std::int64_t row = mode == PoolingMode::kCls ? rows.front().row : rows.back().row;
    for (std::int64_t j = 0; j < x.cols(); ++j) add_to(out, row, j, static_cast<double>(g[j]));
    return;
  }
  if (mode == PoolingMode::kMax) {
    for (std::int64_t j = 0; j < x.cols(); ++j) {
      std::int64_t best = rows.front().row;
      for (const PooledRow& r : rows)
        if (x.row(r.row)[j] > x.row(best)[j]) best = r.row;
      add_to(out, best, j, static_cast<double>(g[j]));
    }
    return;
  }
  const std::vector<double> weights = row_weights(mode, rows);
  for (std::size_t r = 0; r < rows.size(); ++r)
    for (std::int64_t j = 0; j < x.cols(); ++j)
      add_to(out, rows[r].row, j, weights[r] * static_cast<double>(g[j]));
}

Tensor back(const PoolingModule& pooling, const TensorView& x, const TokenBatch& batch,
            const TensorView& g) {
  Tensor out = Tensor::f32(x.shape());
  for (std::int64_t b = 0; b < batch.batch; ++b) {
    const std::vector<PooledRow> rows = pooled_rows(pooling, batch, b);
    for (std::size_t m = 0; m < pooling.modes.size(); ++m)
      add_pooling(pooling.modes[m], x, rows, g.row(b) + static_cast<std::int64_t>(m) * x.cols(),
                  out);
  }
  return out;
}

/// x W^T at one place, in double.
double product(const TensorView& x, std::int64_t i, const Tensor& weight, std::int64_t j) {
  double sum = 0;
  for (std::int64_t k = 0; k < x.cols(); ++k) sum += at(x, i, k) * at(weight, j, k);
  return sum;
}

Tensor back(const DenseModule& dense, const TensorView& x, const TokenBatch&, const TensorView& g) {
  constexpr double kStep =
      1e-4;  // the functions are computed in double, so that differences are good enough

  const ElementFunction activation = element_function(dense.activation);
  Tensor out = Tensor::f32(x.shape());
  for (std::int64_t i = 0; i < x.rows(); ++i) {
    std::vector<double> sums(static_cast<std::size_t>(x.cols()));
    for (std::int64_t j = 0; j < g.cols(); ++j) {
      const double bias = dense.bias.defined()
                              ? static_cast<double>(dense.bias.f32()[static_cast<std::size_t>(j)])
                              : 0.0;
      const double y = product(x, i, dense.weight, j) + bias;
      const double slope = (activation(y + kStep) - activation(y - kStep)) / (2 * kStep);
      for (std::int64_t k = 0; k < x.cols(); ++k) {
        double& sum = sums[static_cast<std::size_t>(k)];
        sum += at(g, i, j) * slope * at(dense.weight, j, k);
        if (dense.adds_input && dense.projection.defined())
          sum += at(g, i, j) * at(dense.projection, j, k);
      }
    }
    for (std::int64_t k = 0; k < x.cols(); ++k) {
      const double straight = dense.adds_input && !dense.projection.defined() ? at(g, i, k) : 0.0;
      out.row(i)[k] = static_cast<float>(sums[static_cast<std::size_t>(k)] + straight);
    }
  }
  return out;
}

/// y = x / |x|: dx = (g - y (y . g)) / |x|
Tensor back(const NormalizeModule&, const TensorView& x, const TokenBatch&, const TensorView& g) {
  Tensor out = Tensor::f32(x.shape());
  for (std::int64_t i = 0; i < x.rows(); ++i) {
    double square = 0, dot = 0;
    for (std::int64_t j = 0; j < x.cols(); ++j) {
      square += at(x, i, j) * at(x, i, j);
      dot += at(x, i, j) * at(g, i, j);
    }
    const double length = std::max(std::sqrt(square), 1e-12);
    for (std::int64_t j = 0; j < x.cols(); ++j)
      out.row(i)[j] =
          static_cast<float>((at(g, i, j) - at(x, i, j) * dot / (length * length)) / length);
  }
  return out;
}

/// y = z w + b with z = (x - mean) / deviation: dx = (h - mean(h) - z mean(h z)) / deviation, h = g
/// w
Tensor back(const LayerNormModule& norm, const TensorView& x, const TokenBatch&,
            const TensorView& g) {
  Tensor out = Tensor::f32(x.shape());
  const auto n = static_cast<double>(x.cols());
  for (std::int64_t i = 0; i < x.rows(); ++i) {
    double mean = 0, variance = 0;
    for (std::int64_t j = 0; j < x.cols(); ++j) mean += at(x, i, j) / n;
    for (std::int64_t j = 0; j < x.cols(); ++j)
      variance += (at(x, i, j) - mean) * (at(x, i, j) - mean) / n;
    const double deviation = std::sqrt(variance + kLayerNormEps);

    const auto h = [&](std::int64_t j) {
      return at(g, i, j) * static_cast<double>(norm.weight.f32()[static_cast<std::size_t>(j)]);
    };
    const auto z = [&](std::int64_t j) { return (at(x, i, j) - mean) / deviation; };
    double mean_h = 0, mean_hz = 0;
    for (std::int64_t j = 0; j < x.cols(); ++j) {
      mean_h += h(j) / n;
      mean_hz += h(j) * z(j) / n;
    }
    for (std::int64_t j = 0; j < x.cols(); ++j)
      out.row(i)[j] = static_cast<float>((h(j) - mean_h - z(j) * mean_hz) / deviation);
  }
  return out;
}

}  // namespace

Tensor embed_backward(const SentencePipeline& pipeline, const TensorView& hidden,
                      const TokenBatch& batch, const TensorView& gradient, ExecContext& ctx) {
  // What each module read.
  std::vector<Tensor> inputs;
  Tensor values[2] = {Tensor::copy_of(hidden), Tensor()};
  const auto index = [](SentenceValue v) { return static_cast<std::size_t>(v); };
  for (const SentenceModule& module : pipeline.modules) {
    inputs.push_back(values[index(input_of(module))].clone());
    values[index(output_of(module))] = run_module(module, inputs.back(), batch, ctx);
  }

  Tensor gradients[2];
  Tensor& of_sentences = gradients[index(SentenceValue::kSentence)] =
      Tensor::f32(values[index(SentenceValue::kSentence)].shape());
  for (std::int64_t b = 0; b < gradient.rows(); ++b)  // dimensions that were cut off have none
    std::copy_n(gradient.row(b), gradient.cols(), of_sentences.row(b));

  for (std::size_t i = pipeline.modules.size(); i-- > 0;) {
    const SentenceModule& module = pipeline.modules[i];
    const Tensor g = std::move(gradients[index(output_of(module))]);
    gradients[index(output_of(module))] = Tensor();
    if (!g.defined()) continue;  // nobody reads what it made

    Tensor made = std::visit([&](const auto& m) { return back(m, inputs[i], batch, g); }, module);
    Tensor& to = gradients[index(input_of(module))];
    if (to.defined())
      for (std::size_t j = 0; j < made.f32().size(); ++j) made.f32()[j] += to.f32()[j];
    to = std::move(made);
  }
  Tensor& out = gradients[index(SentenceValue::kTokens)];
  return out.defined() ? std::move(out) : Tensor::f32(hidden.shape());
}

}  // namespace quell
