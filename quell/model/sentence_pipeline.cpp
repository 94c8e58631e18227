#include "quell/model/sentence_pipeline.h"

#include <algorithm>
#include <cmath>

#include "quell/base/error.h"
#include "quell/ops/elementwise.h"

namespace quell {
namespace {

constexpr std::pair<std::string_view, PoolingMode> kPoolingModes[] = {
    {"cls", PoolingMode::kCls},
    {"max", PoolingMode::kMax},
    {"mean", PoolingMode::kMean},
    {"mean_sqrt_len_tokens", PoolingMode::kMeanSqrtLength},
    {"weightedmean", PoolingMode::kWeightedMean},
    {"lasttoken", PoolingMode::kLastToken}};

constexpr std::pair<std::string_view, Similarity> kSimilarities[] = {
    {"cosine", Similarity::kCosine},
    {"dot", Similarity::kDot},
    {"euclidean", Similarity::kEuclidean},
    {"manhattan", Similarity::kManhattan}};

template <typename Table>
auto find_by_name(const Table& table, std::string_view name) {
  using Value = std::remove_cvref_t<decltype(table[0].second)>;
  for (const auto& [key, value] : table)
    if (key == name) return std::optional<Value>(value);
  return std::optional<Value>();
}

/// Sums in four lanes of double, whose order no batch, thread or processor changes.
double dot(const float* a, const float* b, std::int64_t n) {
  double lanes[4] = {};
  for (std::int64_t i = 0; i < n; ++i)
    lanes[i % 4] += static_cast<double>(a[i]) * static_cast<double>(b[i]);
  return (lanes[0] + lanes[1]) + (lanes[2] + lanes[3]);
}

/// `out` [D] of one mode. Rows come in the order of the tokens.
void pool_one(PoolingMode mode, const TensorView& x, std::int64_t first_token,
              const std::vector<PooledRow>& rows, float* out) {
  const std::int64_t columns = x.cols();
  if (mode == PoolingMode::kCls || mode == PoolingMode::kLastToken) {
    const bool cls = mode == PoolingMode::kCls;
    if (!rows.empty())
      std::copy_n(x.row(cls ? rows.front().row : rows.back().row), columns, out);
    else if (cls)  // sentence-transformers takes the first token then, and nothing as the last one
      std::copy_n(x.row(first_token), columns, out);
    return;
  }
  if (mode == PoolingMode::kMax) {
    std::fill_n(out, columns, -INFINITY);
    for (const PooledRow& r : rows)
      for (std::int64_t j = 0; j < columns; ++j) out[j] = std::max(out[j], x.row(r.row)[j]);
    return;
  }

  std::vector<double> sum(static_cast<std::size_t>(columns));
  double weights = 0;
  for (const PooledRow& r : rows) {
    const double weight = mode == PoolingMode::kWeightedMean ? static_cast<double>(r.place) : 1.0;
    weights += weight;
    for (std::int64_t j = 0; j < columns; ++j)
      sum[static_cast<std::size_t>(j)] += weight * static_cast<double>(x.row(r.row)[j]);
  }
  const double clamped = std::max(weights, 1e-9),
               divisor = mode == PoolingMode::kMeanSqrtLength ? std::sqrt(clamped) : clamped;
  for (std::int64_t j = 0; j < columns; ++j)
    out[j] = static_cast<float>(sum[static_cast<std::size_t>(j)] / divisor);
}

Tensor run(const PoolingModule& pooling, const TensorView& x, const TokenBatch& batch,
           ExecContext& ctx) {
  Tensor out =
      Tensor::f32({batch.batch, x.cols() * static_cast<std::int64_t>(pooling.modes.size())});
  ctx.pool.parallel_for(batch.batch, 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t b = begin; b < end; ++b) {
      const std::vector<PooledRow> rows = pooled_rows(pooling, batch, b);
      float* to = out.row(b);
      for (const PoolingMode mode : pooling.modes) {
        pool_one(mode, x, batch.row_begin(b), rows, to);
        to += x.cols();
      }
    }
  });
  return out;
}

