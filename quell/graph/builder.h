// How a family says its model: ordinary C++ that reads like the forward function of its paper. Each
// call is a node; what a node needs of the checkpoint is said at the call.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "quell/graph/ops.h"

namespace quell {

struct ImageAttributes;
struct ConvAttributes;

/// What a call says of its parameter beside its name.
struct ParamOptions {
  bool weight = true;  ///< of norms: some have neither
  bool bias = false;
  std::vector<std::string> vectors = {};
  Packing packing = {};
  Role role = Role::kNone;
  std::string weight_name = {};  ///< of the tensor, where it is not "<module>.weight"; absolute
  std::string bias_name = {};    ///< likewise; absolute
  bool any_rank = false;         ///< stored in any shape with as many elements
  bool zero_bias_if_missing = false;
  /// Module whose weight this one uses; absolute. "": its own.
  std::string tied_to = {};
  /// With `tied_to`: only another name, a parameter of its own where its tensor differs.
  bool only_if_different = false;
  std::vector<std::string> stand_ins = {};
  bool learns_padding = false;  ///< of embeddings: EmbeddingAttributes
};

/// Operands of an attention beside q, k and v.
struct AttentionInputs {
  ValueId positions = kNoValue;
  ValueId bias = kNoValue;            ///< T5
  ValueId relative_query = kNoValue;  ///< DeBERTa
  ValueId relative_key = kNoValue;
};

class GraphBuilder {
 public:
  /// Undoes, when it goes, what scope(), layer() or stack() set.
  class [[nodiscard]] Scope {
   public:
    Scope(Scope&& other) noexcept : builder_(std::exchange(other.builder_, nullptr)) {}
    Scope(const Scope&) = delete;
    Scope& operator=(const Scope&) = delete;
    Scope& operator=(Scope&&) = delete;
    ~Scope() {
      if (builder_) builder_->close_scope();
    }

   private:
    friend class GraphBuilder;
    explicit Scope(GraphBuilder& builder) : builder_(&builder) {}
    GraphBuilder* builder_;
  };

  // Where the next nodes stand.
  /// Module names begin with `module` and a dot.
  Scope scope(const std::string& module);
  /// Module names are whole again.
  Scope absolute() { return open({"", now_.place}); }
  /// As scope(); nodes belong to layer `index` of their stack. Closing it ends the layer.
  Scope layer(std::int64_t index, const std::string& module);
  /// "<modules>.<index>" as the module of layer `index`.
  Scope layer(const std::string& modules, std::int64_t index) {
    return layer(index, modules + "." + std::to_string(index));
  }
  /// An encoder or decoder of a model that has both; without it there is one stack.
  Scope encoder(const std::string& module);
  Scope decoder(const std::string& module);
  /// What follows stands on the last hidden states: a model can be saved without it.
  void begin_head();

  /// A token table of `module` (absolute) that several sides share under names of their own;
  /// `stand_ins` as in ParamDef.
  void shared_table(const std::string& module, Shape shape, std::vector<std::string> stand_ins);

  /// Marks the hidden states of the stack: behind the embeddings, and behind each layer.
  void hidden_state(ValueId v);
  /// The stack's result, where it is not what its last layer gives (a norm behind it).
  void last_hidden_state(ValueId v);
  /// What callers see under `name`: "logits", "last_hidden_state", "pooler_output".
  void output(const std::string& name, ValueId v);

  // Inputs: of the stack in which they are first asked for.
  ValueId token_ids() { return input(InputKind::kTokenIds); }
  ValueId token_type_ids() { return input(InputKind::kTokenTypeIds); }
  ValueId pixels() { return input(InputKind::kPixels); }
  ValueId position_ids(const PositionAttributes& positions);

