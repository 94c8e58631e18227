// What the weights of a site's products multiply: of a linear the site's inputs, of a convolution
// what its taps see of them.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "quell/compress/site.h"

namespace quell {

/// Second moments of the inputs X [tokens, K] of some rows of a weight, over tokens whose mask
/// is 1.
struct InputMoments {
  Tensor gram;     ///< X^T X [K, K]
  Tensor missing;  ///< (X_float - X)^T X [K, K], X_float what the float model has there; undefined
                   ///< where that is not known
};

/// Whether moments keep the means of the inputs, or are those of X less its means: where a bias
/// takes over whatever the means of the outputs lack, only the rest is left to the weights. Columns
/// that are constant then are 0.
enum class MeanInputs { kKept, kTaken };

/// Moments by product, made when first asked for. Refers to what it is made of.
class SiteMoments {
 public:
  SiteMoments(const Site& site, const SiteActivations& activations, ExecContext& ctx)
      : site_(site), activations_(activations), ctx_(ctx) {}
  /// One for each group of rows that see the same channels; linears have one, and share it.
  const std::vector<InputMoments>& of(NodeId product, MeanInputs means);

 private:
  const Site& site_;
  const SiteActivations& activations_;
  ExecContext& ctx_;
  /// Of linears: by kNoNode.
  std::map<std::pair<NodeId, MeanInputs>, std::vector<InputMoments>> by_product_;
};

/// Mean square of what each column [K] of the product's weight multiplies; of convolutions in
/// groups, the mean over groups.
std::vector<float> mean_squares(const Site& site, NodeId product,
                                const SiteActivations& activations, ExecContext& ctx);

/// Chooses codes of some rows of a weight: from those of rounding to nearest, and the moments of
/// what the rows multiply.
using RoundRows = std::function<QTensor(const TensorView& rows, QTensor nearest,
                                        const InputMoments& inputs, ExecContext& ctx)>;

/// Codes of a whole weight [N, K], rows of one group after the other. Groups whose moments are 0
/// keep their nearest codes, and a warning names `who`. Throws Error(kNumeric) naming it where
/// moments are not finite.
QTensor round_by_group(const Tensor& weight, QTensor nearest,
                       const std::vector<InputMoments>& inputs, const RoundRows& round,
                       const std::string& who, ExecContext& ctx);

}  // namespace quell
