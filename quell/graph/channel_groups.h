// Channel groups: what has to change together when channels of a value change, and who can take a
// part in it. To scale, shift and split channels are operations on them. Derived from the graph and
// from what each op says of channels (OpDef::channels).
#pragma once

#include <string>
#include <vector>

#include "quell/graph/forms.h"

namespace quell {

/// From channels of a group to what one member has for them: rows, columns or elements of its
/// parameter.
struct ChannelMap {
  std::int64_t size = 0;    ///< channels of the group
  SharedHeads shared = {};  ///< of rows behind an attention: several channels may share one
  Packing packing = {};     ///< of rows: how the checkpoint stores them

  /// In [0, own_size()), for a channel in [0, size).
  std::int64_t own(std::int64_t channel) const { return shared.row_of(channel); }
  std::int64_t own_size() const { return size / shared.heads; }
  /// The same in the tensor of the checkpoint, where parts of a fused matrix lie behind or between
  /// each other.
  std::int64_t stored(std::int64_t channel) const {
    return packed_row(packing, own(channel), own_size());
  }
};

/// What of a member's parameter the channels are.
enum class ChannelAxis {
  kNone,      ///< it has none that takes part
  kRows,      ///< of a matrix [out, in]
  kColumns,   ///< of a matrix [out, in], or of a table [rows, columns]
  kElements,  ///< of vectors: weight and bias of a norm
};

/// A node's part in a group.
struct ChannelMember {
  NodeId node = kNoNode;     ///< kNoNode among `others`: the callers of the model
  ValueId value = kNoValue;  ///< of the group, which it makes, or reads
  ChannelAxis axis = ChannelAxis::kNone;
  ChannelChange change = ChannelChange::kNothing;  ///< that it takes, or lets through
  ChannelMap map = {};
};

struct ChannelGroup {
  /// Values [rows, channels] that change together, ascending: more than one where weights are
  /// shared.
  std::vector<ValueId> values;
  /// Who makes the channels and can absorb a change of them: norms in their elements, matrices in
  /// their rows, tables in their columns. At most one a value, and none where nobody can: then a
  /// change can only be written down (op_affine).
  std::vector<ChannelMember> producers;
  /// Between a producer and the value, where it is not the producer that computes it; with what
  /// they let through.
  std::vector<ChannelMember> passers;
  /// Matrices that read the values and undo a change in their columns: one node for each matrix.
  std::vector<ChannelMember> consumers;
  /// Those that read them with their original meaning, which must be restored for them.
  std::vector<ChannelMember> others;
  /// Why nothing can be changed, not even by writing it down; empty: it can.
  std::string why_not;

  /// Of one value; null: there is none.
  const ChannelMember* producer_of(ValueId value) const;
  bool others_read(ValueId value) const;
};

/// Through which kinds of ops producers are looked for. Through products they always are.
struct ChannelScope {
  bool through_relu = false;       ///< element-wise ops that let a change through (kEach)
  bool through_attention = false;  ///< kHeads
};

/// The group of a value, by any form of it.
ChannelGroup channel_group(const Graph& graph, ValueId value, const ChannelScope& scope = {});

/// Linears whose rows decide how many channels the only value of the group has, through
/// element-wise ops: who repeats their rows and the consumers' columns alike has split channels.
/// Empty: somebody else makes or reads them, or a part of it is not theirs alone.
std::vector<NodeId> row_makers(const Graph& graph, const ChannelGroup& group);

}  // namespace quell
