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
#include "quell/graph/attention_run.h"
#include "quell/kernels/rows/rows.h"
#include "quell/ops/elementwise.h"
#include "quell/ops/linear.h"
#include "quell/quant/quantize.h"
#include "quell/quant/quantized_linear.h"

namespace quell {
namespace {

constexpr std::int64_t kFewRows = 96;  ///< whole blocks of the kernels
constexpr std::uint64_t kOrderSeed = 1;

/// Rows that are multiplied together: some sequences, one behind the other, where tokens attend to
/// each other, else any that count.
struct Chunk {
  Tensor x;
  TokenBatch batch;                     // attention
  std::vector<std::int32_t> positions;  // attention
  RotaryTable rotary;                   // attention with rotary embedding
  const Tensor* bias = nullptr;         // attention
  std::vector<bool> counts;             // empty: all rows

  std::int64_t tokens() const {
    return counts.empty() ? x.rows() : std::count(counts.begin(), counts.end(), true);
  }
};

/// One part of the outputs for one chunk.
struct Piece {
  std::size_t chunk = 0;
  std::int64_t part = 0;
  Tensor target = {};
};
/// What is computed before the race looks at its sums again; a single piece where there is one
/// part.
using Block = std::vector<Piece>;

/// Null: stays in memory.
void spill(Tensor& t, const std::shared_ptr<ScratchFile>& scratch) {
  if (scratch) t.spill(scratch);
}

struct SequenceRef {
  std::size_t batch = 0;
  std::int64_t begin = 0, length = 0;  ///< rows
};

/// Without padding on the right, unless a table of biases has the length of the batch.
std::vector<SequenceRef> sequences_of(const SiteProblem& p,
                                      const std::vector<std::size_t>& batches) {
  std::vector<SequenceRef> out;
  for (const std::size_t b : batches) {
    const TokenBatch& batch = *p.batches[b];
    require(batch.starts.empty(), ErrorCode::kInvalidInput, "a search needs batches with padding");
    for (std::int64_t s = 0; s < batch.batch; ++s) {
      std::int64_t n = batch.length;
      while (p.position_bias.empty() && n > 1 &&
             !batch.mask[static_cast<std::size_t>(s * batch.length + n - 1)])
        --n;
      out.push_back({b, s * batch.length, n});
    }
  }
  return out;
}

/// Sequences in the order given, about `size` rows a chunk.
std::vector<Chunk> chunks_of_sequences(const SiteProblem& p, std::span<const SequenceRef> sequences,
                                       std::int64_t size) {
  std::vector<Chunk> chunks;
  for (std::size_t first = 0; first < sequences.size();) {
    std::size_t last = first;
    Chunk& chunk = chunks.emplace_back();
    TokenBatch& t = chunk.batch;
    t.starts = {0};
    if (!p.position_bias.empty()) chunk.bias = p.position_bias[sequences[first].batch];
    const auto joins = [&](const SequenceRef& s) {
      return t.rows() == 0 ||
             (t.rows() + s.length <= size && (!chunk.bias || s.batch == sequences[first].batch));
    };
    for (; last < sequences.size() && joins(sequences[last]); ++last) {
      t.starts.push_back(t.rows() + sequences[last].length);
      t.length = std::max(t.length, sequences[last].length);
    }
    t.batch = static_cast<std::int64_t>(last - first);
    chunk.x = Tensor::uninitialized(DType::kF32, {t.rows(), p.x.front()->cols()});
    float* to = chunk.x.f32().data();
    for (; first < last; ++first) {
      const SequenceRef& s = sequences[first];
      to = std::copy_n(p.x[s.batch]->row(s.begin), s.length * chunk.x.cols(), to);
      const auto copy = [&](const std::vector<std::int32_t>& from, std::vector<std::int32_t>& to) {
        if (!from.empty())
          to.insert(to.end(), from.begin() + s.begin, from.begin() + s.begin + s.length);
      };
      copy(p.batches[s.batch]->ids, t.ids);
      copy(p.batches[s.batch]->mask, t.mask);
      if (!p.positions.empty()) copy(p.positions[s.batch], chunk.positions);
    }
    for (const std::int32_t m : t.mask) chunk.counts.push_back(m != 0);
    spill(chunk.x, p.scratch);
  }
  return chunks;
}

std::vector<Chunk> chunks_of_rows(const SiteProblem& p, std::span<const float* const> rows,
                                  std::size_t size) {
  std::vector<Chunk> chunks;
  for (std::size_t begin = 0; begin < rows.size(); begin += size) {
    const std::size_t end = std::min(rows.size(), begin + size);
    Tensor& x = chunks.emplace_back().x;
    x = Tensor::uninitialized(DType::kF32,
                              {static_cast<std::int64_t>(end - begin), p.x.front()->cols()});
    for (std::size_t i = begin; i < end; ++i)
      std::copy_n(rows[i], x.cols(), x.row(static_cast<std::int64_t>(i - begin)));
    spill(x, p.scratch);
  }
  return chunks;
}

/// The chunks of all tokens that count, in random order where the race samples.
std::vector<Chunk> chunks_of(const SiteProblem& p, const RaceOptions& options) {
  std::vector<std::size_t> batches;
  for (std::size_t b = options.odd_batches ? 1 : 0; b < p.x.size();
       b += options.odd_batches ? 2 : 1)
    batches.push_back(b);
  const bool sampled = options.rule == RaceRule::kSampled;
  const std::int64_t count = sampled ? kSampledChunks : kRaceChunks;
  std::vector<Chunk> chunks;
  if (p.kind == SiteKind::kAttention) {
    std::vector<SequenceRef> sequences = sequences_of(p, batches);
    if (sampled) Random(kOrderSeed).shuffle(sequences);
    std::int64_t rows = 0;
    for (const SequenceRef& s : sequences) rows += s.length;
    chunks = chunks_of_sequences(p, sequences, std::max(kFewRows, rows / count));
  } else {
    std::vector<const float*> rows;
    for (const std::size_t b : batches)
      for (std::int64_t i = 0; i < p.x[b]->rows(); ++i)
        if (row_counts(*p.x[b], *p.batches[b], i)) rows.push_back(p.x[b]->row(i));
    if (sampled) Random(kOrderSeed).shuffle(rows);
    chunks = chunks_of_rows(
        p, rows, (rows.size() / static_cast<std::size_t>(count * kFewRows) + 1) * kFewRows);
  }
  for (const std::size_t b : batches) p.x[b]->drop_pages();
  return chunks;
}

/// The stacked weight in parts whose outputs belong together: a key and value head with its
/// queries, padded with rows of zeros to whole panels of the kernels; or all of it.
struct Parts {
  const Tensor* given = nullptr;  ///< the weight as it came, or
  Tensor stacked = {};            ///< by part
  Tensor bias = {};               ///< [count * rows]; undefined: none
  std::int64_t count = 1, rows = 0;
  std::vector<std::int64_t> split;  ///< as SiteProblem::rows, of one part

