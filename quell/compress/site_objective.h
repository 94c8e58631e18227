// How well one site, quantized with given scales and activation range, reproduces its float output:
// the objective that the searches of compression passes minimise, and their exact race.
//   L(s, range) = mean over tokens of sum over outputs of (f(Qa(X / s), Qw(W s)) - f(X, W))^2
// f is the attention output for q, k, v, act(gate) * up for a gated MLP, and the product alone
// otherwise (Wei et al., Outlier Suppression+, EMNLP 2023, section 4; docs/numerics.md).
#pragma once

#include <span>
#include <vector>

#include "quell/compress/channel_split.h"
#include "quell/compress/site_problem.h"

namespace quell {

/// How the loss is computed. Divisions are true ones in all of them, and element-wise operations
/// f32 in the first two.
enum class LossArithmetic {
  kInteger,  ///< exact int32 sums of code products, the same bytes for any ISA and number of
             ///< threads; f32 where groups are in play
  kF32,      ///< f32 products of fake-quantized values, as the reference on a CPU
  kF16,   ///< as the reference with a model of f16 tensors: each operation's result is rounded to
          ///< it, products are summed in f32
  kBF16,  ///< the same with bf16
};

/// The type that results are rounded to; f32: none.
constexpr DType rounded_to(LossArithmetic arithmetic) {
  return arithmetic == LossArithmetic::kF16    ? DType::kF16
         : arithmetic == LossArithmetic::kBF16 ? DType::kBF16
                                               : DType::kF32;
}

/// What a search tries: scales by column and, for static activations, the range of the quantizer
/// behind them. Columns are the channels, or what `sources` makes of them; then `shift` belongs to
/// the copies (copy_shifts).
struct SiteCandidate {
  Tensor scale;  ///< [C] or [C']
  Range range;
  ColumnSources sources = {};
  Tensor shift = {};
};

/// When a candidate is out.
enum class RaceRule {
  kExhaustive,  ///< never: all losses in full
  kExact,  ///< as soon as its sum, which can only grow, exceeds the best total: the same winner
  /// Then too, and as soon as its tokens, drawn at random, are worse than the same of the best by
  /// more than chance explains: paired t-test, p < 1e-4 (racing, after Maron and Moore, 1994).
  /// Where tokens attend to each other, heads of some sequences are drawn instead, equally many of
  /// every head. The winner may be another candidate whose loss can hardly be told apart.
  kSampled,
};

struct RaceOptions {
  LossArithmetic arithmetic = LossArithmetic::kInteger;
  RaceRule rule = RaceRule::kExact;
  bool odd_batches = false;  ///< those alone count: what to try was derived from the others
};

/// The tokens of a site are multiplied in about so many chunks, in a sampled race in more.
inline constexpr std::int64_t kRaceChunks = 16, kSampledChunks = 64;

struct RaceResult {
  std::vector<double> losses;  ///< by candidate; of one that was stopped, what its tokens so far
                               ///< amount to: a lower bound
  std::vector<bool> complete;
  int best = -1;          ///< the first of the smallest
  std::int64_t rows = 0;  ///< rows times candidates that were multiplied
};

/// Evaluates the candidates block by block until the rule says they are out, or they are complete
/// and compared. Throws Error(kInvalidInput) where no token counts.
RaceResult race(const SiteProblem& problem, std::span<const SiteCandidate> candidates,
                const RaceOptions& options, ExecContext& ctx);

}  // namespace quell
