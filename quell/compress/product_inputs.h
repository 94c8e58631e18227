// What the weights of a site's products multiply: of a linear the site's inputs, of a convolution
// what its taps see of them.
#pragma once

#include <functional>
#include <map>
#include <vector>

#include "quell/compress/site.h"

namespace quell {

/// X^T X by product, made when first asked for. Refers to what it is made of.
class SiteGrams {
 public:
  SiteGrams(const Site& site, const SiteActivations& activations, ExecContext& ctx)
      : site_(site), activations_(activations), ctx_(ctx) {}
  /// One matrix [K, K] for each group of rows that see the same channels; linears have one, and
  /// share it. Over tokens whose mask is 1. Throws Error(kNumeric) where one is not finite.
  const std::vector<Tensor>& of(NodeId product);

 private:
  const Site& site_;
  const SiteActivations& activations_;
  ExecContext& ctx_;
  std::map<NodeId, std::vector<Tensor>> by_product_;  ///< of linears: by kNoNode
};

/// Mean square of what each column [K] of the product's weight multiplies; of convolutions in
/// groups, the mean over groups.
std::vector<float> mean_squares(const Site& site, NodeId product,
                                const SiteActivations& activations, ExecContext& ctx);

/// Chooses codes of some rows of a weight: from those of rounding to nearest, and X^T X of what the
/// rows multiply.
using RoundRows = std::function<QTensor(const TensorView& rows, QTensor nearest, const Tensor& gram,
                                        ExecContext& ctx)>;

/// Codes of a whole weight [N, K], rows of one group after the other. Groups whose inputs are all 0
/// keep their nearest codes, and a warning names `who`.
QTensor round_by_group(const Tensor& weight, QTensor nearest, const std::vector<Tensor>& grams,
                       const RoundRows& round, const std::string& who, ExecContext& ctx);

}  // namespace quell