  const Tensor& weight() const {
    return stacked.defined() ? stacked : *given;
  }  ///< [count * rows, C]
  /// Of `all`, shaped like the weight.
  TensorView rows_of(std::int64_t part, const Tensor& all) const {
    return {all.row(part * rows), DType::kF32, {rows, all.cols()}};
  }
  TensorView bias_of(std::int64_t part) const {
    return bias.defined() ? TensorView(bias.f32().data() + part * rows, DType::kF32, {rows})
                          : TensorView();
  }
};

Parts parts_of(const SiteProblem& p) {
  Parts parts;
  parts.split = p.rows;
  if (p.kind != SiteKind::kAttention) {
    parts.given = &p.weight;
    parts.rows = p.weight.rows();
    // The bias of a single linear cancels in the difference.
    if (p.kind == SiteKind::kGatedMlp && p.bias.defined()) parts.bias = p.bias.clone();
    return parts;
  }
  parts.count = p.attention.num_kv_heads;
  for (std::int64_t& n : parts.split) n /= parts.count;
  parts.rows = kernels::round_up(
      std::accumulate(parts.split.begin(), parts.split.end(), std::int64_t{0}), kernels::kPanel);
  parts.stacked = Tensor::f32({parts.count * parts.rows, p.weight.cols()});
  if (p.bias.defined()) parts.bias = Tensor::f32({parts.count * parts.rows});
  for (std::int64_t part = 0; part < parts.count; ++part) {
    std::int64_t from = 0, to = part * parts.rows;
    for (std::size_t i = 0; i < p.rows.size(); ++i) {
      const std::int64_t n = parts.split[i], begin = from + part * n;
      std::copy_n(p.weight.row(begin), n * p.weight.cols(), parts.stacked.row(to));
      if (p.bias.defined())
        std::copy_n(p.bias.f32().data() + begin, n, parts.bias.f32().data() + to);
      from += p.rows[i];
      to += n;
    }
  }
  return parts;
}

/// Exact races order blocks by their loss: of one part each, where there are several. Sampled ones
/// draw a piece of every part, each for other tokens as far as there are enough, so that no part is
/// judged by the others.
std::vector<Block> blocks_of(std::size_t chunks, std::size_t parts, bool sampled) {
  std::vector<Block> blocks;
  if (sampled) {
    for (std::size_t round = 0; round < chunks; ++round) {
      Block& block = blocks.emplace_back();
      for (std::size_t part = 0; part < parts; ++part)
        block.push_back(
            {(round + part * chunks / parts) % chunks, static_cast<std::int64_t>(part)});
    }
    return blocks;
  }
  constexpr std::size_t kWanted = 2 * kRaceChunks;
  const std::size_t per_part =
      parts == 1 ? chunks : std::clamp<std::size_t>(kWanted / parts, 1, chunks);
  for (std::size_t part = 0; part < parts; ++part)
    for (std::size_t i = 0; i < per_part; ++i) {
      Block& block = blocks.emplace_back();
      for (std::size_t c = i * chunks / per_part; c < (i + 1) * chunks / per_part; ++c)
        block.push_back({c, static_cast<std::int64_t>(part)});
    }
  return blocks;
}

/// Quantized products with the scales of one candidate: y = Qa(x / s) * Qw(w * s)^T + bias.
class CandidateProduct {
 public:
  virtual ~CandidateProduct() = default;
  /// Quantizes a chunk, unless that was done, for the products to come. With one part, the chunks
  /// before may be forgotten.
  virtual void read(std::size_t chunk, const Tensor& x) = 0;
  /// Of a chunk that was read. May be called from several threads.
  virtual void multiply(const Piece& piece, Tensor& y) const = 0;
};

/// Where what was made of a chunk is kept: with one part, instead of what was made of the chunk
/// before.
template <typename T>
T& slot_of(std::size_t chunk, const Parts& parts, std::vector<T>& inputs) {
  if (parts.count == 1) inputs.clear();
  if (inputs.size() <= chunk) inputs.resize(chunk + 1);
  return inputs[chunk];
}

Tensor rounded_copy(DType type, const TensorView& t, ExecContext& ctx) {
  Tensor copy = Tensor::copy_of(t);
  round_values(type, copy.span(), ctx);
  return copy;
}

/// y = x w^T + bias, the product and the sum rounded.
void linear_rounded_to(DType type, const Tensor& x, const TensorView& w, const TensorView& bias,
                       Tensor& y, ExecContext& ctx) {
  if (type == DType::kF32) return matmul_nt(x, w, bias, y.span(), ctx);
  matmul_nt(x, w, TensorView(), y.span(), ctx);
  round_values(type, y.span(), ctx);
  if (!bias.numel()) return;
  for (std::int64_t i = 0; i < y.rows(); ++i)
    for (std::int64_t j = 0; j < y.cols(); ++j)
      y.row(i)[j] = round_to(type, y.row(i)[j] + bias.f32()[static_cast<std::size_t>(j)]);
}

class FakeQuantizedProduct final : public CandidateProduct {
 public:
  FakeQuantizedProduct(const SiteProblem& p, const Parts& parts, const SiteCandidate& candidate,
                       DType type, ExecContext& ctx)
      : ctx_(ctx),
        parts_(parts),
        candidate_(candidate),
        type_(type),
        scratch_(p.scratch),
        quant_{p.activations, {}} {
    const Tensor& weight = parts.weight();
    weight_ = candidate.sources.empty() ? weight.clone() : split_columns(weight, candidate.sources);
    round_values(type_, weight_.span(), ctx);
    affine_columns(weight_, candidate.scale, TensorView(), weight_.span(), ctx);
    round_values(type_, weight_.span(), ctx);
    if (type_ == DType::kF32)
      fake_quantize_weight(weight_, p.weights, weight_.span(), ctx);
    else
      fake_quantize_rounded(p.weights, nullptr, type_, weight_, ctx);
    if (!quant_.spec.dynamic)
      quant_.qparams = calculate_qparams(candidate.range, quant_.spec, type_);
  }
  void read(std::size_t chunk, const Tensor& x) override {
    Tensor& scaled = slot_of(chunk, parts_, inputs_);
    if (scaled.defined()) return;
    scaled = candidate_.sources.empty() ? x.clone() : repeat_columns(x, candidate_.sources);
    inverse_affine_columns(scaled, candidate_.scale, candidate_.shift, scaled.span(), ctx_);
    round_values(type_, scaled.span(), ctx_);
    if (type_ == DType::kF32)
      fake_quantize_activations(scaled, quant_, Rounding::kDivide, scaled.span(), ctx_);
    else
      fake_quantize_rounded(quant_.spec, quant_.spec.dynamic ? nullptr : &quant_.qparams, type_,
                            scaled, ctx_);
    if (parts_.count > 1) spill(scaled, scratch_);
  }
  void multiply(const Piece& piece, Tensor& y) const override {
    const Tensor& x = inputs_[piece.chunk];
    linear_rounded_to(type_, x, parts_.rows_of(piece.part, weight_), parts_.bias_of(piece.part), y,
                      ctx_);
    x.drop_pages();
  }