Tensor run(const DenseModule& dense, const TensorView& x, const TokenBatch&, ExecContext& ctx) {
  const ElementFunction activation = element_function(dense.activation);
  Tensor out = Tensor::f32({x.rows(), dense.weight.rows()});
  ctx.pool.parallel_for(x.rows(), 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i)
      for (std::int64_t j = 0; j < out.cols(); ++j) {
        const double bias = dense.bias.defined()
                                ? static_cast<double>(dense.bias.f32()[static_cast<std::size_t>(j)])
                                : 0.0;
        const auto sum = static_cast<float>(dot(x.row(i), dense.weight.row(j), x.cols()) + bias);
        auto y = static_cast<float>(activation(static_cast<double>(sum)));
        if (dense.adds_input)
          y += dense.projection.defined()
                   ? static_cast<float>(dot(x.row(i), dense.projection.row(j), x.cols()))
                   : x.row(i)[j];
        out.row(i)[j] = y;
      }
  });
  return out;
}

Tensor run(const NormalizeModule&, const TensorView& x, const TokenBatch&, ExecContext&) {
  Tensor out = Tensor::f32(x.shape());
  for (std::int64_t i = 0; i < x.rows(); ++i) {
    const double divisor = std::max(std::sqrt(dot(x.row(i), x.row(i), x.cols())), 1e-12);
    for (std::int64_t j = 0; j < x.cols(); ++j)
      out.row(i)[j] = static_cast<float>(static_cast<double>(x.row(i)[j]) / divisor);
  }
  return out;
}

Tensor run(const LayerNormModule& norm, const TensorView& x, const TokenBatch&, ExecContext& ctx) {
  constexpr double kEps = 1e-5;

  Tensor out = Tensor::f32(x.shape());
  normalize(NormKind::kLayerNorm, x, norm.weight, norm.bias, kEps, out.span(), ctx);
  return out;
}

Tensor first_columns(const Tensor& x, std::int64_t count) {
  Tensor out = Tensor::f32({x.rows(), count});
  for (std::int64_t i = 0; i < x.rows(); ++i) std::copy_n(x.row(i), count, out.row(i));
  return out;
}

/// Dimensions of each value behind the modules, 0 where none has written it.
class Sizes {
 public:
  explicit Sizes(std::int64_t hidden_size) : sizes_{hidden_size, 0} {}
  std::int64_t& of(SentenceValue v) { return sizes_[static_cast<std::size_t>(v)]; }
  void pass(const SentenceModule& module) {
    std::int64_t size = of(input_of(module));
    if (const auto* pooling = std::get_if<PoolingModule>(&module))
      size *= static_cast<std::int64_t>(pooling->modes.size());
    if (const auto* dense = std::get_if<DenseModule>(&module)) size = dense->weight.rows();
    of(output_of(module)) = size;
  }

 private:
  std::int64_t sizes_[2];
};

}  // namespace

std::optional<PoolingMode> pooling_mode_from_name(std::string_view name) {
  return find_by_name(kPoolingModes, name);
}
std::string_view pooling_mode_name(PoolingMode mode) {
  return kPoolingModes[static_cast<std::size_t>(mode)].first;
}
std::optional<Similarity> similarity_from_name(std::string_view name) {
  return find_by_name(kSimilarities, name);
}

double similarity(Similarity kind, std::span<const float> a, std::span<const float> b) {
  const auto n = static_cast<std::int64_t>(a.size());
  if (kind == Similarity::kDot) return dot(a.data(), b.data(), n);
  if (kind == Similarity::kCosine) {
    const auto length = [&](std::span<const float> v) {
      return std::max(std::sqrt(dot(v.data(), v.data(), n)), 1e-12);
    };
    return dot(a.data(), b.data(), n) / (length(a) * length(b));
  }

  double sum = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    const double d = static_cast<double>(a[i]) - static_cast<double>(b[i]);
    sum += kind == Similarity::kEuclidean ? d * d : std::fabs(d);
  }
  return kind == Similarity::kEuclidean ? -std::sqrt(sum) : -sum;
}

