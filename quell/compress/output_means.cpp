#include "quell/compress/output_means.h"

#include "quell/compress/channel_stats.h"

namespace quell {

bool takes_bias_correction(const Model& model, NodeId node) {
  if (!model.graph.node(node).op->product) return false;
  const ParamId param = model.graph.node(node).param;
  return model.param_of(node).bias.defined() && model.graph.users(param).size() == 1;
}

Tensor mean_difference(const Executors& wanted, const Executors& got, ValueId value) {
  std::vector<double> sums(static_cast<std::size_t>(wanted.front()->value(value).cols()));
  double rows = 0;
  for (std::size_t b = 0; b < wanted.size(); ++b) {
    const Tensor& y = wanted[b]->value(value);
    const Tensor& q = got[b]->value(value);
    for (std::int64_t i = 0; i < y.rows(); ++i) {
      if (!row_counts(y, wanted[b]->batch_of(value), i)) continue;
      ++rows;
      for (std::size_t j = 0; j < sums.size(); ++j)
        sums[j] += static_cast<double>(y.row(i)[j]) - static_cast<double>(q.row(i)[j]);
    }
  }

  Tensor mean = Tensor::f32({static_cast<std::int64_t>(sums.size())});
  for (std::size_t j = 0; j < sums.size() && rows > 0; ++j)
    mean.f32()[j] = static_cast<float>(sums[j] / rows);
  return mean;
}

void add_to_rows(const Executors& executors, ValueId value, const Tensor& delta) {
  for (const auto& executor : executors) {
    Tensor y = executor->take(value);
    for (std::int64_t i = 0; i < y.rows(); ++i)
      for (std::int64_t j = 0; j < y.cols(); ++j)
        y.row(i)[j] += delta.f32()[static_cast<std::size_t>(j)];
    executor->set(value, std::move(y));
  }
}

}  // namespace quell