 private:
  ExecContext& ctx_;
  const Parts& parts_;
  const SiteCandidate& candidate_;
  DType type_;
  std::shared_ptr<ScratchFile> scratch_;
  ActivationQuant quant_;
  Tensor weight_;
  std::vector<Tensor> inputs_;  ///< by chunk
};

/// The same with exact sums:
///   y_tj = D_x D_w[j] (sum_k qx_tk qw_jk - zx sum_k qw_jk + z_w[j] (K zx - sum_k qx_tk)) + b_j.
/// Memory is kept from one candidate to the next.
class IntegerProduct final : public CandidateProduct {
 public:
  IntegerProduct(const SiteProblem& p, const Parts& parts, ExecContext& ctx)
      : p_(p),
        parts_(parts),
        ctx_(ctx),
        rows_(kernels::row_kernels(ctx.isa)),
        n_(parts.weight().rows()),
        k_(p.weight.cols()) {
    const int max_w = p.weights.symmetric ? std::max(-p.weights.min_code(), p.weights.max_code())
                                          : 1 << (p.weights.num_bits - 1);
    kernel_ = &kernels::choose_gemm_s8(ctx.isa,
                                       p.activations.max_code() + code_shift(p.activations), max_w);
    prepare(k_);
    // Parts, where there are several, are whole panels.
    const auto padded = static_cast<std::size_t>(kernels::round_up(n_, kernels::kPanel));
    qparams_.resize(static_cast<std::size_t>(n_));
    scale_.assign(padded, 0.0F);
    bias_.assign(padded, 0.0F);
    row_sum_.assign(padded, 0);
    offset_.assign(padded, 0);
    weight_zero_.assign(padded, 0);
    if (parts.bias.defined())
      std::copy(parts.bias.f32().begin(), parts.bias.f32().end(), bias_.begin());
  }

