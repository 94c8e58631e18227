// Parts of a layer that families share, as builder calls.
#pragma once

#include <string>

#include "quell/graph/builder.h"

namespace quell {

/// Names of an attention's linears, relative to the scope, and how the checkpoint stores them.
struct AttentionModules {
  std::string query = {};
  std::string key = {};
  std::string value = {};
  std::string out = {};
  bool qkv_bias = true;
  bool out_bias = true;
  /// Of q, k and v. With three parts they are those of one tensor, in this order.
  Packing packing = {};
  Packing out_packing = {};
  std::string label_prefix = {};  ///< "cross_" of a cross-attention
};

/// q, k and v as an attention takes them.
struct Projections {
  ValueId query = kNoValue;
  ValueId key = kNoValue;
  ValueId value = kNoValue;
};

/// q from `x`, k and v from `memory`.
Projections project(GraphBuilder& g, const AttentionRecipe& recipe, ValueId x, ValueId memory,
                    const AttentionModules& modules);
/// The output projection of `context`, to the columns of `x`.
ValueId project_out(GraphBuilder& g, ValueId context, ValueId x, const AttentionModules& modules);
/// Projections, attention, output projection.
ValueId self_attention(GraphBuilder& g, const AttentionRecipe& recipe, ValueId x,
                       const AttentionModules& modules, const AttentionInputs& inputs = {});
/// The same to the encoder's result. `recipe.cross` must be set.
ValueId cross_attention(GraphBuilder& g, const AttentionRecipe& recipe, ValueId x, ValueId memory,
                        const AttentionModules& modules);

/// fc2(act(fc1 x)).
struct MlpModules {
  std::string fc1 = {};
  std::string fc2 = {};
  bool bias = true;
  Packing packing = {};
};
ValueId mlp(GraphBuilder& g, ActivationKind kind, ValueId x, std::int64_t size,
            const MlpModules& modules);

/// Of down(act(gate x) * up x).
struct GatedMlpModules {
  std::string gate = "mlp.gate_proj";
  std::string up = "mlp.up_proj";
  std::string down = "mlp.down_proj";
  bool bias = false;
};
/// act(gate x) * up x.
ValueId gated_product(GraphBuilder& g, ActivationKind kind, ValueId x, std::int64_t size,
                      const GatedMlpModules& modules = {});
/// down(product), to the columns of `x`.
ValueId project_down(GraphBuilder& g, ValueId product, ValueId x, const GatedMlpModules& modules);
/// All of it.
ValueId gated_mlp(GraphBuilder& g, ActivationKind kind, ValueId x, std::int64_t size,
                  const GatedMlpModules& modules = {});

}  // namespace quell