bool SentencePipeline::leaves_out_prompts() const {
  return std::any_of(modules.begin(), modules.end(), [](const SentenceModule& module) {
    const auto* pooling = std::get_if<PoolingModule>(&module);
    return pooling && !pooling->include_prompt;
  });
}

std::int64_t SentencePipeline::dimension(std::int64_t hidden_size) const {
  Sizes sizes(hidden_size);
  for (const SentenceModule& module : modules) sizes.pass(module);
  const std::int64_t size = sizes.of(SentenceValue::kSentence);
  return truncate_dim > 0 ? std::min(truncate_dim, size) : size;
}

void check_pipeline(const SentencePipeline& pipeline, std::int64_t hidden_size) {
  Sizes sizes(hidden_size);
  for (std::size_t i = 0; i < pipeline.modules.size(); ++i) {
    const SentenceModule& module = pipeline.modules[i];
    const std::int64_t size = sizes.of(input_of(module));
    require(size > 0, ErrorCode::kInvalidInput, "module ", i + 1,
            " reads sentence embeddings, which no module in front of it makes");

    std::int64_t wanted = size;
    if (const auto* dense = std::get_if<DenseModule>(&module)) wanted = dense->weight.cols();
    if (const auto* norm = std::get_if<LayerNormModule>(&module)) wanted = norm->weight.numel();
    require(size == wanted, ErrorCode::kInvalidInput, "module ", i + 1, " takes ", wanted,
            " dimensions, what is in front of it gives ", size);
    sizes.pass(module);
  }
  require(sizes.of(SentenceValue::kSentence) > 0, ErrorCode::kInvalidInput,
          "no module makes sentence embeddings");
}

SentenceValue input_of(const SentenceModule& module) {
  if (std::holds_alternative<PoolingModule>(module)) return SentenceValue::kTokens;
  if (const auto* dense = std::get_if<DenseModule>(&module)) return dense->in;
  if (const auto* normalize = std::get_if<NormalizeModule>(&module)) return normalize->in;
  return SentenceValue::kSentence;
}

SentenceValue output_of(const SentenceModule& module) {
  if (const auto* dense = std::get_if<DenseModule>(&module)) return dense->out;
  if (const auto* normalize = std::get_if<NormalizeModule>(&module)) return normalize->out;
  return SentenceValue::kSentence;
}

std::vector<PooledRow> pooled_rows(const PoolingModule& pooling, const TokenBatch& batch,
                                   std::int64_t b) {
  const std::int64_t skipped = pooling.include_prompt || batch.prompt_lengths.empty()
                                   ? 0
                                   : batch.prompt_lengths[static_cast<std::size_t>(b)];
  const std::int64_t begin = batch.row_begin(b), end = begin + batch.row_count(b);

  std::vector<PooledRow> rows;
  std::int64_t first = -1;
  for (std::int64_t i = begin; i < end; ++i) {
    if (!batch.mask[static_cast<std::size_t>(i)]) continue;
    if (first < 0) first = i;
    if (i - first >= skipped) rows.push_back({i, i - first + 1});
  }
  return rows;
}

Tensor run_module(const SentenceModule& module, const TensorView& x, const TokenBatch& batch,
                  ExecContext& ctx) {
  return std::visit([&](const auto& m) { return run(m, x, batch, ctx); }, module);
}

Tensor embed(const SentencePipeline& pipeline, const TensorView& hidden, const TokenBatch& batch,
             ExecContext& ctx) {
  Tensor tokens, sentences;
  for (const SentenceModule& module : pipeline.modules) {
    const bool reads_tokens = input_of(module) == SentenceValue::kTokens;
    const TensorView given = tokens.defined() ? tokens.view() : hidden;
    Tensor made = run_module(module, reads_tokens ? given : sentences.view(), batch, ctx);
    (output_of(module) == SentenceValue::kTokens ? tokens : sentences) = std::move(made);
  }
  const bool cut = pipeline.truncate_dim > 0 && pipeline.truncate_dim < sentences.cols();
  return cut ? first_columns(sentences, pipeline.truncate_dim) : std::move(sentences);
}

}  // namespace quell