  /// Whether integers hold the scheme.
  static bool fits(const SiteProblem& p) {
    const bool groups = p.weights.granularity == Granularity::kPerGroup ||
                        p.activations.granularity == Granularity::kPerGroup;
    const bool tensor_at_run_time =
        p.activations.dynamic && p.activations.granularity != Granularity::kPerToken;
    return !groups && !tensor_at_run_time &&
           p.weight.cols() <= std::numeric_limits<std::int32_t>::max() / (255 * 255);
  }

  void set(const SiteCandidate& candidate) {
    candidate_ = &candidate;
    const bool split = !candidate.sources.empty();
    if (split) split_ = split_columns(parts_.weight(), candidate.sources);
    const Tensor& weight = split ? split_ : parts_.weight();
    inputs_.clear();
    if (weight.cols() != k_) prepare(weight.cols());
    encode(weight, candidate.scale.f32(), !split);
    input_ = {p_.activations, {}};
    if (!input_.spec.dynamic) input_.qparams = calculate_qparams(candidate.range, input_.spec);
    const std::int32_t zero = input_.qparams.zero_point + code_shift(input_.spec);
    for (std::size_t j = 0; j < static_cast<std::size_t>(n_); ++j) {
      scale_[j] =
          input_.spec.dynamic ? qparams_[j].scale : input_.qparams.scale * qparams_[j].scale;
      offset_[j] = (input_.spec.dynamic ? -1 : -zero) * row_sum_[j];
    }
  }

