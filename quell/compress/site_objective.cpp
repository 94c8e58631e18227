#include "quell/compress/site_objective.h"

#include <algorithm>
#include <iterator>
#include <limits>
#include <numeric>
#include <optional>

#include "quell/base/error.h"
#include "quell/base/random.h"
#include "quell/compress/channel_stats.h"
#include "quell/compress/student_t.h"
#include "quell/kernels/rows/rows.h"
#include "quell/model/attention_call.h"
#include "quell/ops/elementwise.h"
#include "quell/ops/linear.h"
#include "quell/quant/quantize.h"
#include "quell/quant/quantized_linear.h"

namespace quell {
namespace {

constexpr std::int64_t kFewRows = 96;

/// Tokens that are evaluated together: some sequences of a batch where they attend to each other, else rows that count.
struct Block {
  Tensor x, target;
  TokenBatch batch;                     // attention
  std::vector<std::int32_t> positions;  // attention
  const Tensor* bias = nullptr;         // attention
  std::vector<bool> counts;             // empty: all rows

  /// Null: stays in memory.
  void spill(const std::shared_ptr<ScratchFile>& scratch) {
    for (Tensor* t : {&x, &target})
      if (scratch) t->spill(scratch);
  }
};

constexpr std::uint64_t kOrderSeed = 1;

/// `sampled`: in random order, not by length.
std::vector<Block> blocks_of_sequences(const SiteProblem& p, const std::vector<std::size_t>& batches, bool sampled) {
  std::int64_t rows = 0;
  for (const std::size_t b : batches) rows += p.batches[b]->rows();
  const std::int64_t wanted = std::max(kFewRows, rows / kRaceBlocks);
  std::vector<Block> blocks;
  for (const std::size_t b : batches) {
    const TokenBatch& batch = *p.batches[b];
    const Tensor& x = *p.x[b];
    require(batch.starts.empty(), ErrorCode::kInvalidInput, "a search needs batches with padding");
    // A table of biases has the length of the batch; without one, padding on the right is left out.
    const Tensor* bias = p.position_bias.empty() ? nullptr : p.position_bias[b];
    const auto used = [&](std::int64_t s) {
      std::int64_t n = batch.length;
      while (!bias && n > 1 && !batch.mask[static_cast<std::size_t>(s * batch.length + n - 1)]) --n;
      return n;
    };
    std::vector<std::int64_t> order(static_cast<std::size_t>(batch.batch));
    std::iota(order.begin(), order.end(), 0);
    if (sampled)
      Random(kOrderSeed).shuffle(order);
    else
      std::stable_sort(order.begin(), order.end(), [&](std::int64_t i, std::int64_t j) { return used(i) < used(j); });
    for (std::size_t first = 0; first < order.size();) {
      std::size_t last = first + 1;
      std::int64_t length = used(order[first]);
      for (; last < order.size(); ++last) {
        const std::int64_t longest = std::max(length, used(order[last]));
        if (static_cast<std::int64_t>(last + 1 - first) * longest > wanted) break;
        length = longest;
      }
      Block& block = blocks.emplace_back();
      TokenBatch& t = block.batch;
      t.length = length;
      t.batch = static_cast<std::int64_t>(last - first);
      block.x = Tensor::uninitialized(DType::kF32, {t.rows(), x.cols()});
      block.bias = bias;
      float* to = block.x.f32().data();
      for (std::size_t i = first; i < last; ++i) {
        const std::int64_t begin = order[i] * batch.length;
        to = std::copy_n(x.row(begin), t.length * x.cols(), to);
        const auto copy = [&](const std::vector<std::int32_t>& from, std::vector<std::int32_t>& to) {
          if (!from.empty()) to.insert(to.end(), from.begin() + begin, from.begin() + begin + t.length);
        };
        copy(batch.ids, t.ids);
        copy(batch.mask, t.mask);
        if (!p.positions.empty()) copy(p.positions[b], block.positions);
      }
      for (const std::int32_t m : t.mask) block.counts.push_back(m != 0);
      block.spill(p.scratch);
      first = last;
    }
    x.drop_pages();
  }
  if (sampled) Random(kOrderSeed).shuffle(blocks);  // batches too
  return blocks;
}

std::vector<Block> blocks_of_rows(const SiteProblem& p, const std::vector<std::size_t>& batches, bool sampled) {
  std::vector<const float*> rows;
  for (const std::size_t b : batches)
    for (std::int64_t i = 0; i < p.x[b]->rows(); ++i)
      if (row_counts(*p.x[b], *p.batches[b], i)) rows.push_back(p.x[b]->row(i));
  if (sampled) Random(kOrderSeed).shuffle(rows);
  const std::size_t size = (rows.size() / kRaceBlocks / kFewRows + 1) * kFewRows;  // whole blocks of the kernels
  std::vector<Block> blocks;
  for (std::size_t begin = 0; begin < rows.size(); begin += size) {
    const std::size_t end = std::min(rows.size(), begin + size);
    Block& block = blocks.emplace_back();
    block.x = Tensor::uninitialized(DType::kF32, {static_cast<std::int64_t>(end - begin), p.x.front()->cols()});
    for (std::size_t i = begin; i < end; ++i)
      std::copy_n(rows[i], block.x.cols(), block.x.row(static_cast<std::int64_t>(i - begin)));
    block.spill(p.scratch);
  }
  for (const std::size_t b : batches) p.x[b]->drop_pages();
  return blocks;
}

/// Quantized products with the scales of one candidate.
class CandidateProduct {
 public:
  virtual ~CandidateProduct() = default;
  /// y = Qa(x / s) * Qw(w * s)^T + bias.
  virtual void multiply(const Tensor& x, Tensor& y) = 0;
};

void round_values(DType type, std::span<float> values) {
  for (float& v : values) v = round_to(type, v);
}
/// Leaves f32 alone.
void round_values(DType type, Tensor& t, ExecContext& ctx) {
  if (type == DType::kF32) return;
  ctx.pool.parallel_for(t.numel(), 1 << 14, [&](std::int64_t begin, std::int64_t end) {
    round_values(type, t.f32().subspan(static_cast<std::size_t>(begin), static_cast<std::size_t>(end - begin)));
  });
}

Tensor rounded_copy(DType type, const TensorView& t, ExecContext& ctx) {
  Tensor copy = Tensor::copy_of(t);
  round_values(type, copy, ctx);
  return copy;
}

/// y = x w^T + bias, the product and the sum rounded.
void linear_rounded_to(DType type, const Tensor& x, const Tensor& w, const TensorView& bias, Tensor& y, ExecContext& ctx) {
  if (type == DType::kF32) return matmul_nt(x, w, bias, y.span(), ctx);
  matmul_nt(x, w, TensorView(), y.span(), ctx);
  round_values(type, y, ctx);
  if (!bias.numel()) return;
  for (std::int64_t i = 0; i < y.rows(); ++i)
    for (std::int64_t j = 0; j < y.cols(); ++j) y.row(i)[j] = round_to(type, y.row(i)[j] + bias.f32()[static_cast<std::size_t>(j)]);
}

class FakeQuantizedProduct final : public CandidateProduct {
 public:
  FakeQuantizedProduct(const SiteProblem& p, const TensorView& bias, const SiteCandidate& candidate, DType type, ExecContext& ctx)
      : ctx_(ctx), candidate_(candidate), type_(type), scale_(candidate.scale), bias_(bias), quant_{p.activations, {}} {
    weight_ = candidate.sources.empty() ? p.weight.clone() : split_columns(p.weight, candidate.sources);
    round_values(type_, weight_, ctx);
    affine_columns(weight_, scale_, TensorView(), weight_.span(), ctx);
    round_values(type_, weight_, ctx);
    if (type_ == DType::kF32)
      fake_quantize_weight(weight_, p.weights, weight_.span(), ctx);
    else
      fake_quantize_rounded(p.weights, nullptr, type_, weight_, ctx);
    if (!quant_.spec.dynamic) quant_.qparams = calculate_qparams(candidate.range, quant_.spec, type_);
  }
  void multiply(const Tensor& x, Tensor& y) override {
    Tensor scaled = candidate_.sources.empty() ? x.clone() : repeat_columns(x, candidate_.sources);
    inverse_affine_columns(scaled, scale_, candidate_.shift, scaled.span(), ctx_);
    round_values(type_, scaled, ctx_);
    if (type_ == DType::kF32)
      fake_quantize_activations(scaled, quant_, Rounding::kDivide, scaled.span(), ctx_);
    else
      fake_quantize_rounded(quant_.spec, quant_.spec.dynamic ? nullptr : &quant_.qparams, type_, scaled, ctx_);
    linear_rounded_to(type_, scaled, weight_, bias_, y, ctx_);
  }

