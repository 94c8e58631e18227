// The model as a graph: nodes that are complete in themselves, over values that are written once.
// What a family builds, what passes look at and change, and what every engine walks.
//
// Ids of nodes, values and parameters are indices that are only ever appended to; a node is called
// by its label outside the program (reports, --ignore, files).
#pragma once

#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "quell/graph/attributes.h"
#include "quell/tensor/shape.h"

namespace quell {

using NodeId = int;
using ValueId = int;
using ParamId = int;
inline constexpr NodeId kNoNode = -1;
inline constexpr ValueId kNoValue = -1;
inline constexpr ParamId kNoParam = -1;
inline constexpr NodeId kNever = std::numeric_limits<NodeId>::max();

/// What the rows of a value are. The batch binds a row space to sizes, mask and origin.
struct RowSpace {
  enum class Kind {
    kTokens,     ///< one row a token of the stack's batch
    kSequences,  ///< one row a sequence
    kPatches,    ///< one row a patch of an image, fewer than the stack's tokens
    kTable,      ///< the rows of a parameter: no batch has a say
    kScores,     ///< [heads * N, N], a matrix of scores a head
    kImage,      ///< one row a pixel of images of one size: row by row, image by image
  };
  Kind kind = Kind::kTokens;
  int stack = 0;            ///< of an encoder-decoder model: whose tokens; else 0
  std::int64_t rows = 0;    ///< kTable
  std::int64_t height = 0;  ///< kImage
  std::int64_t width = 0;   ///< kImage
  bool operator==(const RowSpace&) const = default;
};

/// What is known of a value before there is a batch.
struct ValueType {
  RowSpace rows;
  std::int64_t columns = 0;  ///< 0: depends on the batch
  bool constant = false;     ///< computed from parameters alone
};

/// What the caller gives: values without a node that computes them.
enum class InputKind { kNone, kTokenIds, kTokenTypeIds, kPixels };
std::string_view input_name(InputKind kind);

/// What a node computes, or a source: an input, or the matrix of a parameter.
struct Value {
  ValueType type;
  NodeId producer = kNoNode;  ///< of sources: none
  InputKind input = InputKind::kNone;
  /// Whose matrix it is, as it is or as a quantizer leaves it.
  ParamId param = kNoParam;
};

/// How a checkpoint stores a weight [out, in] of ours, where it is not as it is.
struct Packing {
  bool transposed = false;  ///< stored [in, out] (Conv1D of GPT-2)
  int part = 0;  ///< one of several matrices whose rows lie in one tensor (fused q, k, v)
  int parts = 1;
  std::int64_t interleaved_heads =
      0;                  ///< the parts alternate head by head; 0: they follow each other
  bool plus_one = false;  ///< a norm's weight is stored less 1 (Gemma)
  /// Of a convolution, whose taps are columns of ours, [out, (height, width, in)]: stored [out, in,
  /// height, width]; transposed: [in, out, height, width]. 0: of none.
  std::int64_t kernel_height = 0;
  std::int64_t kernel_width = 0;

  std::int64_t taps() const { return kernel_height * kernel_width; }
  bool plain() const { return !transposed && parts == 1 && !plus_one && taps() == 0; }
  bool operator==(const Packing&) const = default;
};
/// Row of the stored tensor (not transposed) that holds our row `row` of `rows`.
std::int64_t packed_row(const Packing& packing, std::int64_t row, std::int64_t rows);
/// Shape of the stored tensor that holds a weight of `shape`.
Shape packed_shape(const Packing& packing, const Shape& shape);
/// Where the stored tensor holds our element (row, column) of a weight of `shape`.
std::int64_t packed_index(const Packing& packing, std::int64_t row, std::int64_t column,
                          const Shape& shape);

/// What a parameter is to passes and exporters that treat it apart.
enum class Role { kNone, kTokenTable, kProjection, kPooler, kClassifier, kLmHead };

/// Weight and bias of one module: said where the family first uses them. A weight of rank 2 is a
/// value too, which nodes read as an operand (Graph::weight); vectors belong to the node.
struct ParamDef {
  std::string module;  ///< Hugging Face module name
  std::string label;   ///< "q_proj": what nodes that use it are called
  Shape shape;         ///< of the weight; rank 1 for norms
  bool has_weight = true;
  bool has_bias = false;
  /// Further vectors of the module, as long as the bias: "<module>.<name>" each (statistics of a
  /// batch norm).
  std::vector<std::string> vectors = {};
  Packing packing = {};
  Role role = Role::kNone;
  std::string weight_name;  ///< of the tensor, where it is not "<module>.weight"
  std::string bias_name;    ///< where it is not "<module>.bias"
  bool any_rank = false;  ///< stored with as many elements, in any shape (convolutions, [1, 1, H])
  bool zero_bias_if_missing = false;
  ParamId tied_to = kNoParam;  ///< nodes read the weight of another parameter
  /// Of a table that others are tied to: the modules whose weight stands for it where the
  /// checkpoint holds none of this name, in this order; empty: those that are tied to it, in
  /// theirs.
  std::vector<std::string> stand_ins = {};
  /// With `tied_to`: a second name of that table, which is a parameter of its own only where its
  /// tensor is there and differs.
  bool only_if_different = false;