  void read(std::size_t chunk, const Tensor& x) override {
    QuantizedRows& codes = slot_of(chunk, parts_, inputs_);
    if (!codes.defined()) codes = quantize(x);
  }
  void multiply(const Piece& piece, Tensor& y) const override {
    std::vector<std::int32_t> term;
    kernels::Epilogue e = epilogue(piece, term);
    e.f32 = y.f32().data();
    e.ld_out = y.cols();
    run_gemm(*kernel_, inputs_[piece.chunk], packed_of(piece), e, ctx_);
  }
  /// By row, without the product in memory.
  std::vector<double> squared_errors(const Piece& piece) const {
    std::vector<std::int32_t> term;
    return gemm_squared_errors(*kernel_, inputs_[piece.chunk], packed_of(piece),
                               epilogue(piece, term), piece.target, ctx_);
  }

 private:
  const kernels::PackedWeights& packed_of(const Piece& piece) const {
    return packed_[static_cast<std::size_t>(piece.part)];
  }

  kernels::Epilogue epilogue(const Piece& piece, std::vector<std::int32_t>& term) const {
    const std::int64_t first = piece.part * parts_.rows;
    kernels::Epilogue e;
    e.scale = scale_.data() + first;
    e.bias = bias_.data() + first;
    set_zero_point_terms(inputs_[piece.chunk], k_, offset_.data() + first,
                         p_.weights.symmetric ? nullptr : weight_zero_.data() + first, term, e);
    return e;
  }

  /// Codes of weight * scale. Thresholds fall from one candidate to the next, so that the columns
  /// with a scale other than 1 are few at first, and those of the candidate before among them
  /// (`may_nest`): then the others keep their codes in all rows that keep their step.
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
    const bool nested =
        few && nestable_ &&
        std::includes(columns.begin(), columns.end(), columns_.begin(), columns_.end());
    std::set_difference(columns.begin(), columns.end(), columns_.begin(), columns_.end(),
                        std::back_inserter(added));
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
        Range& other =
            others_[static_cast<std::size_t>(i)];  // with 0, which every range is widened to
        const auto held = [&](std::int32_t j) {
          return weight.row(i)[j] == other.min || weight.row(i)[j] == other.max;
        };
        if (!nested || std::any_of(added.begin(), added.end(), held))
          other = range(weight.row(i), others.data(), k_);
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
    const std::int64_t panels = packed_.front().padded_n() / kernels::kPanel;  // of a part
    ctx_.pool.parallel_for(parts_.count * panels, 1, [&](std::int64_t panel, std::int64_t) {
      std::vector<float> few_weights(columns.size());
      std::vector<std::uint8_t> few_codes(columns.size());
      for (std::int64_t i = panel * kernels::kPanel;
           i < std::min(n_, (panel + 1) * kernels::kPanel); ++i) {
        const auto at = static_cast<std::size_t>(i);
        const StepAndZero before = qparams_[at];
        qparams_[at] = calculate_qparams(ranges[at], p_.weights);
        const kernels::CodeArgs args = code_args(p_.weights, qparams_[at]);
        std::uint8_t* codes = codes_.as<std::uint8_t>().data() + i * k_;
        if (nested && before.scale == qparams_[at].scale &&
            before.zero_point == qparams_[at].zero_point) {
          gather(i, few_weights);
          rows_.quantize_scaled(few_weights.data(), factors.data(), kernels::Factor::kMultiply,
                                count, qparams_[at].scale, args, few_codes.data());
          for (std::size_t c = 0; c < columns.size(); ++c) {
            row_sum_[at] += few_codes[c] - codes[columns[c]];
            codes[columns[c]] = few_codes[c];
          }
          continue;
        }
        const std::int32_t sum = rows_.quantize_scaled(weight.row(i), s, kernels::Factor::kMultiply,
                                                       k_, qparams_[at].scale, args, codes);
        row_sum_[at] = sum - shift * static_cast<std::int32_t>(k_);
        weight_zero_[at] = qparams_[at].zero_point - moved;
      }
      const std::int64_t part = panel / panels, at = panel % panels;
      kernels::pack_panels(codes_.as<std::uint8_t>().data() + part * parts_.rows * k_, k_, false,
                           shift, packed_[static_cast<std::size_t>(part)], at, at + 1);
    });
    nestable_ = few;
    columns_ = std::move(columns);
  }

