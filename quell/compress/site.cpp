#include "quell/compress/site.h"

#include <algorithm>

#include "quell/base/log.h"
#include "quell/graph/channel_groups.h"
#include "quell/graph/forms.h"
#include "quell/graph/image_ops.h"

namespace quell {
namespace {

constexpr const char* kNoProducer = "no norm, linear or convolution in front can absorb a change";

class Derivation {
 public:
  Derivation(const Model& model, const SiteScope& scope)
      : model_(model), graph_(model.graph), scope_(scope) {
    is_convolutional_ = is_convolutional(graph_);
  }

  std::vector<Site> run() {
    std::vector<Site> sites;
    std::vector<bool> done(static_cast<std::size_t>(graph_.num_values()));
    for (NodeId n = 0; n < graph_.num_nodes(); ++n) {
      if (!in_scope(n) || model_.param_of(n).tied_to != kNoParam)
        continue;  // a tied head has no matrix of its own
      const ValueId value = in(n);
      if (is_constant(value) || done[static_cast<std::size_t>(value)]) continue;
      sites.push_back(make_site(value));
      for (const ChangedValue& v : sites.back().values)
        done[static_cast<std::size_t>(v.value)] = true;
    }
    return sites;
  }

 private:
  const Node& node(NodeId n) const { return graph_.node(n); }
  std::vector<NodeId> uses(ValueId v) const { return readers_of(graph_, v); }
  /// Operand `i` of a node, in whatever form it reads it.
  ValueId in(NodeId n, std::size_t i = 0) const { return base_of(graph_, node(n).in[i]); }
  bool is_constant(ValueId v) const { return graph_.is_constant(v); }
  int producer(ValueId v) const { return graph_.producer(v); }
  /// Whether the linears of these places are quantized.
  bool in_scope(NodeId n) const {
    if (!node(n).op->product) return false;
    const bool of_image_network = !node(n).is(op_linear) || is_convolutional_;
    if (node(n).place.layer >= 0 || of_image_network) return true;
    switch (model_.param_of(n).role) {
      case Role::kProjection: return scope_.projections;
      case Role::kLmHead: return scope_.lm_head;
      case Role::kPooler:
      case Role::kClassifier: return scope_.head;
      case Role::kNone:
      case Role::kTokenTable: break;
    }
    return false;
  }

  Site make_site(ValueId first) const {
    const ChannelGroup group =
        channel_group(graph_, first, {scope_.through_relu, scope_.through_attention});
    Site site;
    site.model = &model_;
    site.refusal = group.why_not;
    for (const ValueId value : group.values) site.values.push_back(changed_value(group, value));
    for (const ChannelMember& consumer : group.consumers)
      (in_scope(consumer.node) ? site.linears : site.absorbers).push_back(consumer.node);
    site.through_step =
        std::any_of(group.passers.begin(), group.passers.end(), [&](const ChannelMember& passer) {
          return node(passer.node).op->channels.kind != ChannelKind::kProduct;
        });
    site.widening = row_makers(graph_, group);
    site.has_convolution =
        std::any_of(group.consumers.begin(), group.consumers.end(),
                    [&](const ChannelMember& m) { return !node(m.node).is(op_linear); });
    site.takes_shift = std::all_of(
        group.consumers.begin(), group.consumers.end(),
        [](const ChannelMember& m) { return m.change == ChannelChange::kScaleAndShift; });

    std::sort(site.linears.begin(), site.linears.end());
    for (const int linear : site.linears)
      site.name +=
          site.name.empty() ? model_.node_name(linear) : "+" + model_.param_of(linear).label;
    site.in_block = node(site.linears.front()).place.layer >= 0;
    find_kind(site);
    check(site);
    return site;
  }

  ChangedValue changed_value(const ChannelGroup& group, ValueId value) const {
    ChangedValue changed{.value = value, .restore = group.others_read(value)};
    const ChannelMember* producer = group.producer_of(value);
    if (producer && producer_kind(*producer) != ProducerKind::kNone) {
      changed.producer = producer_kind(*producer);
      changed.producer_node = producer->node;
      changed.shared = producer->map.shared;
    } else if (graph_.is_from(value, op_add)) {
      // The first block of a post-norm decoder reads the embeddings themselves.
      changed.producer = ProducerKind::kExplicit;
      changed.producer_node = graph_.producer(value);
    }
    return changed;
  }

  static ProducerKind producer_kind(const ChannelMember& producer) {
    switch (producer.axis) {
      case ChannelAxis::kElements: return ProducerKind::kNorm;
      case ChannelAxis::kRows:
        return producer.change == ChannelChange::kScaleAndShift ? ProducerKind::kLinear
                                                                : ProducerKind::kLinearRows;
      case ChannelAxis::kColumns:  // plans change no tables
      case ChannelAxis::kNone: break;
    }
    return ProducerKind::kNone;
  }

  /// The attention whose q, k and v come from these linears (q and k perhaps through a norm), in
  /// this order; kNoNode: there is none.
  NodeId attention_of_linears(const std::vector<NodeId>& linears) const {
    if (linears.size() != 3 || uses(node(linears[2]).out).empty()) return kNoNode;
    const NodeId reader = uses(node(linears[2]).out).front();
    if (!node(reader).is(op_attention) || quell::attention_of(node(reader)).cross) return kNoNode;

    for (std::size_t i = 0; i < 3; ++i) {
      NodeId source = producer(in(reader, i));
      if (node(source).is(op_head_norm)) source = producer(in(source));
      if (source != linears[i]) return kNoNode;
    }
    return reader;
  }

