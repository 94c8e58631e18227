#include "quell/exporting/own_features.h"

#include <algorithm>

#include "quell/base/error.h"
#include "quell/engine/engines.h"
#include "quell/graph/forms.h"
#include "quell/graph/image_ops.h"
#include "quell/model/stored_codes.h"

namespace quell {
namespace {

template <typename Range, typename Predicate>
bool any(const Range& range, Predicate predicate) {
  return std::any_of(range.begin(), range.end(), predicate);
}

/// Whether the library's class makes one matrix of all texts' tokens in front of fc1 (OPT).
bool flattens_tokens(const Model& model) { return model.spec.model_type == "opt"; }

/// Whether the library's class looks for the weight of a linear before it has made one of packed
/// codes (T5).
bool needs_plain_codes(const Model& model) { return model.spec.model_type == "t5"; }

/// Whether the value is one row a sequence, not one a token.
bool is_one_row_a_text(const Model& model, ValueId value) {
  for (int node = model.graph.producer(value); node >= 0;) {
    const Node& n = model.graph.node(node);
    if (n.is(op_select_first) || n.is(op_select_last) || n.is(op_select_eos)) return true;
    if (!n.is(op_linear) && !n.is(op_activation) && !n.is(op_norm)) return false;
    if (n.operand(0) == kNoValue) return false;
    node = model.graph.producer(base_of(model.graph, n.in[0]));
  }
  return false;
}

/// What the steps of the linears' inputs are.
void add_input_features(const Model& model, std::vector<std::string>& out) {
  const auto input = [&](auto predicate) {
    return any(bases_with(model.graph, op_quantize),
               [&](ValueId v) { return predicate(v, *input_quant_of(model.graph, v)); });
  };
  if (input([](ValueId, const ActivationQuant& q) { return q.groups != nullptr; }))
    out.emplace_back("inputs have steps of their own for groups of channels");
  if (input([](ValueId, const ActivationQuant& q) {
        return q.spec.symmetric && q.spec.codes == CodeRange::kRestricted;
      }))
    out.emplace_back("input codes are restricted");
  if (input([](ValueId, const ActivationQuant& q) {
        return q.spec.symmetric && q.spec.dynamic && q.spec.step_rule == StepRule::kMaxCode;
      }))
    out.emplace_back("steps of dynamic inputs follow another rule");
  // compressed-tensors takes one step for all rows of a matrix that has no axis of tokens.
  if (input([&](ValueId v, const ActivationQuant& q) {
        return q.spec.granularity == Granularity::kPerToken && is_one_row_a_text(model, v);
      }))
    out.emplace_back("the head's inputs have a step a text");
  if (flattens_tokens(model) && input([](ValueId, const ActivationQuant& q) {
        return q.spec.granularity == Granularity::kPerToken;
      }))
    out.emplace_back(
        "inputs have a step a token, which transformers' OPT would make one step for all tokens");
}

/// A quantized linear that also reads what depends on weights alone (DeBERTa's relative
/// embeddings), which stays float here.
bool reads_float_constants(const Model& model) {
  for (NodeId n = 0; n < model.graph.num_nodes(); ++n) {
    const bool linear = model.graph.node(n).is(op_linear);
    if (linear && model.param_of(n).quantized && reads_constant(model, n)) return true;
  }
  return false;
}

}  // namespace

bool is_known_to_others(const Model& model) {
  return model.spec.model_type != "graph" && model.spec.model_type != "lstr";
}

std::string recipes_for_others(const Model& model) {
  const bool transposed = any(model.params, [](const Param& p) {
    return p.packing.transposed && p.weight.shape().rank() == 2;
  });
  const bool has_kernels = model.graph.has(op_conv2d) || model.graph.has(op_conv_transpose2d);
  const bool unknown = !is_known_to_others(model);
  if (transposed || has_kernels || unknown || model.graph.has(op_table)) return "";
  if (flattens_tokens(model)) return "minmax";
  if (needs_plain_codes(model)) return "minmax or minmax_dynamic with more than 4 bits";
  // A head that is tied to the embeddings of two stacks cannot be quantized apart.
  return model.graph.is_encoder_decoder() ? "minmax or minmax_dynamic"
                                          : "minmax, minmax_dynamic or rtn_group32";
}

std::vector<std::string> own_features(const Model& model) {
  std::vector<std::string> out;
  const auto first_behind = [&](const OpDef& op) -> std::string {
    const std::vector<ValueId> values = bases_with(model.graph, op);
    return values.empty() ? "" : model.graph.producer_of(values.front()).label;
  };
  if (const std::string first = first_behind(op_restore); !first.empty())
    out.push_back("residual branches undo the migration (first behind " + first + ")");
  if (const std::string first = first_behind(op_affine); !first.empty())
    out.push_back("a scale that no weight can hold (first behind " + first + ")");
  if (!quantized_attentions(model.graph).empty()) out.emplace_back("attention runs on codes");
  if (model.residual_after_quant) out.emplace_back("residual branches read quantized values");
  add_input_features(model, out);

  const auto quantized = [](const Param& p) { return p.quantized.has_value(); };
  if (any(model.params, [&](const Param& p) { return quantized(p) && p.packing.transposed; }))
    out.emplace_back("codes lie transposed (Conv1D), which compressed-tensors does not quantize");
  if (any(model.params, [&](const Param& p) { return quantized(p) && p.packing.taps() > 0; }))
    out.emplace_back("convolutions have codes");
  if (model.graph.has(op_clamp)) out.emplace_back("activations have a bound for each channel");
  if (any(model.params, [](const Param& p) { return p.added_rows + p.added_columns > 0; }))
    out.emplace_back("outlier channels were split over added columns");
  if (any(model.params, [](const Param& p) { return p.added_bias || p.added_weight; }))
    out.emplace_back("modules without a bias or weight got one");
  if (any(model.params, [](const Param& p) { return p.packed_table.defined(); }))
    out.emplace_back("embeddings are quantized");
  if (needs_plain_codes(model) && any(model.params, [](const Param& p) {
        return p.quantized && p.quantized->spec.num_bits <= kMaxPackedBits;
      }))
    out.emplace_back(
        "codes are packed, and transformers' T5 looks for weights before they are unpacked");
  if (reads_float_constants(model))
    out.emplace_back("quantized linears also read relative embeddings, which stay float");
  return out;
}

}  // namespace quell