  void prepare(std::int64_t k) {
    k_ = k;
    nestable_ = false;
    codes_ = Tensor::uninitialized(DType::kU8, {n_, k_});
    packed_.resize(static_cast<std::size_t>(parts_.count));
    for (kernels::PackedWeights& w : packed_)
      kernels::prepare_packing(parts_.rows, k_, kernel_->layout, w);
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
        for (std::size_t c = 0; c < columns.size(); ++c)
          columns[c] = x.row(i)[candidate_->sources[c]] - candidate_->shift.f32()[c];
        const float* row = columns.empty() ? x.row(i) : columns.data();
        StepAndZero qp = input_.qparams;
        if (input_.spec.dynamic) {
          const kernels::RowRange r = rows_.scaled_range(row, s, kernels::Factor::kDivide, k_);
          qp = calculate_qparams({r.min, r.max}, input_.spec);
          q.scale[at] = qp.scale;
          q.zero[at] = qp.zero_point + code_shift(input_.spec);
        }
        q.sum[at] = rows_.quantize_scaled(row, s, kernels::Factor::kDivide, k_, qp.scale,
                                          code_args(input_.spec, qp), q.row(i));
      }
    });
    return q;
  }

  const SiteProblem& p_;
  const Parts& parts_;
  ExecContext& ctx_;
  const kernels::RowKernels& rows_;
  const std::int64_t n_;
  std::int64_t k_;
  const kernels::GemmS8Kernel* kernel_ = nullptr;
  const SiteCandidate* candidate_ = nullptr;
  Tensor codes_;  // [N, K] before packing
  Tensor split_;  // the weight, where the candidate splits channels
  // Of the last candidate, where `nestable_`: columns that were scaled, and the ranges of the
  // others by row.
  bool nestable_ = false;
  std::vector<std::int32_t> columns_;
  std::vector<Range> others_;
  std::vector<kernels::PackedWeights> packed_;  // by part
  std::vector<QuantizedRows> inputs_;           // by chunk, of this candidate
  ActivationQuant input_;
  std::vector<StepAndZero> qparams_;
  std::vector<float> scale_, bias_;
  std::vector<std::int32_t> row_sum_, offset_, weight_zero_;
};

