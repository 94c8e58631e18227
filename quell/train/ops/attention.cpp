// Scaled dot-product attention with everything that families put around it, stage by stage as
// graph/attention_run.h has them: [batch, heads, rows, columns].
#include <algorithm>
#include <limits>

#include "quell/graph/relative_positions.h"
#include "quell/train/torch_op.h"

namespace quell::train {
namespace {

/// One attention of one batch.
class Attending {
 public:
  explicit Attending(TorchCall& call)
      : call_(call),
        recipe_(call.attributes<AttentionAttributes>().recipe),
        queries_(call.tokens()),
        keys_(recipe_.cross ? call.first_tokens() : queries_) {}

  torch::Tensor run() {
    torch::Tensor q = heads_of(call_.in(kQueryOperand), queries_, recipe_.num_heads);
    torch::Tensor k = heads_of(call_.in(kKeyOperand), keys_, recipe_.num_kv_heads);
    torch::Tensor v = heads_of(call_.in(kValueOperand), keys_, recipe_.num_kv_heads);
    if (recipe_.rotary) {
      make_rotation();
      q = rotate(q);
      k = rotate(k);
    }

    // Where the scheme scales the query first, its quantizer sees it so.
    const double scale = recipe_.scale.f64();
    if (recipe_.quantize_scaled_query) q = q * scale;
    q = call_.stage(AttentionStage::kQuery, q);
    k = call_.stage(AttentionStage::kKey, k);
    v = call_.stage(AttentionStage::kValue, v);
    k = for_each_query_head(k);
    v = for_each_query_head(v);

    torch::Tensor scores = torch::matmul(q, k.transpose(-2, -1));
    scores_scale_ = recipe_.quantize_scaled_query ? 1.0 : scale;
    if (scores_scale_ != 1.0) scores = scores * scores_scale_;
    scores = call_.stage(AttentionStage::kScores, with_terms(scores, q, k));
    if (recipe_.soft_cap > 0) scores = torch::tanh(scores / recipe_.soft_cap) * recipe_.soft_cap;

    torch::Tensor map = torch::softmax(masked(scores), -1);
    map = call_.stage(AttentionStage::kMap, map);
    const torch::Tensor context = call_.stage(AttentionStage::kContext, torch::matmul(map, v));
    return context.transpose(1, 2).reshape({queries_.rows(), recipe_.num_heads * recipe_.head_dim});
  }

 private:
  torch::Tensor heads_of(const torch::Tensor& x, const TokenBatch& batch,
                         std::int64_t heads) const {
    return x.reshape({batch.batch, batch.length, heads, recipe_.head_dim}).transpose(1, 2);
  }

  /// Query heads that share one of keys and values lie side by side.
  torch::Tensor for_each_query_head(const torch::Tensor& x) const {
    const std::int64_t group = recipe_.num_heads / recipe_.num_kv_heads;
    if (group == 1) return x;
    const torch::Tensor repeated =
        x.unsqueeze(2).expand({x.size(0), x.size(1), group, x.size(2), x.size(3)});
    return repeated.reshape({x.size(0), recipe_.num_heads, x.size(2), x.size(3)});
  }

  /// Cosines and sines [batch, 1, rows, pairs]. In f32 by the frequencies of the engines.
  void make_rotation() {
    torch::Tensor frequencies;
    if (call_.dtype() == torch::kFloat64)
      frequencies = torch::tensor(exact_rotary_frequencies(*recipe_.rotary), torch::kFloat64);
    else
      frequencies = torch::tensor(rotary_frequencies(*recipe_.rotary));

    const torch::Tensor positions = call_.in(kPositionsOperand).to(call_.dtype());
    const torch::Tensor angles =
        (positions.unsqueeze(1) * frequencies).view({queries_.batch, 1, queries_.length, -1});
    cosine_ = torch::cos(angles) * recipe_.rotary->amplitude;
    sine_ = torch::sin(angles) * recipe_.rotary->amplitude;
  }

