// Token-Wise Clipping (Wei et al., Outlier Suppression, NeurIPS 2022, section 4.2). Coarse stage:
// ranges that leave out the tokens whose extrema are largest, with one percentile for all
// quantizers, chosen by the error of the model's output. Fine stage: steps and zero points that
// follow the gradient of that error.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "quell/compress/journal.h"
#include "quell/model/model.h"
#include "quell/quant/plan.h"
#include "quell/text/data/token_batch.h"

namespace quell {

/// The largest and smallest element of every token that counts, in one batch at one quantizer.
struct TokenExtrema {
  std::vector<float> max, min;
};

/// Bounds are extrema of tokens: the largest of `max` that is at most the p-quantile of |max|, the
/// smallest of `min` that is at least minus the p-quantile of |min|. Quantiles are
/// torch.quantile's, bit for bit (rank in double of p rounded to f32). One range for each p in [0,
/// 1]; at least one token.
std::vector<Range> clip_tokens(const TokenExtrema& tokens, std::span<const double> percentiles);

enum class ClippingLoss {
  kAuto,          ///< cross-entropy for causal language models, else outputs
  kOutputs,       ///< mean squared difference to the float outputs
  kCrossEntropy,  ///< of the next token; causal language models only
};

struct TokenClippingOptions {
  double step = 0;  ///< of the grid 1, 1 - step, ...; 0: by the size of a batch, as the reference
  std::int64_t candidates = 0;  ///< 0: by the number of bits, as the reference
  double percentile = 0;        ///< not 0: no search
  ClippingLoss loss = ClippingLoss::kAuto;
  bool float_weights = false;  ///< the loss with weights in float, as Outlier Suppression; else
                               ///< quantized, as Outlier Suppression+
  std::int64_t epochs = 0;     ///< of the fine stage over the batches; 0: none
  double learning_rate = 1e-5;
};

/// Where a static activation quantizer sits: the input of linears, or a point inside an attention.
struct QuantizerPlace {
  int value = -1;
  int node = -1, point = 0;  ///< point: 0..3 of query, key, value, probs
};

struct TokenClippingResult {
  std::vector<QuantizerPlace> places;
  std::vector<double> percentiles,
      losses;  ///< in the order tried; a loss that cannot win any more is a lower bound of itself
  std::vector<std::vector<Range>> ranges;  ///< by candidate and place
  int best = -1;
  std::vector<StepAndZero> learned;  ///< by place, of the fine stage; empty: there was none
  std::vector<double> step_losses;   ///< of the fine stage, in front of each step
  double coarse_loss = 0,
         fine_loss = 0;  ///< of all batches in front of the fine stage and behind it
};

/// Candidates are tried beside the model's quantizers; losses and gradients are noted down. Throws
/// Error(kUsage) where no static quantizer or no output fits the loss.
TokenClippingResult search_token_clipping(const Model& model,
                                          const std::vector<TokenBatch>& samples,
                                          const TokenClippingOptions& options, ExecContext& ctx,
                                          const Notes& notes = {});

/// The quantizers of one candidate.
Plan clipping_plan(const Model& model, const TokenClippingResult& result, int candidate);
/// The quantizers of the fine stage.
Plan learned_plan(const Model& model, const TokenClippingResult& result);
/// Those that the fine stage learned if their loss is lower, else the best candidate's.
Plan final_plan(const Model& model, const TokenClippingResult& result);

}  // namespace quell
