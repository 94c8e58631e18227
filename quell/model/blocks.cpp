#include "quell/model/blocks.h"

namespace quell {

Projections project(GraphBuilder& g, const AttentionRecipe& recipe, ValueId x, ValueId memory,
                    const AttentionModules& m) {
  const std::int64_t query_size = recipe.num_heads * recipe.head_dim;
  const std::int64_t key_size = recipe.num_kv_heads * recipe.head_dim;
  const auto options = [&](int part) {
    ParamOptions o{.bias = m.qkv_bias, .packing = m.packing};
    if (m.packing.parts > 1) o.packing.part = part;
    return o;
  };
  const std::string& p = m.label_prefix;

  Projections out;
  out.query = g.linear(p + "q_proj", m.query, x, query_size, options(0));
  out.key = g.linear(p + "k_proj", m.key, memory, key_size, options(1));
  out.value = g.linear(p + "v_proj", m.value, memory, key_size, options(2));
  return out;
}

ValueId project_out(GraphBuilder& g, ValueId context, ValueId x, const AttentionModules& m) {
  return g.linear(m.label_prefix + "out_proj", m.out, context, g.columns(x),
                  {.bias = m.out_bias, .packing = m.out_packing});
}

ValueId self_attention(GraphBuilder& g, const AttentionRecipe& recipe, ValueId x,
                       const AttentionModules& modules, const AttentionInputs& inputs) {
  const Projections p = project(g, recipe, x, x, modules);
  const ValueId context = g.attention(recipe, p.query, p.key, p.value, inputs);
  return project_out(g, context, x, modules);
}

ValueId cross_attention(GraphBuilder& g, const AttentionRecipe& recipe, ValueId x, ValueId memory,
                        const AttentionModules& modules) {
  const Projections p = project(g, recipe, x, memory, modules);
  const ValueId context = g.attention(recipe, p.query, p.key, p.value);
  return project_out(g, context, x, modules);
}

ValueId mlp(GraphBuilder& g, ActivationKind kind, ValueId x, std::int64_t size,
            const MlpModules& m) {
  const ParamOptions options{.bias = m.bias, .packing = m.packing};
  const ValueId up = g.linear("fc1", m.fc1, x, size, options);
  return g.linear("fc2", m.fc2, g.activation(kind, up), g.columns(x), options);
}

ValueId gated_product(GraphBuilder& g, ActivationKind kind, ValueId x, std::int64_t size,
                      const GatedMlpModules& m) {
  const ValueId gate = g.linear("gate_proj", m.gate, x, size, {.bias = m.bias});
  const ValueId up = g.linear("up_proj", m.up, x, size, {.bias = m.bias});
  return g.multiply(g.activation(kind, gate), up);
}

ValueId project_down(GraphBuilder& g, ValueId product, ValueId x, const GatedMlpModules& m) {
  return g.linear("down_proj", m.down, product, g.columns(x), {.bias = m.bias});
}

ValueId gated_mlp(GraphBuilder& g, ActivationKind kind, ValueId x, std::int64_t size,
                  const GatedMlpModules& m) {
  return project_down(g, gated_product(g, kind, x, size, m), x, m);
}

}  // namespace quell
