#include "quell/graph/builder.h"

#include "quell/base/error.h"

namespace quell {
namespace {

std::string joined(const std::string& prefix, const std::string& module) {
  return prefix.empty() || module.empty() ? prefix + module : prefix + "." + module;
}

}  // namespace

GraphBuilder::Scope GraphBuilder::open(State next) {
  outer_.push_back(std::exchange(now_, std::move(next)));
  return Scope(*this);
}

GraphBuilder::Scope GraphBuilder::scope(const std::string& module) {
  return open({joined(now_.prefix, module), now_.place});
}

GraphBuilder::Scope GraphBuilder::layer(std::int64_t index, const std::string& module) {
  if (graph_.stacks.empty()) graph_.stacks.emplace_back();
  const Place place = {now_.place.stack, static_cast<int>(index)};
  layer_begin_ = graph_.num_nodes();
  stack().layers = static_cast<int>(index) + 1;
  return open({joined(now_.prefix, module), place, true});
}

GraphBuilder::Scope GraphBuilder::open_stack(bool decoder, const std::string& module) {
  names_stacks_ = true;
  graph_.stacks.push_back({.decoder = decoder});
  const Place place = {static_cast<int>(graph_.stacks.size()) - 1, -1};
  return open({joined(now_.prefix, module), place});
}

GraphBuilder::Scope GraphBuilder::encoder(const std::string& module) {
  return open_stack(false, module);
}

GraphBuilder::Scope GraphBuilder::decoder(const std::string& module) {
  return open_stack(true, module);
}

void GraphBuilder::close_scope() {
  if (now_.ends_layer) graph_.blocks.push_back({layer_begin_, graph_.num_nodes()});
  const Place last = now_.place;
  now_ = std::move(outer_.back());
  outer_.pop_back();
  // What stands behind all stacks belongs to the last one.
  if (outer_.empty() && names_stacks_) now_.place.stack = last.stack;
}

void GraphBuilder::begin_head() { graph_.head_begin = graph_.num_nodes(); }

void GraphBuilder::shared_table(const std::string& module, Shape shape,
                                std::vector<std::string> stand_ins) {
  param("word_embeddings", module, shape,
        {.role = Role::kTokenTable, .stand_ins = std::move(stand_ins)});
}

void GraphBuilder::hidden_state(ValueId v) {
  if (graph_.stacks.empty()) graph_.stacks.emplace_back();
  stack().hidden_states.push_back(v);
}

void GraphBuilder::last_hidden_state(ValueId v) { stack().hidden_states.back() = v; }

void GraphBuilder::output(const std::string& name, ValueId v) {
  graph_.outputs.emplace_back(name, v);
}

ValueId GraphBuilder::input(InputKind kind) {
  const std::pair key(kind, now_.place.stack);
  const auto found = inputs_.find(key);
  if (found != inputs_.end()) return found->second;

  const ValueId v = graph_.add_input(kind, {RowSpace::Kind::kTokens, now_.place.stack});
  inputs_.emplace(key, v);
  return v;
}

ValueId GraphBuilder::position_ids(const PositionAttributes& positions) {
  return node(op_position_ids, {}, Attributes::of(positions));
}

ParamId GraphBuilder::param(const std::string& label, const std::string& module, Shape shape,
                            ParamOptions options) {
  ParamDef def{.module = joined(now_.prefix, module),
               .label = label,
               .shape = shape,
               .has_weight = options.weight,
               .has_bias = options.bias,
               .vectors = std::move(options.vectors),
               .packing = options.packing,
               .role = options.role,
               .weight_name = std::move(options.weight_name),
               .bias_name = std::move(options.bias_name),
               .any_rank = options.any_rank,
               .zero_bias_if_missing = options.zero_bias_if_missing,
               .stand_ins = std::move(options.stand_ins),
               .only_if_different = options.only_if_different};
  // Parts of one tensor are parameters of their own.
  const std::string key = def.module + "/" + std::to_string(def.packing.part);
  const auto found = params_.find(key);
  if (found != params_.end()) {
    const ParamDef& first = graph_.param(found->second);
    require(first.shape == shape, ErrorCode::kUnsupported, def.module,
            ": is used with two shapes, ", first.shape.to_string(), " and ", shape.to_string());
    const bool same_tensors = first.weight_name == def.weight_name &&
                              first.has_bias == def.has_bias && first.bias_name == def.bias_name &&
                              first.vectors == def.vectors;
    require(same_tensors && first.packing == def.packing, ErrorCode::kUnsupported, def.module,
            ": is used twice, with other tensors beside its weight or in another order");
    return found->second;
  }

  if (!options.tied_to.empty()) {
    const auto table = params_.find(options.tied_to + "/0");
    require(table != params_.end(), ErrorCode::kUnsupported, def.module, ": is tied to ",
            options.tied_to, ", which the model does not have");
    def.tied_to = table->second;
  }
  return params_[key] = graph_.add_param(std::move(def));
}

std::string GraphBuilder::place_name(const Place& place) const {
  std::string name;
  if (names_stacks_) {
    const bool decoder = graph_.stacks[static_cast<std::size_t>(place.stack)].decoder;
    name = decoder ? "decoder." : "encoder.";
  }
  if (place.layer >= 0) name += "layers." + std::to_string(place.layer) + ".";
  return name;
}

/// "add", "add.1", ...: those of one op in a row of nodes that stand at one place.
std::string GraphBuilder::counted_label(const OpDef& op) {
  if (!(counted_place_ == now_.place)) counts_.clear();
  counted_place_ = now_.place;
  const int count = counts_[&op]++;
  return std::string(op.name) + (count > 0 ? "." + std::to_string(count) : "");
}

ValueId GraphBuilder::add_node(const OpDef& op, std::string label, std::vector<ValueId> in,
                               Attributes attributes, ParamId param) {
  if (graph_.stacks.empty()) graph_.stacks.emplace_back();
  return graph_.add_node({.op = &op,
                          .attributes = std::move(attributes),
                          .in = std::move(in),
                          .param = param,
                          .place = now_.place,
                          .label = place_name(now_.place) + label});
}

ValueId GraphBuilder::node(const OpDef& op, std::vector<ValueId> in, Attributes attributes) {
  return add_node(op, counted_label(op), std::move(in), std::move(attributes), kNoParam);
}

ValueId GraphBuilder::named(const OpDef& op, const std::string& label, std::vector<ValueId> in,
                            Attributes attributes) {
  return add_node(op, label, std::move(in), std::move(attributes), kNoParam);
}

ValueId GraphBuilder::node_with(const OpDef& op, const std::string& label,
                                const std::string& module, std::vector<ValueId> in, Shape shape,
                                Attributes attributes, ParamOptions options) {
  if (!(counted_place_ == now_.place)) counts_.clear();
  counted_place_ = now_.place;
  const ParamId p = param(label, module, shape, std::move(options));
  if (const ValueId weight = graph_.weight(p); weight != kNoValue) in.push_back(weight);
  return add_node(op, label, std::move(in), std::move(attributes), p);
}

ValueId GraphBuilder::embedding(const std::string& label, const std::string& module, ValueId ids,
                                Shape shape, ParamOptions options) {
  EmbeddingAttributes what{"token id"};
  const Value& source = graph_.value(ids);
  if (source.input == InputKind::kTokenTypeIds) what.what = "token type id";
  if (graph_.is_from(ids, op_position_ids)) what.what = "position";
  if (source.input == InputKind::kTokenIds) options.role = Role::kTokenTable;
  what.learns_padding = options.learns_padding;
  return node_with(op_embedding, label, module, {ids}, shape, Attributes::of(what),
                   std::move(options));
}

ValueId GraphBuilder::table(const std::string& label, const std::string& module, Shape shape,
                            ParamOptions options) {
  return node_with(op_table, label, module, {}, shape, {}, std::move(options));
}

ValueId GraphBuilder::linear(const std::string& label, const std::string& module, ValueId x,
                             std::int64_t out, ParamOptions options) {
  return node_with(op_linear, label, module, {x}, {out, columns(x)}, {}, std::move(options));
}

ValueId GraphBuilder::norm(const std::string& label, const std::string& module, ValueId x,
                           const NormAttributes& norm, ParamOptions options) {
  return node_with(op_norm, label, module, {x}, {columns(x)}, Attributes::of(norm),
                   std::move(options));
}

ValueId GraphBuilder::head_norm(const std::string& label, const std::string& module, ValueId x,
                                std::int64_t head_dim, const NormAttributes& norm) {
  return node_with(op_head_norm, label, module, {x}, {head_dim}, Attributes::of(norm), {});
}

ValueId GraphBuilder::relative_bias(const std::string& label, const std::string& module,
                                    std::int64_t num_heads, const RelativeBiasAttributes& bias) {
  return node_with(op_relative_bias, label, module, {}, {bias.buckets, num_heads},
                   Attributes::of(bias), {});
}

ValueId GraphBuilder::prepend_token(const std::string& label, const std::string& module, ValueId x,
                                    ParamOptions options) {
  return node_with(op_prepend_token, label, module, {x}, {columns(x)}, {}, std::move(options));
}

ValueId GraphBuilder::activation(ActivationKind kind, ValueId x) {
  return node(op_activation, {x}, Attributes::of(kind));
}

ValueId GraphBuilder::scale(const Factor& factor, ValueId x) {
  return node(op_scale, {x}, Attributes::of(factor));
}

ValueId GraphBuilder::soft_cap(double cap, ValueId x) {
  return node(op_soft_cap, {x}, Attributes::of(cap));
}

ValueId GraphBuilder::attention(const AttentionRecipe& recipe, ValueId q, ValueId k, ValueId v,
                                const AttentionInputs& inputs) {
  std::vector<ValueId> in(kNumAttentionOperands, kNoValue);
  in[kQueryOperand] = q;
  in[kKeyOperand] = k;
  in[kValueOperand] = v;
  in[kBiasOperand] = inputs.bias;
  in[kRelativeQueryOperand] = inputs.relative_query;
  in[kRelativeKeyOperand] = inputs.relative_key;
  in[kPositionsOperand] = inputs.positions;
  return node(op_attention, std::move(in), Attributes::of(AttentionAttributes(recipe)));
}

ValueId GraphBuilder::select_last(ValueId x, std::optional<std::int32_t> pad_token_id) {
  return node(op_select_last, {x}, Attributes::of(SelectLastAttributes{pad_token_id}));
}

ValueId GraphBuilder::select_eos(ValueId x, std::vector<std::int32_t> tokens) {
  return node(op_select_eos, {x}, Attributes::of(SelectEosAttributes{std::move(tokens)}));
}

ValueId GraphBuilder::select_column(ValueId x, std::int64_t column) {
  return node(op_select_column, {x}, Attributes::of(column));
}

ValueId GraphBuilder::patches(const PatchAttributes& patches) {
  return node(op_patches, {pixels()}, Attributes::of(patches));
}

Graph GraphBuilder::take() {
  require(outer_.empty(), ErrorCode::kUnsupported, "a scope of the model's description is open");
  graph_.finish_building();
  return std::move(graph_);
}

}  // namespace quell