  /// The activation between the first of two linears and their product; kNoNode: there is none.
  NodeId gate_of_linears(const std::vector<NodeId>& linears) const {
    if (linears.size() != 2) return kNoNode;
    const NodeId activation = only_reader(node(linears[0]).out);
    if (activation == kNoNode || !node(activation).is(op_activation)) return kNoNode;
    const NodeId product = only_reader(node(activation).out);
    const bool gates = product != kNoNode && node(product).is(op_multiply) &&
                       only_reader(node(linears[1]).out) == product;
    return gates ? activation : kNoNode;
  }

  NodeId only_reader(ValueId v) const { return uses(v).size() == 1 ? uses(v).front() : kNoNode; }

  void find_kind(Site& site) const {
    site.attention_node = attention_of_linears(site.linears);
    site.activation_node = gate_of_linears(site.linears);
    if (site.attention_node != kNoNode) {
      site.kind = SiteKind::kAttention;
    } else if (site.activation_node != kNoNode) {
      site.kind = SiteKind::kGatedMlp;
    } else if (site.in_block && site.linears.size() == 1) {
      const NodeId reader = only_reader(node(site.linears.front()).out);
      if (reader != kNoNode && node(reader).is(op_activation))
        site.kind = SiteKind::kMlp;
      else if (graph_.is_from(site.value(), op_multiply))
        site.kind = SiteKind::kDown;
    }
  }

  void check(Site& site) const {
    const auto has_bias = [&](int n) { return model_.param_of(n).bias.defined(); };
    const bool consumers_take_shift = site.takes_shift;
    site.bias_everywhere = true;
    for (const ChangedValue& v : site.values) {
      const bool nobody =
          v.producer == ProducerKind::kNone ||
          (v.producer == ProducerKind::kExplicit && site.kind != SiteKind::kAttention);
      if (nobody && site.refusal.empty()) site.refusal = kNoProducer;
      site.takes_shift &= v.producer != ProducerKind::kLinearRows;
      site.bias_everywhere &= v.producer == ProducerKind::kExplicit ||
                              (v.producer_node >= 0 && has_bias(v.producer_node));
    }
    site.only_explicit = site.refusal == kNoProducer;
    if (site.only_explicit) {
      site.takes_shift = consumers_take_shift;
      site.bias_everywhere = true;
    }
    site.bias_everywhere &= site.takes_shift &&
                            std::all_of(site.linears.begin(), site.linears.end(), has_bias) &&
                            std::all_of(site.absorbers.begin(), site.absorbers.end(), has_bias);
  }

  const Model& model_;
  const Graph& graph_;
  const SiteScope& scope_;
  bool is_convolutional_;  ///< a network of convolutions alone, heads included
};

}  // namespace

std::vector<Site> derive_sites(const Model& model, const SiteScope& scope) {
  return Derivation(model, scope).run();
}

bool Site::producers_can_change() const {
  for (const ChangedValue& v : values) {
    const bool rows =
        v.producer == ProducerKind::kLinear || v.producer == ProducerKind::kLinearRows;
    const Param* p = rows ? &model->param_of(v.producer_node) : nullptr;
    if (!p || !p->quantized || p->quantized->spec.granularity != Granularity::kPerTensor) continue;
    log(LogLevel::kWarning, name + ": left as it is, since its producer " + p->module +
                                " has one step for the whole tensor");
    return false;
  }
  return true;
}

Plan Site::set_input_quant(const ActivationQuant& quant) const {
  const auto weight = [&](int n) { return model->graph.node(n).param; };
  const auto is_ours = [&](int use) {
    return std::any_of(linears.begin(), linears.end(),
                       [&](int n) { return weight(n) == weight(use); });
  };
  Plan plan;
  for (const ChangedValue& v : values) {
    const std::vector<NodeId> uses = readers_of(model->graph, v.value);
    if (std::any_of(uses.begin(), uses.end(), is_ours))
      plan.emplace_back(SetInputQuant{v.value, quant});
  }
  return plan;
}

ShiftScale Site::change(Tensor scale, Tensor shift, bool make_explicit) const {
  ShiftScale item{values, linears, std::move(scale), std::move(shift)};
  if (only_explicit || make_explicit)
    for (ChangedValue& v : item.values) v.producer = ProducerKind::kExplicit;
  item.linears.insert(item.linears.end(), absorbers.begin(), absorbers.end());
  return item;
}

SplitChannels Site::split(std::vector<std::int32_t> sources) const {
  SplitChannels item{value(), widening, linears, std::move(sources)};
  item.linears.insert(item.linears.end(), absorbers.begin(), absorbers.end());
  return item;
}

void for_each_site_input(const Model& model, const std::vector<Site>& sites,
                         const std::vector<TokenBatch>& samples, ExecContext& ctx,
                         const std::function<void(std::size_t, const SiteActivations&)>& see) {
  const OpTable ops = make_float_ops(model);
  std::vector<std::unique_ptr<Executor>> executors;
  for (const TokenBatch& batch : samples)
    executors.push_back(std::make_unique<Executor>(model, ops, false, batch, ctx));

  auto next = model.graph.order().begin();
  for (std::size_t s = 0; s < sites.size(); ++s) {
    for (; *next != sites[s].linears.front(); ++next)
      for (const auto& executor : executors) executor->run(*next);

    SiteActivations inputs;
    for (const auto& executor : executors) {
      inputs.x.push_back(&executor->migrated_value(sites[s].value()));
      inputs.batches.push_back(&executor->batch_of(sites[s].value()));
      inputs.values.push_back(sites[s].value());
    }
    see(s, inputs);
  }
}

}  // namespace quell
