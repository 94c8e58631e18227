#include "quell/compress/site.h"

#include <algorithm>
#include <set>

#include "quell/base/log.h"
#include "quell/graph/forms.h"

namespace quell {
namespace {

constexpr const char* kNoProducer = "no norm or linear in front can absorb a change";

class Derivation {
 public:
  Derivation(const Model& model, const SiteScope& scope)
      : model_(model), graph_(model.graph), scope_(scope) {}

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
    if (!node(n).is(op_linear)) return false;
    if (node(n).place.layer >= 0) return true;
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
  /// All nodes that use the weights of `n`.
  const std::vector<NodeId>& sharing(NodeId n) const { return graph_.users(node(n).param); }

  /// The values that must change with `first`, through weights that are shared.
  std::set<ValueId> connected(ValueId first, Site& site) const {
    std::set<ValueId> found = {first};
    std::vector<ValueId> open = {first};
    const auto visit = [&](ValueId v) {
      if (is_constant(v))
        site.refusal = "its linears also read relative embeddings, which cannot absorb a change";
      else if (found.insert(v).second)
        open.push_back(v);
    };
    while (!open.empty()) {
      const ValueId v = open.back();
      open.pop_back();
      for (const int use : uses(v))
        if (node(use).is(op_linear))
          for (const int other : sharing(use)) visit(in(other));
      const NodeId p = producer(v);
      if (node(p).is(op_norm) || node(p).is(op_linear))
        for (const int other : sharing(p)) visit(node(other).out);
      if (const int linear = behind_step(v); linear >= 0)
        for (const int other : sharing(linear)) visit(node(uses(node(other).out).front()).out);
    }
    return found;
  }

  /// The linear behind a step that lets changes through, where nothing else reads it and all that
  /// share its weights stand so too; -1: there is none.
  int behind_step(ValueId value) const {
    const Node& step = node(producer(value));
    const bool relu = is_relu(step) && scope_.through_relu;
    const bool attention = step.is(op_attention) && scope_.through_attention;
    if (!relu && !attention) return -1;
    const std::size_t operand = relu ? 0 : 2;
    const int linear = producer(base_of(graph_, step.in[operand]));
    if (!node(linear).is(op_linear)) return -1;
    for (const int other : sharing(linear)) {
      const ValueId out = node(other).out;
      if (uses(out).size() != 1 || is_output(out)) return -1;
      const Node& reader = node(uses(out).front());
      const bool same_step = relu ? is_relu(reader) : reader.is(op_attention);
      if (!same_step || base_of(graph_, reader.in[operand]) != out) return -1;
    }
    return linear;
  }
  static bool is_relu(const Node& node) {
    return node.is(op_activation) && activation_of(node) == ActivationKind::kRelu;
  }
  bool is_output(ValueId value) const {
    return std::any_of(graph_.outputs.begin(), graph_.outputs.end(),
                       [&](const auto& o) { return base_of(graph_, o.second) == value; });
  }

  Site make_site(ValueId first) const {
    Site site;
    site.model = &model_;
    std::set<int> weights;  // parameters seen
    const std::set<ValueId> values = connected(first, site);
    for (const ValueId value : values) {
      ChangedValue changed{.value = value};
      changed.restore = is_output(value);
      for (const int use : uses(value)) {
        if (!node(use).is(op_linear)) {
          changed.restore = true;
        } else if (model_.param_of(use).tied_to != kNoParam) {
          site.refusal = "a matrix that is tied to the embedding reads it";
        } else if (weights.insert(model_.graph.node(use).param).second) {
          (in_scope(use) ? site.linears : site.absorbers).push_back(use);
        }
      }
      find_producer(changed, site);
      site.values.push_back(changed);
    }
    std::sort(site.linears.begin(), site.linears.end());
    for (const int linear : site.linears)
      site.name +=
          site.name.empty() ? model_.node_name(linear) : "+" + model_.param_of(linear).label;
    site.in_block = node(site.linears.front()).place.layer >= 0;
    find_kind(site);
    check(site);
    find_widening(site);
    return site;
  }

