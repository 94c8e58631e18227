// Forms of a value: what passes put between the node that computes it and those that read it.
//   x -> affine? -> m         as linears read it: (x - shift) / scale, or x itself
//   m -> quantize? -> q       linears with codes read q
//   m or q -> restore? -> r   everything else reads the original meaning
// A matrix that nodes read has one form beside itself, behind the quantizer of its codes.
// A value is called by x, its base, in plans, files and reports.
#pragma once

#include <functional>
#include <map>
#include <utility>
#include <vector>

#include "quell/graph/ops.h"

namespace quell {

/// The base of which `v` is a form.
ValueId base_of(const Graph& graph, ValueId v);
/// As linears read it, without a quantizer.
ValueId migrated(const Graph& graph, ValueId v);
/// `v` where it is not a view, else what it is a view of.
ValueId concrete(const Graph& graph, ValueId v);

/// Of any form of a value; kNoNode or null: there is none.
NodeId quantize_node(const Graph& graph, ValueId v);
NodeId affine_node(const Graph& graph, ValueId v);
NodeId restore_node(const Graph& graph, ValueId v);
const ActivationQuant* input_quant_of(const Graph& graph, ValueId v);
const ChannelAffine* explicit_affine_of(const Graph& graph, ValueId v);
const ChannelAffine* restore_of(const Graph& graph, ValueId v);

/// Bases that have a node of the op behind them, ascending.
std::vector<ValueId> bases_with(const Graph& graph, const OpDef& op);
/// Nodes of the family that read `v` in any form, as they are executed.
std::vector<NodeId> readers_of(const Graph& graph, ValueId v);

/// Sets the quantizer of a value. Linears for which `reads_codes` holds read it behind; with
/// `everybody`, all that reads the value does.
void set_input_quant(Graph& graph, ValueId v, const ActivationQuant& quant, bool everybody,
                     const std::function<bool(const Node&)>& reads_codes);
/// Takes quantizers of inputs out.
void clear_input_quants(Graph& graph);
/// Linear `n` reads the quantizer of its input, where there is one.
void read_codes(Graph& graph, NodeId n);
/// Nodes of the parameter read their matrix behind this quantizer.
void set_weight_quant(Graph& graph, ParamId p, const QuantSpec& spec);
/// Of the matrix as nodes of the parameter read it; null: they read it as it is.
const QuantSpec* weight_quant_of(const Graph& graph, ParamId p);
/// Takes quantizers of matrices out.
void clear_weight_quants(Graph& graph);
/// Readers other than linears see m * scale + shift from now on, composed with what they saw.
void restore_for_others(Graph& graph, ValueId v, const Tensor& scale, const Tensor& shift);
/// All see (x - shift) / scale from now on, composed with what was there.
void divide_explicitly(Graph& graph, ValueId v, const Tensor& scale, const Tensor& shift);
/// Replaces what divides the value, and what restores it.
void set_explicit_affine(Graph& graph, ValueId v, ChannelAffine affine);
void set_restore(Graph& graph, ValueId v, ChannelAffine affine);

}  // namespace quell
