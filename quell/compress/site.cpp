#include "quell/compress/site.h"

#include <algorithm>
#include <set>

#include "quell/base/log.h"

namespace quell {
namespace {

constexpr const char* kNoProducer = "no norm or linear in front can absorb a change";

bool in_scope(const Node& node, const SiteScope& scope) {
  if (node.kind != StepKind::kLinear) return false;
  if (node.layer >= 0) return true;
  if (node.slot == Slot::kProjectIn || node.slot == Slot::kProjectOut) return scope.projections;
  if (node.slot == Slot::kLmHead) return scope.lm_head;
  if (node.slot == Slot::kPooler || node.slot == Slot::kClassifier) return scope.head;
  return false;
}

class Derivation {
 public:
  Derivation(const Model& model, const SiteScope& scope)
      : model_(model),
        graph_(model.graph),
        scope_(scope),
        uses_(graph_.producer.size()),
        users_(model.params.size()) {
    for (std::size_t n = 0; n < graph_.nodes.size(); ++n) {
      for (const ValueId v : graph_.nodes[n].in)
        if (v != kNoValue) uses_[static_cast<std::size_t>(v)].push_back(static_cast<int>(n));
      if (model.node_param[n] >= 0)
        users_[static_cast<std::size_t>(model.node_param[n])].push_back(static_cast<int>(n));
    }
  }

  std::vector<Site> run() {
    std::vector<Site> sites;
    std::vector<bool> done(graph_.producer.size());
    for (int n = 0; n < static_cast<int>(graph_.nodes.size()); ++n) {
      if (!in_scope(node(n), scope_) || model_.param_of(n).tied_to >= 0)
        continue;  // a tied head has no matrix of its own
      const ValueId value = node(n).in[0];
      if (is_constant(value) || done[static_cast<std::size_t>(value)]) continue;
      sites.push_back(make_site(value));
      for (const ChangedValue& v : sites.back().values)
        done[static_cast<std::size_t>(v.value)] = true;
    }
    return sites;
  }