  std::string weight_tensor() const {
    return weight_name.empty() ? module + ".weight" : weight_name;
  }
  std::string bias_tensor() const { return bias_name.empty() ? module + ".bias" : bias_name; }
};

struct OpDef;

/// Where a node stands.
struct Place {
  int stack = 0;   ///< 0: the encoder or the only stack, 1: the decoder behind an encoder
  int layer = -1;  ///< in its stack, -1 outside layers
  bool operator==(const Place&) const = default;
};

struct Node {
  const OpDef* op = nullptr;
  Attributes attributes;
  std::vector<ValueId> in;  ///< kNoValue where an optional operand is left out
  ValueId out = kNoValue;
  ParamId param = kNoParam;
  Place place;
  std::string label;  ///< "layers.3.fc1"

  bool is(const OpDef& other) const { return op == &other; }
  /// kNoValue where there is none.
  ValueId operand(std::size_t i) const { return i < in.size() ? in[i] : kNoValue; }
};

/// Nodes [begin, end) as the family said them.
struct NodeRange {
  NodeId begin = 0;
  NodeId end = 0;
};

/// One run of layers with what lies around them: an encoder or a decoder.
struct StackInfo {
  bool decoder = false;  ///< reads the decoder's tokens
  int layers = 0;
  /// Embeddings, then what each layer gives; the last one is the stack's result.
  std::vector<ValueId> hidden_states = {};
};

class Graph {
 public:
  /// To be called when the family has said everything: nodes that come now are insertions.
  void finish_building() { built_ = num_nodes(); }
  int num_nodes() const { return static_cast<int>(nodes_.size()); }
  int num_values() const { return static_cast<int>(values_.size()); }
  int num_params() const { return static_cast<int>(params_.size()); }

  const Node& node(NodeId n) const { return nodes_[static_cast<std::size_t>(n)]; }
  const Value& value(ValueId v) const { return values_[static_cast<std::size_t>(v)]; }
  const ParamDef& param(ParamId p) const { return params_[static_cast<std::size_t>(p)]; }
  const std::vector<Node>& nodes() const { return nodes_; }
  const std::vector<ParamDef>& params() const { return params_; }

  /// Nodes as they are executed: operands in front of what reads them. Ids say nothing of it, once
  /// nodes have been inserted.
  const std::vector<NodeId>& order() const { return order_; }
  /// In `order`; -1: removed.
  int position(NodeId n) const { return positions_[static_cast<std::size_t>(n)]; }

