// What an op says of channels (columns): which of its operands and of its parameter belong to which
// of its output, and what of a change by channel gets through it.
#pragma once

#include <cstddef>

#include "quell/quant/plan.h"

namespace quell {

struct Node;

/// What of a change by channel, x -> (x - shift) / scale, somebody takes or lets through.
enum class ChannelChange { kNothing, kScale, kScaleAndShift };

/// A change of one operand comes out of the op as the same change of its output, while the other
/// operands stay.
struct ChannelPass {
  std::size_t operand = 0;
  ChannelChange change = ChannelChange::kNothing;
  SharedHeads shared = {};  ///< from channels of the output to those of the operand
  bool operator==(const ChannelPass&) const = default;
};

/// How channels of operands become those of the output.
enum class ChannelKind {
  kNone,     ///< not said: the op wants its operands with their original meaning
  kMatrix,   ///< by a weight [channels of the output, channels of operand 0] and a bias [channels
             ///< of the output], as a linear has them; of a convolution the columns are taps of
             ///< channels (ColumnChannels)
  kVector,   ///< the last step is a weight and a bias [channels of the output], as of a norm;
             ///< operands have their original meaning
  kTable,    ///< the output is rows of a weight [rows, channels of the output]
  kEach,     ///< channel j of the output is made of channel j of the operands alone
  kProduct,  ///< likewise, and is their product: a scale of one of them gets through
  kHeads,    ///< sums of rows of an operand, head by head, by factors that add up to one
};

struct ChannelRule {
  ChannelKind kind = ChannelKind::kNone;
  /// kEach, kHeads: what gets through this node. Null: nothing does. kMatrix: what its columns
  /// undo; null: everything.
  ChannelPass (*pass)(const Node& node) = nullptr;
};

}  // namespace quell