  /// Pairs (i, i + half); dimensions behind them stay.
  torch::Tensor rotate(const torch::Tensor& x) const {
    const std::int64_t half = cosine_.size(-1);
    const torch::Tensor a = x.narrow(-1, 0, half);
    const torch::Tensor b = x.narrow(-1, half, half);
    const torch::Tensor rest = x.narrow(-1, 2 * half, recipe_.head_dim - 2 * half);
    return torch::cat({a * cosine_ - b * sine_, b * cosine_ + a * sine_, rest}, -1);
  }

  /// With what grows or shrinks by distance: ALiBi, T5's bias, DeBERTa's terms.
  torch::Tensor with_terms(const torch::Tensor& scores, const torch::Tensor& q,
                           const torch::Tensor& k) const {
    if (recipe_.alibi) {
      const torch::Tensor slopes = torch::tensor(alibi_slopes(recipe_.num_heads)).to(call_.dtype());
      const torch::Tensor positions = call_.in(kPositionsOperand).to(call_.dtype());
      return scores + slopes.view({1, -1, 1, 1}) * positions.view({keys_.batch, 1, 1, -1});
    }
    if (call_.has(kRelativeQueryOperand)) return scores + disentangled(q, k);
    if (!call_.has(kBiasOperand)) return scores;
    return scores +
           call_.in(kBiasOperand).view({1, recipe_.num_heads, queries_.length, keys_.length});
  }

  torch::Tensor disentangled(const torch::Tensor& q, const torch::Tensor& k) const {
    const DisentangledSpec& spec = recipe_.disentangled;
    const std::int64_t length = queries_.length;
    std::vector<std::int64_t> rows;
    for (std::int64_t i = 0; i < length; ++i)
      for (std::int64_t j = 0; j < length; ++j) rows.push_back(disentangled_row(spec, i - j));
    const torch::Tensor by_pair = torch::tensor(rows)
                                      .view({1, 1, length, length})
                                      .expand({queries_.batch, recipe_.num_heads, length, length});

    torch::Tensor terms = torch::zeros({1}, call_.dtype());
    if (spec.content_to_position)
      terms = terms + by_distance(q, kRelativeKeyOperand).gather(-1, by_pair);
    if (spec.position_to_content) {
      const torch::Tensor by_key = by_distance(k, kRelativeQueryOperand);
      terms = terms + by_key.gather(-1, by_pair.transpose(-2, -1)).transpose(-2, -1);
    }
    return terms * scores_scale_;
  }

  /// Products with the relative embeddings: [batch, heads, rows, 2 * span].
  torch::Tensor by_distance(const torch::Tensor& content, std::size_t operand) const {
    const torch::Tensor relative =
        call_.in(operand).view({-1, recipe_.num_heads, recipe_.head_dim}).permute({1, 2, 0});
    return torch::matmul(content, relative.unsqueeze(0));
  }

  /// Keys that a query may not see get the least number there is: a query that may see none
  /// spreads evenly over all.
  torch::Tensor masked(const torch::Tensor& scores) const {
    const bool looks_back = recipe_.causal && !recipe_.cross;
    const bool has_padding = std::count(keys_.mask.begin(), keys_.mask.end(), 0) > 0;
    if (!looks_back && !has_padding) return scores;

    torch::Tensor hidden = to_torch(keys_.mask).eq(0).view({keys_.batch, 1, 1, keys_.length});
    if (looks_back) {
      const torch::Tensor places = torch::arange(keys_.length);
      const torch::Tensor back = places.unsqueeze(1) - places.unsqueeze(0);
      torch::Tensor unseen = back.lt(0);
      if (recipe_.sliding_window > 0) unseen = unseen.logical_or(back.ge(recipe_.sliding_window));
      hidden = hidden.logical_or(unseen);
    }

    const double least = call_.dtype() == torch::kFloat64
                             ? std::numeric_limits<double>::lowest()
                             : static_cast<double>(std::numeric_limits<float>::lowest());
    return scores.masked_fill(hidden, least);
  }

  TorchCall& call_;
  const AttentionRecipe& recipe_;
  const TokenBatch& queries_;
  const TokenBatch& keys_;
  torch::Tensor cosine_;
  torch::Tensor sine_;
  double scores_scale_ = 1.0;
};

}  // namespace

extern const TorchOp k_attention;
const TorchOp k_attention = {
    &op_attention, [](TorchCall& call) -> torch::Tensor { return Attending(call).run(); }};

}  // namespace quell::train