 private:
  ExecContext& ctx_;
  const SiteCandidate& candidate_;
  DType type_;
  const Tensor& scale_;
  TensorView bias_;
  ActivationQuant quant_;
  Tensor weight_;
};

/// The same with exact sums:
///   y_tj = D_x D_w[j] (sum_k qx_tk qw_jk - zx sum_k qw_jk + z_w[j] (K zx - sum_k qx_tk)) + b_j.
/// Memory is kept from one candidate to the next.
class IntegerProduct final : public CandidateProduct {
 public:
  IntegerProduct(const SiteProblem& p, const TensorView& bias, ExecContext& ctx)
      : p_(p), ctx_(ctx), rows_(kernels::row_kernels(ctx.isa)), n_(p.weight.rows()), k_(p.weight.cols()) {
    const int max_w = p.weights.symmetric ? std::max(-p.weights.min_code(), p.weights.max_code()) : 1 << (p.weights.num_bits - 1);
    kernel_ = &kernels::choose_gemm_s8(ctx.isa, p.activations.max_code() + code_shift(p.activations), max_w);
    prepare(k_);
    const auto padded = static_cast<std::size_t>(packed_.padded_n());
    qparams_.resize(static_cast<std::size_t>(n_));
    scale_.assign(padded, 0.0F);
    bias_.assign(padded, 0.0F);
    offset_.assign(padded, 0);
    weight_zero_.assign(padded, 0);
    if (bias.numel()) std::copy(bias.f32().begin(), bias.f32().end(), bias_.begin());
  }