class Race {
 public:
  Race(const SiteProblem& problem, std::span<const SiteCandidate> candidates,
       const RaceOptions& options, ExecContext& ctx)
      : p_(problem),
        candidates_(candidates),
        options_(options),
        type_(rounded_to(options.arithmetic)),
        ctx_(ctx),
        parts_(parts_of(problem)),
        chunks_(chunks_of(problem, options)) {
    const bool sampled = options_.rule == RaceRule::kSampled;
    if (parts_.bias.defined()) round_values(type_, parts_.bias.span(), ctx_);
    for (Chunk& chunk : chunks_) {
      round_values(type_, chunk.x.span(), ctx_);
      if (p_.shift.defined()) subtract(p_.shift, chunk.x);
      round_values(type_, chunk.x.span(), ctx_);
      spill(chunk.x, p_.scratch);
      if (!p_.attention.rotary_inv_freq.empty())
        chunk.rotary = make_rotary_table(chunk.positions, p_.attention.rotary_inv_freq,
                                         p_.attention.rotary_amplitude, ctx_);
      tokens_ += chunk.tokens();
    }
    require(tokens_ > 0, ErrorCode::kInvalidInput, "search: no token in the calibration batches");
    if (options_.arithmetic == LossArithmetic::kInteger && IntegerProduct::fits(p_))
      integer_.emplace(p_, parts_, ctx_);
    compares_products_ =
        integer_ && p_.kind != SiteKind::kAttention && p_.kind != SiteKind::kGatedMlp;
    blocks_ = blocks_of(chunks_.size(), static_cast<std::size_t>(parts_.count), sampled);
    set_targets();
    sums_.assign(candidates_.size(), std::vector<double>(blocks_.size(), -1.0));
    if (sampled)
      units_.assign(candidates_.size(), std::vector<std::vector<double>>(blocks_.size()));
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
      // Equal totals are won by the smaller index; the order of additions must not decide, so the
      // limit leaves room for rounding.
      constexpr double kRoom = 1 + 1e-12;
      advance(c, order, [&](double total) {
        if (options_.rule == RaceRule::kExhaustive) return false;
        if (total > best * kRoom) return true;
        return options_.rule == RaceRule::kSampled && result.best >= 0 &&
               is_worse(c, static_cast<std::size_t>(result.best));
      });
      if (!complete(c)) return;
      const double total = sum(c);
      if (total < best || (total == best && static_cast<int>(c) < result.best)) {
        best = total;
        result.best = static_cast<int>(c);
      }
    };
    // Whoever seems to lead finishes first, and the others, in their order so that most of their
    // codes stay from one to the next, are compared with it.
    const std::size_t leader = find_leader();
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
    result.rows = multiplied_ / parts_.count;
    return result;
  }

 private:
  void subtract(const Tensor& shift, Tensor& x) const {
    ctx_.pool.parallel_for(x.rows(), 64, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t i = begin; i < end; ++i)
        for (std::int64_t j = 0; j < x.cols(); ++j)
          x.row(i)[j] -= shift.f32()[static_cast<std::size_t>(j)];
    });
  }

  /// On a sixteenth of the blocks, the best of every eighth candidate, then of its neighbours ever
  /// closer.
  std::size_t find_leader() {
    std::vector<std::size_t> few;
    const std::size_t wanted = (blocks_.size() + kRaceChunks - 1) / kRaceChunks;
    for (std::size_t i = 0; i < wanted; ++i) few.push_back(i * blocks_.size() / wanted);
    const auto loss = [&](std::size_t c) { return advance(c, few, [](double) { return false; }); };
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
    std::vector<double> per_row;
    for (std::size_t b = 0; b < blocks_.size(); ++b)
      per_row.push_back(sums_[c][b] / static_cast<double>(rows_of(blocks_[b])));
    std::stable_sort(order.begin(), order.end(),
                     [&](std::size_t a, std::size_t b) { return per_row[a] > per_row[b]; });
  }

  /// Whether chance hardly explains that the units of `c` computed so far are worse than the same
  /// of `best`.
  bool is_worse(std::size_t c, std::size_t best) const {
    PairedTest test;
    double units = 0;
    for (std::size_t b = 0; b < blocks_.size(); ++b) {
      units += static_cast<double>(units_[best][b].size());
      for (std::size_t i = 0; i < units_[c][b].size(); ++i)
        test.add(units_[c][b][i] - units_[best][b][i]);
    }
    return test.is_positive(units);
  }

  /// Computes the blocks that candidate `c` still lacks, until `is_out` says so of its sum. A loss
  /// that is not finite never wins.
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
          fake.emplace(p_, parts_, candidates_[c], type_, ctx_);
      }
      const std::vector<double> units =
          units_of(blocks_[b], integer_ ? static_cast<CandidateProduct&>(*integer_) : *fake);
      const double loss = std::accumulate(units.begin(), units.end(), 0.0);
      sums_[c][b] = loss >= 0 ? loss : std::numeric_limits<double>::infinity();
      total += sums_[c][b];
      if (options_.rule == RaceRule::kSampled) units_[c][b] = units;
    }
    return total;
  }

  std::int64_t rows_of(const Block& block) const {
    std::int64_t rows = 0;
    for (const Piece& piece : block) rows += chunks_[piece.chunk].x.rows();
    return rows;
  }

  /// Calls `body` for each piece: at the same time where there are enough of them, else one after
  /// the other with all threads.
  void for_pieces(std::int64_t count, const std::function<void(std::size_t)>& body) const {
    if (count < 2 * ctx_.pool.num_threads()) {
      for (std::int64_t i = 0; i < count; ++i) body(static_cast<std::size_t>(i));
    } else {
      ctx_.pool.parallel_for(
          count, 1, [&](std::int64_t i, std::int64_t) { body(static_cast<std::size_t>(i)); });
    }
  }

  /// The squared errors of a block by what a sample is drawn of: rows, or pieces where tokens
  /// attend to each other.
  std::vector<double> units_of(Block& block, CandidateProduct& product) {
    multiplied_ += rows_of(block);
    std::vector<std::vector<double>> rows(block.size());
    const auto evaluate = [&](std::size_t i) {
      Piece& piece = block[i];
      const Chunk& chunk = chunks_[piece.chunk];
      if (compares_products_) {
        rows[i] = integer_->squared_errors(piece);
      } else {
        Tensor y = Tensor::uninitialized(DType::kF32, {chunk.x.rows(), parts_.rows});
        product.multiply(piece, y);
        rows[i] = squared_errors(piece, output(piece, std::move(y)));
      }
      spill(piece.target, p_.scratch);
    };
    for (const Piece& piece : block) {
      product.read(piece.chunk, chunks_[piece.chunk].x);
      spill(chunks_[piece.chunk].x, p_.scratch);
    }
    for_pieces(std::ssize(block), evaluate);
    std::vector<double> units;
    for (const std::vector<double>& r : rows) {
      if (p_.kind == SiteKind::kAttention)
        units.push_back(std::accumulate(r.begin(), r.end(), 0.0));
      else
        units.insert(units.end(), r.begin(), r.end());
    }
    return units;
  }

  void set_targets() {
    const Tensor rounded =
        type_ == DType::kF32 ? Tensor() : rounded_copy(type_, parts_.weight(), ctx_);
    const Tensor& weight = type_ == DType::kF32 ? parts_.weight() : rounded;
    for (Block& block : blocks_)
      for_pieces(std::ssize(block), [&](std::size_t i) {
        Piece& piece = block[i];
        const Tensor& x = chunks_[piece.chunk].x;
        Tensor y = Tensor::uninitialized(DType::kF32, {x.rows(), parts_.rows});
        linear_rounded_to(type_, x, parts_.rows_of(piece.part, weight), parts_.bias_of(piece.part),
                          y, ctx_);
        x.drop_pages();
        piece.target = output(piece, std::move(y));
        if (compares_products_) piece.target = pack_target(piece.target, ctx_);
        spill(piece.target, p_.scratch);
      });
  }

  /// By row: sums over them in their order do not depend on the number of threads.
  std::vector<double> squared_errors(const Piece& piece, const Tensor& y) const {
    const std::vector<bool>& counts = chunks_[piece.chunk].counts;
    std::vector<double> rows(static_cast<std::size_t>(y.rows()));
    const kernels::RowKernels& k = kernels::row_kernels(ctx_.isa);
    ctx_.pool.parallel_for(y.rows(), 16, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t i = begin; i < end; ++i)
        if (counts.empty() || counts[static_cast<std::size_t>(i)])
          rows[static_cast<std::size_t>(i)] =
              k.squared_difference(y.row(i), piece.target.row(i), y.cols());
    });
    return rows;
  }

  Tensor output(const Piece& piece, Tensor y) const {
    if (p_.kind == SiteKind::kAttention) return attention_output(piece, y);
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

  Tensor attention_output(const Piece& piece, const Tensor& y) const {
    const Chunk& chunk = chunks_[piece.chunk];
    const std::int64_t nq = parts_.split[0];
    const std::int64_t nk = parts_.split[1];
    Tensor q = slice_columns(y, 0, nq);
    Tensor k = slice_columns(y, nq, nk);
    Tensor v = slice_columns(y, nq + nk, parts_.split[2]);
    if (p_.q_norm)
      normalize_heads(p_.head_norm.kind, p_.q_norm->weight, p_.q_norm->bias, p_.head_norm.eps, q,
                      ctx_);
    if (p_.k_norm)
      normalize_heads(p_.head_norm.kind, p_.k_norm->weight, p_.k_norm->bias, p_.head_norm.eps, k,
                      ctx_);

    AttentionCall call{.spec = p_.attention, .queries = chunk.batch, .keys = chunk.batch};
    call.part = {.first_kv_head = piece.part, .kv_heads = 1};
    call.positions = chunk.positions;
    call.rotary = &chunk.rotary;
    if (chunk.bias) call.bias = *chunk.bias;
    return run_attention(call, {.arithmetic = type_},
                         AttentionOperands(std::move(q), std::move(k), std::move(v)), ctx_);
  }

  Tensor gated_output(const Tensor& y) const {
    Tensor gate = slice_columns(y, 0, p_.rows[0]);
    const Tensor up = slice_columns(y, p_.rows[0], p_.rows[1]);
    activate(p_.activation, gate, gate.span(), ctx_);
    round_values(type_, gate.span(), ctx_);
    multiply(gate, up, gate.span(), ctx_);
    round_values(type_, gate.span(), ctx_);
    return gate;
  }

  const SiteProblem& p_;
  std::span<const SiteCandidate> candidates_;
  RaceOptions options_;
  DType type_;
  ExecContext& ctx_;
  Parts parts_;
  std::vector<Chunk> chunks_;
  std::vector<Block> blocks_;
  std::optional<IntegerProduct> integer_;
  bool compares_products_ = false;  ///< the loss is that of the integer product itself: targets are
                                    ///< packed, all rows count
  std::vector<std::vector<double>> sums_;  ///< by candidate and block; -1: not computed
  std::vector<std::vector<std::vector<double>>>
      units_;                                 ///< what they are made of, where the race is sampled
  std::int64_t tokens_ = 0, multiplied_ = 0;  ///< multiplied: rows times parts
};

}  // namespace

RaceResult race(const SiteProblem& problem, std::span<const SiteCandidate> candidates,
                const RaceOptions& options, ExecContext& ctx) {
  return Race(problem, candidates, options, ctx).run();
}

}  // namespace quell
