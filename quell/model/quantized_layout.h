// The layouts in which checkpoints hold quantized linears, behind one interface: compressed-tensors
// (quantized_checkpoint.h), BitNet b1.58 (bitnet_layout.h) and ParetoQ (paretoq_layout.h).
#pragma once

#include <memory>
#include <set>
#include <string>

#include "quell/graph/graph.h"
#include "quell/io/checkpoint.h"
#include "quell/quant/quant_spec.h"

namespace quell {

/// A linear, or convolution, as it was quantized.
struct QuantizedModule {
  QTensor weight;           ///< codes [rows, columns] and their steps
  ActivationQuant input;    ///< of the values that it reads
  float bias_scale = 1.0F;  ///< what the stored bias is multiplied by
};

class QuantizedLayout {
 public:
  virtual ~QuantizedLayout() = default;
  /// Whether parameter `p` of `graph`, a matrix that the file calls `weight_name`, is quantized.
  virtual bool holds(const Graph& graph, ParamId p, const std::string& weight_name) const = 0;
  /// The module with a weight of `shape`; adds the names it read to `used`. Throws Error naming
  /// file and tensor where one is missing or does not fit.
  virtual QuantizedModule read(const ParamDef& def, const std::string& weight_name,
                               const Shape& shape, std::set<std::string>& used) const = 0;
};

/// Whether linears read the matrix of `p`.
bool is_linear(const Graph& graph, ParamId p);

/// Throws Error(kUnsupported) where config.json speaks of codes for which the checkpoint holds
/// nothing to make them of.
void check_layout(const Checkpoint& checkpoint);

/// The layout that config.json names; compressed-tensors where it names none. `config`:
/// checkpoint's, with what its reader has changed. Keeps references to both. Throws
/// Error(kUnsupported).
std::unique_ptr<QuantizedLayout> layout_of(const Checkpoint& checkpoint, const Json& config);

}  // namespace quell