  /// Whether integers hold the scheme.
  static bool fits(const SiteProblem& p) {
    const bool groups = p.weights.granularity == Granularity::kPerGroup || p.activations.granularity == Granularity::kPerGroup;
    const bool tensor_at_run_time = p.activations.dynamic && p.activations.granularity != Granularity::kPerToken;
    return !groups && !tensor_at_run_time && p.weight.cols() <= std::numeric_limits<std::int32_t>::max() / (255 * 255);
  }

  void set(const SiteCandidate& candidate) {
    candidate_ = &candidate;
    const bool split = !candidate.sources.empty();
    if (split) split_ = split_columns(p_.weight, candidate.sources);
    const Tensor& weight = split ? split_ : p_.weight;
    if (weight.cols() != k_) prepare(weight.cols());
    encode(weight, candidate.scale.f32(), !split);
    input_ = {p_.activations, {}};
    if (!input_.spec.dynamic) input_.qparams = calculate_qparams(candidate.range, input_.spec);
    const std::int32_t zero = input_.qparams.zero_point + code_shift(input_.spec);
    for (std::size_t j = 0; j < static_cast<std::size_t>(n_); ++j) {
      scale_[j] = input_.spec.dynamic ? qparams_[j].scale : input_.qparams.scale * qparams_[j].scale;
      offset_[j] = (input_.spec.dynamic ? -1 : -zero) * packed_.row_sum[j];
    }
  }

  void multiply(const Tensor& x, Tensor& y) override {
    const QuantizedRows q = quantize(x);
    std::vector<std::int32_t> term;
    kernels::Epilogue e = epilogue(q, term);
    e.f32 = y.f32().data();
    e.ld_out = n_;
    run_gemm(*kernel_, q, packed_, e, ctx_);
  }
  /// By row, without the product in memory.
  std::vector<double> squared_errors(const Tensor& x, const Tensor& target) {
    const QuantizedRows q = quantize(x);
    std::vector<std::int32_t> term;
    return gemm_squared_errors(*kernel_, q, packed_, epilogue(q, term), target, ctx_);
  }