  // Ops with parameters: `label` is what reports call the node, `module` is relative to the scope.
  ValueId embedding(const std::string& label, const std::string& module, ValueId ids, Shape shape,
                    ParamOptions options = {});
  /// All rows of a table.
  ValueId table(const std::string& label, const std::string& module, Shape shape,
                ParamOptions options = {});
  /// x [T, C] to [T, out].
  ValueId linear(const std::string& label, const std::string& module, ValueId x, std::int64_t out,
                 ParamOptions options = {});
  ValueId norm(const std::string& label, const std::string& module, ValueId x,
               const NormAttributes& norm, ParamOptions options = {});
  /// Weight and bias.
  ValueId layer_norm(const std::string& label, const std::string& module, ValueId x, double eps) {
    return norm(label, module, x, {NormKind::kLayerNorm, eps}, {.bias = true});
  }
  ValueId rms_norm(const std::string& label, const std::string& module, ValueId x, double eps) {
    return norm(label, module, x, {NormKind::kRmsNorm, eps});
  }
  /// Over the `head_dim` columns of each head.
  ValueId head_norm(const std::string& label, const std::string& module, ValueId x,
                    std::int64_t head_dim, const NormAttributes& norm);
  ValueId relative_bias(const std::string& label, const std::string& module, std::int64_t num_heads,
                        const RelativeBiasAttributes& bias);
  ValueId prepend_token(const std::string& label, const std::string& module, ValueId x,
                        ParamOptions options = {});

  // Ops without.
  ValueId activation(ActivationKind kind, ValueId x);
  ValueId add(ValueId a, ValueId b) { return node(op_add, {a, b}); }
  ValueId multiply(ValueId a, ValueId b) { return node(op_multiply, {a, b}); }
  ValueId scale(const Factor& factor, ValueId x);
  ValueId soft_cap(double cap, ValueId x);
  ValueId mask_rows(ValueId x) { return node(op_mask_rows, {x}); }
  ValueId attention(const AttentionRecipe& recipe, ValueId q, ValueId k, ValueId v,
                    const AttentionInputs& inputs = {});
  ValueId select_first(ValueId x) { return node(op_select_first, {x}); }
  ValueId select_last(ValueId x, std::optional<std::int32_t> pad_token_id);
  ValueId select_eos(ValueId x, std::vector<std::int32_t> tokens);
  ValueId select_column(ValueId x, std::int64_t column);
  ValueId patches(const PatchAttributes& patches);

  // Of images; other ops of image_ops.h are nodes by their name.
  /// Pixels as rows.
  ValueId image(const ImageAttributes& image);
  /// `out` channels. The weight is stored as convolutions are.
  ValueId conv2d(const std::string& label, const std::string& module, ValueId x, std::int64_t out,
                 const ConvAttributes& conv, ParamOptions options = {});
  ValueId conv_transpose2d(const std::string& label, const std::string& module, ValueId x,
                           std::int64_t out, const ConvAttributes& conv, ParamOptions options = {});
  ValueId batch_norm(const std::string& label, const std::string& module, ValueId x, double eps);

  /// Any op without parameters; its label is its name, counted within the layer.
  ValueId node(const OpDef& op, std::vector<ValueId> in, Attributes attributes = {});
  /// The same under a label of its own.
  ValueId named(const OpDef& op, const std::string& label, std::vector<ValueId> in,
                Attributes attributes = {});
  /// Any op with a parameter.
  ValueId node_with(const OpDef& op, const std::string& label, const std::string& module,
                    std::vector<ValueId> in, Shape shape, Attributes attributes,
                    ParamOptions options);

  std::int64_t columns(ValueId v) const { return graph_.value(v).type.columns; }
  const Graph& graph() const { return graph_; }
  /// The finished graph. Parameters that are another's weight follow it.
  Graph take();

 private:
  struct State {
    std::string prefix;
    Place place;
    bool ends_layer = false;
  };
  ValueId input(InputKind kind);
  ParamId param(const std::string& label, const std::string& module, Shape shape,
                ParamOptions options);
  ValueId add_node(const OpDef& op, std::string label, std::vector<ValueId> in,
                   Attributes attributes, ParamId param);
  std::string place_name(const Place& place) const;
  std::string counted_label(const OpDef& op);
  Scope open(State next);
  Scope open_stack(bool decoder, const std::string& module);
  StackInfo& stack() { return graph_.stacks[static_cast<std::size_t>(now_.place.stack)]; }
  void close_scope();

  Graph graph_;
  State now_;
  std::vector<State> outer_;
  bool names_stacks_ = false;
  int layer_begin_ = 0;
  std::map<std::pair<InputKind, int>, ValueId> inputs_;
  std::map<std::string, ParamId> params_;  ///< by module
  Place counted_place_;
  std::map<const OpDef*, int> counts_;  ///< nodes without a parameter in a row of one place
};

}  // namespace quell