  /// Element-wise steps between linears leave channels apart, so that their rows decide how many
  /// there are.
  void find_widening(Site& site) const {
    const ChangedValue& changed = site.values.front();
    const auto own = [&](int n) {
      return sharing(n).size() == 1 && model_.param_of(n).packing.parts == 1;
    };
    const auto readers_own = [&](const std::vector<int>& linears) {
      return std::all_of(linears.begin(), linears.end(), own);
    };
    if (site.values.size() > 1 || changed.restore || !readers_own(site.linears) ||
        !readers_own(site.absorbers))
      return;
    std::vector<int> found;
    std::vector<ValueId> open = {changed.value};
    while (!open.empty()) {
      const ValueId v = open.back();
      open.pop_back();
      const int n = producer(v);
      if (v != changed.value && uses(v).size() != 1) return;
      if (node(n).is(op_linear) && own(n) && v != changed.value)
        found.push_back(n);
      else if (node(n).is(op_activation))
        open.push_back(in(n));
      else if (node(n).is(op_multiply))
        open.insert(open.end(), {in(n, 0), in(n, 1)});
      else
        return;
    }
    site.widening = std::move(found);
  }

  void find_producer(ChangedValue& changed, Site& site) const {
    const int producer_node = producer(changed.value);
    const Node& p = node(producer_node);
    const auto set = [&](ProducerKind kind, int n) {
      changed.producer = kind;
      changed.producer_node = n;
    };
    if (p.is(op_norm)) {
      set(ProducerKind::kNorm, producer_node);
    } else if (p.is(op_linear)) {
      set(ProducerKind::kLinear, producer_node);
    } else if (const int linear = behind_step(changed.value); linear >= 0 && !changed.restore) {
      set(p.is(op_attention) ? ProducerKind::kLinear : ProducerKind::kLinearRows, linear);
      site.through_step = true;
      if (!p.is(op_attention)) return;
      const AttentionSpec& spec = quell::attention_of(node(producer_node));
      changed.shared = {spec.num_heads / spec.num_kv_heads, spec.head_dim};
    } else if (p.is(op_multiply)) {
      // The factor that comes straight from a linear can take 1/s in its rows.
      for (const ValueId operand : p.in) {
        const ValueId factor = base_of(graph_, operand);
        const NodeId source = producer(factor);
        if (node(source).is(op_linear) && uses(factor).size() == 1)
          set(ProducerKind::kLinearRows, source);
      }
      if (changed.restore && changed.producer == ProducerKind::kLinearRows)
        site.refusal = "a residual branch reads this value";
    } else if (p.is(op_add)) {
      set(ProducerKind::kExplicit,
          producer_node);  // the first block of a post-norm decoder reads the embeddings themselves
    }
    if (changed.producer == ProducerKind::kNone && site.refusal.empty()) site.refusal = kNoProducer;
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
    site.takes_shift = site.bias_everywhere = true;
    for (const ChangedValue& v : site.values) {
      if (v.producer == ProducerKind::kExplicit && site.kind != SiteKind::kAttention &&
          site.refusal.empty())
        site.refusal = kNoProducer;
      site.takes_shift &= v.producer != ProducerKind::kLinearRows;
      site.bias_everywhere &= v.producer == ProducerKind::kExplicit ||
                              (v.producer_node >= 0 && has_bias(v.producer_node));
    }
    site.only_explicit = site.refusal == kNoProducer;
    if (site.only_explicit) site.takes_shift = site.bias_everywhere = true;
    site.bias_everywhere &= site.takes_shift &&
                            std::all_of(site.linears.begin(), site.linears.end(), has_bias) &&
                            std::all_of(site.absorbers.begin(), site.absorbers.end(), has_bias);
  }

  const Model& model_;
  const Graph& graph_;
  const SiteScope& scope_;
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
    }
    see(s, inputs);
  }
}

}  // namespace quell