 private:
  kernels::Epilogue epilogue(const QuantizedRows& q, std::vector<std::int32_t>& term) const {
    kernels::Epilogue e;
    e.scale = scale_.data();
    e.bias = bias_.data();
    set_zero_point_terms(q, k_, offset_.data(), p_.weights.symmetric ? nullptr : weight_zero_.data(), term, e);
    return e;
  }

  /// Codes of weight * scale. Thresholds fall from one candidate to the next, so that the columns with a scale other than 1 are few
  /// at first, and those of the candidate before among them (`may_nest`): then the others keep their codes in all rows that keep
  /// their step.
  void encode(const Tensor& weight, std::span<const float> scale, bool may_nest) {
    const float* s = scale.data();
    std::vector<std::int32_t> columns, added;
    std::vector<float> factors, others(scale.size(), 1.0F);  // 0: not among the others
    for (std::size_t j = 0; j < scale.size(); ++j)
      if (scale[j] != 1.0F) {
        columns.push_back(static_cast<std::int32_t>(j));
        factors.push_back(scale[j]);
        others[j] = 0.0F;
      }
    const bool few = may_nest && columns.size() <= scale.size() / 4;
    const bool nested = few && nestable_ && std::includes(columns.begin(), columns.end(), columns_.begin(), columns_.end());
    std::set_difference(columns.begin(), columns.end(), columns_.begin(), columns_.end(), std::back_inserter(added));
    const auto count = static_cast<std::int64_t>(columns.size());
    const auto gather = [&](std::int64_t i, std::vector<float>& to) {
      for (std::size_t c = 0; c < columns.size(); ++c) to[c] = weight.row(i)[columns[c]];
    };
    others_.resize(static_cast<std::size_t>(n_));
    std::vector<Range> ranges(static_cast<std::size_t>(n_));
    ctx_.pool.parallel_for(n_, 16, [&](std::int64_t begin, std::int64_t end) {
      std::vector<float> few_weights(columns.size());
      const auto range = [&](const float* w, const float* factor, std::int64_t n) {
        const kernels::RowRange r = rows_.scaled_range(w, factor, kernels::Factor::kMultiply, n);
        return Range{r.min, r.max};
      };
      for (std::int64_t i = begin; i < end; ++i) {
        Range& all = ranges[static_cast<std::size_t>(i)];
        if (!few) {
          all = range(weight.row(i), s, k_);
          continue;
        }
        Range& other = others_[static_cast<std::size_t>(i)];  // with 0, which every range is widened to
        const auto held = [&](std::int32_t j) { return weight.row(i)[j] == other.min || weight.row(i)[j] == other.max; };
        if (!nested || std::any_of(added.begin(), added.end(), held)) other = range(weight.row(i), others.data(), k_);
        all = other;
        if (count == 0) continue;
        gather(i, few_weights);
        const Range r = range(few_weights.data(), factors.data(), count);
        all = {std::min(all.min, r.min), std::max(all.max, r.max)};
      }
    });
    if (p_.weights.granularity == Granularity::kPerTensor) {
      Range all = ranges.front();
      for (const Range& r : ranges) all = {std::min(all.min, r.min), std::max(all.max, r.max)};
      std::fill(ranges.begin(), ranges.end(), all);
    }
    const std::int32_t shift = 1 << (p_.weights.num_bits - 1);  // u8 while packing
    const std::int32_t moved = p_.weights.symmetric ? 0 : shift;
    ctx_.pool.parallel_for(packed_.padded_n() / kernels::kPanel, 1, [&](std::int64_t begin, std::int64_t end) {
      std::vector<float> few_weights(columns.size());
      std::vector<std::uint8_t> few_codes(columns.size());
      for (std::int64_t i = begin * kernels::kPanel; i < std::min(n_, end * kernels::kPanel); ++i) {
        const auto at = static_cast<std::size_t>(i);
        const StepAndZero before = qparams_[at];
        qparams_[at] = calculate_qparams(ranges[at], p_.weights);
        const kernels::CodeArgs args = code_args(p_.weights, qparams_[at]);
        std::uint8_t* codes = codes_.as<std::uint8_t>().data() + i * k_;
        if (nested && before.scale == qparams_[at].scale && before.zero_point == qparams_[at].zero_point) {
          gather(i, few_weights);
          rows_.quantize_scaled(few_weights.data(), factors.data(), kernels::Factor::kMultiply, count, qparams_[at].scale, args,
                                few_codes.data());
          for (std::size_t c = 0; c < columns.size(); ++c) {
            packed_.row_sum[at] += few_codes[c] - codes[columns[c]];
            codes[columns[c]] = few_codes[c];
          }
          continue;
        }
        const std::int32_t sum =
            rows_.quantize_scaled(weight.row(i), s, kernels::Factor::kMultiply, k_, qparams_[at].scale, args, codes);
        packed_.row_sum[at] = sum - shift * static_cast<std::int32_t>(k_);
        weight_zero_[at] = qparams_[at].zero_point - moved;
      }
      kernels::pack_panels(codes_.as<std::uint8_t>().data(), k_, false, shift, packed_, begin, end);
    });
    nestable_ = few;
    columns_ = std::move(columns);
  }