 private:
  const Node& node(int n) const { return graph_.nodes[static_cast<std::size_t>(n)]; }
  const std::vector<int>& uses(ValueId v) const { return uses_[static_cast<std::size_t>(v)]; }
  bool is_constant(ValueId v) const { return graph_.constant[static_cast<std::size_t>(v)]; }
  int producer(ValueId v) const { return graph_.producer[static_cast<std::size_t>(v)]; }
  /// All nodes that use the weights of `n`.
  const std::vector<int>& sharing(int n) const {
    return users_[static_cast<std::size_t>(model_.node_param[static_cast<std::size_t>(n)])];
  }

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
        if (node(use).kind == StepKind::kLinear)
          for (const int other : sharing(use)) visit(node(other).in[0]);
      const int p = producer(v);
      if (node(p).slot != Slot::kNone &&
          (node(p).kind == StepKind::kNorm || node(p).kind == StepKind::kLinear))
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
    const bool relu = step.kind == StepKind::kActivation &&
                      step.activation == ActivationKind::kRelu && scope_.through_relu;
    const bool attention = step.kind == StepKind::kAttention && scope_.through_attention;
    if (!relu && !attention) return -1;
    const std::size_t operand = relu ? 0 : 2;
    const int linear = producer(step.in[operand]);
    if (node(linear).kind != StepKind::kLinear) return -1;
    for (const int other : sharing(linear)) {
      const ValueId out = node(other).out;
      if (uses(out).size() != 1 || is_output(out)) return -1;
      const Node& reader = node(uses(out).front());
      if (reader.kind != step.kind || reader.activation != step.activation ||
          reader.in[operand] != out)
        return -1;
    }
    return linear;
  }
  bool is_output(ValueId value) const {
    return std::any_of(graph_.outputs.begin(), graph_.outputs.end(),
                       [&](const auto& o) { return o.second == value; });
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
        if (node(use).kind != StepKind::kLinear) {
          changed.restore = true;
        } else if (model_.param_of(use).tied_to >= 0) {
          site.refusal = "a matrix that is tied to the embedding reads it";
        } else if (weights.insert(model_.node_param[static_cast<std::size_t>(use)]).second) {
          (in_scope(node(use), scope_) ? site.linears : site.absorbers).push_back(use);
        }
      }
      find_producer(changed, site);
      site.values.push_back(changed);
    }
    std::sort(site.linears.begin(), site.linears.end());
    for (const int linear : site.linears)
      site.name +=
          site.name.empty() ? model_.node_name(linear) : "+" + slot_name(node(linear).slot);
    site.in_block = node(site.linears.front()).layer >= 0;
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
      if (node(n).kind == StepKind::kLinear && own(n) && v != changed.value)
        found.push_back(n);
      else if (node(n).kind == StepKind::kActivation)
        open.push_back(node(n).in[0]);
      else if (node(n).kind == StepKind::kMultiply)
        open.insert(open.end(), {node(n).in[0], node(n).in[1]});
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
    if (p.kind == StepKind::kNorm) {
      set(ProducerKind::kNorm, producer_node);
    } else if (p.kind == StepKind::kLinear) {
      set(ProducerKind::kLinear, producer_node);
    } else if (const int linear = behind_step(changed.value); linear >= 0 && !changed.restore) {
      set(p.kind == StepKind::kAttention ? ProducerKind::kLinear : ProducerKind::kLinearRows,
          linear);
      site.through_step = true;
      if (p.kind != StepKind::kAttention) return;
      const AttentionSpec spec = model_.attention_of(producer_node);
      changed.shared = {spec.num_heads / spec.num_kv_heads, spec.head_dim};
    } else if (p.kind == StepKind::kMultiply) {
      for (const ValueId in :
           p.in) {  // the factor that comes straight from a linear can take 1/s in its rows
        if (in == kNoValue) continue;
        const int source = producer(in);
        if (node(source).kind == StepKind::kLinear && uses(in).size() == 1)
          set(ProducerKind::kLinearRows, source);
      }
      if (changed.restore && changed.producer == ProducerKind::kLinearRows)
        site.refusal = "a residual branch reads this value";
    } else if (p.kind == StepKind::kAdd) {
      set(ProducerKind::kExplicit,
          producer_node);  // the first block of a post-norm decoder reads the embeddings themselves
    }
    if (changed.producer == ProducerKind::kNone && site.refusal.empty()) site.refusal = kNoProducer;
  }

  void find_kind(Site& site) const {
    const Slot first = node(site.linears.front()).slot;
    const std::size_t count = site.linears.size();
    const auto used_by = [&](int linear) { return uses(node(linear).out).front(); };
    if (first == Slot::kQProj && count == 3) {
      site.kind = SiteKind::kAttention;
      int use = used_by(site.linears[2]);  // v goes straight to attention; q and k may pass a norm
      while (node(use).kind != StepKind::kAttention) use = uses(node(use).out).front();
      site.attention_node = use;
    } else if (first == Slot::kGateProj && count == 2) {
      site.kind = SiteKind::kGatedMlp;
      site.activation_node = used_by(site.linears.front());
    } else if (first == Slot::kFc1 && count == 1) {
      site.kind = SiteKind::kMlp;
    } else if (first == Slot::kDownProj && count == 1) {
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
  std::vector<std::vector<int>> uses_;   ///< by value
  std::vector<std::vector<int>> users_;  ///< by parameter
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
  const auto weight = [&](int n) { return model->node_param[static_cast<std::size_t>(n)]; };
  const auto is_ours = [&](int use) {
    return std::any_of(linears.begin(), linears.end(),
                       [&](int n) { return weight(n) == weight(use); });
  };
  Plan plan;
  for (const ChangedValue& v : values) {
    const std::vector<int> uses = model->graph.uses(v.value);
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
  int at = 0;
  for (std::size_t s = 0; s < sites.size(); ++s) {
    const int first = sites[s].linears.front();
    SiteActivations inputs;
    for (const auto& executor : executors) {
      executor->run({at, first});
      inputs.x.push_back(&executor->value(sites[s].value()));
      inputs.batches.push_back(&executor->batch_of(sites[s].value()));
    }
    at = first;
    see(s, inputs);
  }
}

}  // namespace quell
