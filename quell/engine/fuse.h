// Rewrites the graph of a quantized model: which nodes become one operator, and what passes between
// them: codes where every reader takes codes, f32 where one does not.
#pragma once

#include <map>
#include <memory>

#include "quell/engine/engines.h"

namespace quell {

/// The packed integer products of a model (linears and convolutions), one for each weight and input
/// quantizer, and the fusion around them.
class LoweredOps {
 public:
  /// Throws Error(kUnsupported) naming the product whose scheme has no integer kernel, unless
  /// `tolerant`. Keeps a reference to `model`.
  LoweredOps(const Model& model, Isa isa, bool tolerant = false);

  /// Null where the node is no product or stays float.
  const IntegerProduct* product(int node) const {
    return products_[static_cast<std::size_t>(node)].get();
  }
  /// Why a product stays float.
  std::string why_not(int node) const;
  /// The model's graph with ops of engine/lowered_op.h where linears, norms and attentions compute
  /// with codes; ids of nodes and values stay.
  Graph fuse() const;

 private:
  std::shared_ptr<const IntegerProduct> make(int node, bool tolerant);

  const Model& model_;
  Isa isa_;
  std::vector<std::shared_ptr<const IntegerProduct>> products_;
  std::map<int, std::string> refusals_;
  std::map<int, std::vector<std::shared_ptr<const IntegerProduct>>> by_param_;
};

}  // namespace quell