  void prepare(std::int64_t k) {
    k_ = k;
    nestable_ = false;
    codes_ = Tensor::uninitialized(DType::kU8, {n_, k_});
    kernels::prepare_packing(n_, k_, kernel_->layout, packed_);
  }

  QuantizedRows quantize(const Tensor& x) const {
    QuantizedRows q = make_quantized_rows(x.rows(), k_, input_);
    const auto rows = static_cast<std::size_t>(q.rows);
    q.sum.resize(rows);
    if (input_.spec.dynamic) q.scale.resize(rows), q.zero.resize(rows);
    const float* s = candidate_->scale.f32().data();
    ctx_.pool.parallel_for(q.rows, 16, [&](std::int64_t begin, std::int64_t end) {
      std::vector<float> columns(candidate_->sources.size());
      for (std::int64_t i = begin; i < end; ++i) {
        const auto at = static_cast<std::size_t>(i);
        for (std::size_t c = 0; c < columns.size(); ++c) columns[c] = x.row(i)[candidate_->sources[c]] - candidate_->shift.f32()[c];
        const float* row = columns.empty() ? x.row(i) : columns.data();
        StepAndZero qp = input_.qparams;
        if (input_.spec.dynamic) {
          const kernels::RowRange r = rows_.scaled_range(row, s, kernels::Factor::kDivide, k_);
          qp = calculate_qparams({r.min, r.max}, input_.spec);
          q.scale[at] = qp.scale;
          q.zero[at] = qp.zero_point + code_shift(input_.spec);
        }
        q.sum[at] = rows_.quantize_scaled(row, s, kernels::Factor::kDivide, k_, qp.scale, code_args(input_.spec, qp), q.row(i));
      }
    });
    return q;
  }