  /// The node that computes `v`, kNoNode for inputs.
  NodeId producer(ValueId v) const { return value(v).producer; }
  const Node& producer_of(ValueId v) const { return node(producer(v)); }
  /// Whether `v` is computed by a node of that op.
  bool is_from(ValueId v, const OpDef& op) const {
    return producer(v) != kNoNode && producer_of(v).is(op);
  }
  bool is_constant(ValueId v) const { return value(v).type.constant; }
  /// Nodes that read `v`, each once, as they are executed.
  const std::vector<NodeId>& uses(ValueId v) const { return uses_[static_cast<std::size_t>(v)]; }
  /// The last of them, where a view is read instead of what it is a view of; kNoNode when nothing
  /// reads it.
  NodeId last_use(ValueId v) const;
  /// Nodes that use the parameter, as they are executed.
  const std::vector<NodeId>& users(ParamId p) const { return users_[static_cast<std::size_t>(p)]; }
  /// The matrix that nodes of the parameter read: of a tied one, that of its table. kNoValue where
  /// its weight is a vector, or it has none.
  ValueId weight(ParamId p) const;
  /// The same as the node reads it, in front of quantizers or behind; kNoValue: it reads no matrix.
  ValueId weight_operand(const Node& node) const;
  bool is_weight(ValueId v) const { return value(v).param != kNoParam; }
  bool is_output(ValueId v) const;
  /// Whether a node is of that op.
  bool has(const OpDef& op) const;
  /// Whether the model reads this input.
  bool reads(InputKind kind) const;
  bool is_encoder_decoder() const { return stacks.size() > 1; }
  bool in_decoder(const Node& n) const {
    return stacks[static_cast<std::size_t>(n.place.stack)].decoder;
  }

  /// By label; kNoNode where there is none.
  NodeId find(std::string_view label) const;

  // Changes. Whoever changes a graph keeps operands in front of the nodes that read them.
  ValueId add_input(InputKind kind, RowSpace rows);
  ParamId add_param(ParamDef def);
  /// Appends a node whose value `infer` of its op describes. Throws Error(kUnsupported) where the
  /// operands do not fit the op.
  ValueId add_node(Node node);
  /// The same, executed right behind the node that computes its first operand and what was inserted
  /// there before; behind a source, right in front of the first node that reads it.
  ValueId insert_node(Node node);
  /// Leaves a node out: it is not executed any more and reads nothing. Nobody may read it.
  void remove(NodeId n);
  bool is_removed(NodeId n) const { return position(n) < 0; }
  /// Whether the node came after the family had built the graph.
  bool is_inserted(NodeId n) const { return n >= built_; }
  /// Node `n` becomes `by`, standing where it stood: another op on other operands, which computes
  /// `by.out`, a value that is there already. The node that computed it so far must have been
  /// removed, unless it is `n`.
  void replace(NodeId n, Node by);
  /// Node `n` reads `to` where it reads `from`.
  void redirect(NodeId n, ValueId from, ValueId to);
  void set_attributes(NodeId n, Attributes attributes);
  /// The parameter has a weight of its own, which its nodes read.
  void untie(ParamId p);
  /// Nodes that use `from` use `to` instead.
  void redirect_param(ParamId from, ParamId to);
  /// Leaves out the nodes from `first` on with their values, the outputs among these, and
  /// parameters that nobody uses any more. Only before anyone has taken ids of them.
  void truncate(NodeId first);
  /// Leaves out these parameters, which no node uses; the others keep their order. Only before
  /// anyone has taken their ids.
  void drop_params(const std::vector<ParamId>& dropped);

  std::vector<StackInfo> stacks;
  std::vector<NodeRange> blocks;  ///< one a layer, all stacks in order
  std::vector<std::pair<std::string, ValueId>> outputs;
  NodeId head_begin = kNoNode;  ///< where what stands on the last hidden states begins

 private:
  ValueId append(Node node);
  ValueId add_weight(ParamId p);
  void number_order();
  /// Enters what the node reads and uses in `uses_` and `users_`, or takes it out.
  void link(NodeId n);
  void unlink(NodeId n);
  void add_use(ValueId v, NodeId n);
  void insert_by_position(std::vector<NodeId>& nodes, NodeId n) const;
  /// Where in `order_` a node that reads `v` first is inserted.
  int place_behind(ValueId v) const;
  void index();

  std::vector<Node> nodes_;
  std::vector<NodeId> order_;
  std::vector<int> positions_;  ///< by node
  NodeId built_ = kNever;       ///< the first node that was not there when the family was done
  std::vector<Value> values_;
  std::vector<ParamDef> params_;
  std::vector<ValueId> weights_;            ///< by parameter, its own
  std::vector<std::vector<NodeId>> uses_;   ///< by value
  std::vector<std::vector<NodeId>> users_;  ///< by parameter
};

/// "layers.0.fc1 = linear(layers.0.attention_norm)": for people.
std::string describe_node(const Graph& graph, NodeId n);

}  // namespace quell