  const SiteProblem& p_;
  ExecContext& ctx_;
  const kernels::RowKernels& rows_;
  const std::int64_t n_;
  std::int64_t k_;
  const kernels::GemmS8Kernel* kernel_ = nullptr;
  const SiteCandidate* candidate_ = nullptr;
  Tensor codes_;  // [N, K] before packing
  Tensor split_;  // the weight, where the candidate splits channels
  // Of the last candidate, where `nestable_`: columns that were scaled, and the ranges of the others by row.
  bool nestable_ = false;
  std::vector<std::int32_t> columns_;
  std::vector<Range> others_;
  kernels::PackedWeights packed_;
  ActivationQuant input_;
  std::vector<StepAndZero> qparams_;
  std::vector<float> scale_, bias_;
  std::vector<std::int32_t> offset_, weight_zero_;
};

class Race {
 public:
  Race(const SiteProblem& problem, std::span<const SiteCandidate> candidates, const RaceOptions& options, ExecContext& ctx)
      : p_(problem), candidates_(candidates), options_(options), type_(rounded_to(options.arithmetic)), ctx_(ctx) {
    const Tensor rounded_weight = type_ == DType::kF32 ? Tensor() : rounded_copy(type_, p_.weight, ctx_);
    const Tensor& weight = type_ == DType::kF32 ? p_.weight : rounded_weight;
    // The bias of a single linear cancels in the difference.
    if ((p_.kind == SiteKind::kAttention || p_.kind == SiteKind::kGatedMlp) && p_.bias.defined())
      bias_ = rounded_copy(type_, p_.bias, ctx_);
    std::vector<std::size_t> batches;
    for (std::size_t b = options.odd_batches ? 1 : 0; b < p_.x.size(); b += options.odd_batches ? 2 : 1) batches.push_back(b);
    const bool sampled = options_.rule == RaceRule::kSampled;
    blocks_ = p_.kind == SiteKind::kAttention ? blocks_of_sequences(p_, batches, sampled) : blocks_of_rows(p_, batches, sampled);
    for (Block& block : blocks_) {
      round_values(type_, block.x, ctx_);
      if (p_.shift.defined()) subtract(p_.shift, block.x);
      round_values(type_, block.x, ctx_);
      Tensor y = Tensor::uninitialized(DType::kF32, {block.x.rows(), weight.rows()});
      linear_rounded_to(type_, block.x, weight, bias_, y, ctx_);
      block.target = output(block, std::move(y));
      block.spill(p_.scratch);
      tokens_ += block.counts.empty() ? block.x.rows() : std::count(block.counts.begin(), block.counts.end(), true);
    }
    require(tokens_ > 0, ErrorCode::kInvalidInput, "search: no token in the calibration batches");
    if (options_.arithmetic == LossArithmetic::kInteger && IntegerProduct::fits(p_)) integer_.emplace(p_, bias_, ctx_);
    compares_products_ = integer_ && p_.kind != SiteKind::kAttention && p_.kind != SiteKind::kGatedMlp;
    for (Block& block : blocks_) {
      if (!compares_products_) break;
      block.target = pack_target(block.target, ctx_);
      block.spill(p_.scratch);
    }
    sums_.assign(candidates_.size(), std::vector<double>(blocks_.size(), -1.0));
    if (sampled) parts_.assign(candidates_.size(), std::vector<std::vector<double>>(blocks_.size()));
  }

  RaceResult run() {
    const auto count = candidates_.size();
    std::vector<std::size_t> order(blocks_.size());
    std::iota(order.begin(), order.end(), std::size_t{0});
    constexpr double kNever = std::numeric_limits<double>::infinity();
    RaceResult result;
    if (count == 0) return result;
    double best = kNever;
    const auto finish = [&](std::size_t c) {
      // Equal totals are won by the smaller index; the order of additions must not decide, so the limit leaves room for rounding.
      constexpr double kRoom = 1 + 1e-12;
      advance(c, order, [&](double total) {
        if (options_.rule == RaceRule::kExhaustive) return false;
        if (total > best * kRoom) return true;
        return options_.rule == RaceRule::kSampled && result.best >= 0 && is_worse(c, static_cast<std::size_t>(result.best));
      });
      if (!complete(c)) return;
      const double total = sum(c);
      if (total < best || (total == best && static_cast<int>(c) < result.best)) {
        best = total;
        result.best = static_cast<int>(c);
      }
    };
    // Whoever seems to lead finishes first, and the others, in their order so that most of their codes stay from one to the next,
    // are compared with it.
    const std::size_t leader = leader_of_first_block(order.front());
    finish(leader);
    // Where most of the loss is, sums exceed the best total earliest; samples must not know.
    if (options_.rule != RaceRule::kSampled) sort_by_loss(leader, order);
    for (std::size_t c = 0; c < count; ++c) {
      finish(c);
      ctx_.progress("search", static_cast<std::int64_t>(c) + 1, static_cast<std::int64_t>(count));
    }
    for (std::size_t c = 0; c < count; ++c) {
      result.losses.push_back(sum(c) / static_cast<double>(tokens_));
      result.complete.push_back(complete(c));
    }
    result.rows = rows_;
    return result;
  }

 private:
  void subtract(const Tensor& shift, Tensor& x) const {
    ctx_.pool.parallel_for(x.rows(), 64, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t i = begin; i < end; ++i)
        for (std::int64_t j = 0; j < x.cols(); ++j) x.row(i)[j] -= shift.f32()[static_cast<std::size_t>(j)];
    });
  }

  /// The best of every eighth candidate on one block, then of its neighbours ever closer.
  std::size_t leader_of_first_block(std::size_t block) {
    const auto loss = [&](std::size_t c) { return advance(c, std::span(&block, 1), [](double) { return false; }); };
    constexpr std::size_t kStride = 8;
    std::size_t leader = 0;
    const auto challenge = [&](std::size_t c) {
      if (c < candidates_.size() && loss(c) < loss(leader)) leader = c;
    };
    for (std::size_t c = kStride; c < candidates_.size(); c += kStride) challenge(c);
    for (std::size_t step = kStride / 2; step > 0; step /= 2) {
      const std::size_t from = leader;
      if (from >= step) challenge(from - step);
      challenge(from + step);
    }
    return leader;
  }

  bool complete(std::size_t c) const {
    return std::all_of(sums_[c].begin(), sums_[c].end(), [](double s) { return s >= 0; });
  }
  /// In the order of the blocks, whatever order they were computed in.
  double sum(std::size_t c) const {
    double total = 0;
    for (const double s : sums_[c]) total += s >= 0 ? s : 0.0;
    return total;
  }

  void sort_by_loss(std::size_t c, std::vector<std::size_t>& order) const {
    std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
      return sums_[c][a] * static_cast<double>(blocks_[b].x.rows()) > sums_[c][b] * static_cast<double>(blocks_[a].x.rows());
    });
  }

  /// Whether chance hardly explains that the parts of `c` computed so far are worse than the same of `best`.
  bool is_worse(std::size_t c, std::size_t best) const {
    PairedTest test;
    double units = 0;
    for (std::size_t b = 0; b < blocks_.size(); ++b) {
      units += static_cast<double>(parts_[best][b].size());
      for (std::size_t i = 0; i < parts_[c][b].size(); ++i) test.add(parts_[c][b][i] - parts_[best][b][i]);
    }
    return test.is_positive(units);
  }

  /// Computes the blocks that candidate `c` still lacks, until `is_out` says so of its sum. A loss that is not finite never wins.
  template <typename IsOut>
  double advance(std::size_t c, std::span<const std::size_t> order, const IsOut& is_out) {
    double total = sum(c);
    std::optional<FakeQuantizedProduct> fake;
    bool ready = false;
    for (const std::size_t b : order) {
      if (sums_[c][b] >= 0) continue;
      if (is_out(total)) break;
      if (!std::exchange(ready, true)) {
        if (integer_)
          integer_->set(candidates_[c]);
        else
          fake.emplace(p_, bias_, candidates_[c], type_, ctx_);
      }
      Block& block = blocks_[b];
      rows_ += block.x.rows();
      std::vector<double> losses;  // by row
      if (compares_products_) {
        losses = integer_->squared_errors(block.x, block.target);
      } else {
        CandidateProduct& product = integer_ ? static_cast<CandidateProduct&>(*integer_) : *fake;
        Tensor y = Tensor::uninitialized(DType::kF32, {block.x.rows(), p_.weight.rows()});
        product.multiply(block.x, y);
        losses = squared_errors(block, output(block, std::move(y)));
      }
      block.spill(p_.scratch);
      const double loss = std::accumulate(losses.begin(), losses.end(), 0.0);
      sums_[c][b] = loss >= 0 ? loss : std::numeric_limits<double>::infinity();
      total += sums_[c][b];
      if (options_.rule == RaceRule::kSampled) parts_[c][b] = units(block, losses);
    }
    return total;
  }

  /// What is drawn at random: rows, or sequences.
  static std::vector<double> units(const Block& block, const std::vector<double>& rows) {
    if (block.counts.empty()) return rows;
    std::vector<double> sums;
    for (auto row = rows.begin(); row != rows.end(); row += block.batch.length)
      sums.push_back(std::accumulate(row, row + block.batch.length, 0.0));
    return sums;
  }

  /// By row: sums over them in their order do not depend on the number of threads.
  std::vector<double> squared_errors(const Block& block, const Tensor& y) const {
    std::vector<double> rows(static_cast<std::size_t>(y.rows()));
    const kernels::RowKernels& k = kernels::row_kernels(ctx_.isa);
    ctx_.pool.parallel_for(y.rows(), 16, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t i = begin; i < end; ++i)
        if (block.counts.empty() || block.counts[static_cast<std::size_t>(i)])
          rows[static_cast<std::size_t>(i)] = k.squared_difference(y.row(i), block.target.row(i), y.cols());
    });
    return rows;
  }

  Tensor output(const Block& block, Tensor y) const {
    if (p_.kind == SiteKind::kAttention) return attention_output(block, y);
    if (p_.kind == SiteKind::kGatedMlp) return gated_output(y);
    return y;
  }

  Tensor slice_columns(const Tensor& y, std::int64_t begin, std::int64_t count) const {
    Tensor out = Tensor::uninitialized(DType::kF32, {y.rows(), count});
    ctx_.pool.parallel_for(y.rows(), 64, [&](std::int64_t from, std::int64_t to) {
      for (std::int64_t i = from; i < to; ++i) std::copy_n(y.row(i) + begin, count, out.row(i));
    });
    return out;
  }

  Tensor attention_output(const Block& block, const Tensor& y) const {
    AttentionSpec spec = p_.attention;
    Tensor q = slice_columns(y, 0, p_.rows[0]), k = slice_columns(y, p_.rows[0], p_.rows[1]);
    const Tensor v = slice_columns(y, p_.rows[0] + p_.rows[1], p_.rows[2]);
    if (p_.q_norm) normalize_heads(NormKind::kRmsNorm, p_.q_norm->weight, p_.q_norm->bias, p_.norm_eps, q, ctx_);
    if (p_.k_norm) normalize_heads(NormKind::kRmsNorm, p_.k_norm->weight, p_.k_norm->bias, p_.norm_eps, k, ctx_);
    AttentionCall call{.spec = spec, .queries = block.batch, .keys = block.batch};
    call.positions = block.positions;
    call.bias = block.bias;
    rotate_operands(call, q, k, ctx_);
    ProbsHook on_scores = call.score_hook(q, k), on_probs;
    if (type_ != DType::kF32) {
      for (Tensor* t : {&q, &k}) round_values(type_, *t, ctx_);
      for (float& element : q.f32()) element *= spec.scale;
      round_values(type_, q, ctx_);
      spec.scale = 1;
      on_probs = [this](std::int64_t, std::span<float> m) { round_values(type_, m); };
      on_scores = [this, add = std::move(on_scores)](std::int64_t index, std::span<float> m) {
        round_values(type_, m);
        if (!add) return;
        add(index, m);
        round_values(type_, m);
      };
    }
    Tensor out = Tensor::uninitialized(DType::kF32, q.shape());
    attention(call.shape(), q, k, v, block.batch.mask, out.span(), on_scores, on_probs, ctx_);
    round_values(type_, out, ctx_);
    return out;
  }

  Tensor gated_output(const Tensor& y) const {
    Tensor gate = slice_columns(y, 0, p_.rows[0]);
    const Tensor up = slice_columns(y, p_.rows[0], p_.rows[1]);
    activate(p_.activation, gate, gate.span(), ctx_);
    round_values(type_, gate, ctx_);
    multiply(gate, up, gate.span(), ctx_);
    round_values(type_, gate, ctx_);
    return gate;
  }

  const SiteProblem& p_;
  std::span<const SiteCandidate> candidates_;
  RaceOptions options_;
  DType type_;
  ExecContext& ctx_;
  Tensor bias_;
  std::vector<Block> blocks_;
  std::optional<IntegerProduct> integer_;
  bool compares_products_ = false;         ///< the loss is that of the integer product itself: targets are packed, all rows count
  std::vector<std::vector<double>> sums_;  ///< by candidate and block; -1: not computed
  std::vector<std::vector<std::vector<double>>> parts_;  ///< of them by unit, where the race is sampled
  std::int64_t tokens_ = 0, rows_ = 0;
};

}  // namespace

RaceResult race(const SiteProblem& problem, std::span<const SiteCandidate> candidates, const RaceOptions& options,
                ExecContext& ctx) {
  return Race(problem, candidates, options, ctx).run();
}

}  // namespace quell
