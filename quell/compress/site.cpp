#include "quell/compress/site.h"

#include <algorithm>

namespace quell {
namespace {

bool in_scope(const Node& node, const SiteScope& scope) {
  if (node.kind != StepKind::kLinear) return false;
  if (node.layer >= 0) return true;
  if (node.slot == Slot::kProjectIn || node.slot == Slot::kProjectOut) return scope.projections;
  if (node.slot == Slot::kPooler || node.slot == Slot::kClassifier) return scope.head;
  return false;
}

class Derivation {
 public:
  Derivation(const Model& model, const SiteScope& scope) : model_(model), graph_(model.graph), scope_(scope) {}

  std::vector<Site> run() {
    std::vector<Site> sites;
    std::vector<bool> done(graph_.producer.size());
    for (const Node& node : graph_.nodes) {
      if (!in_scope(node, scope_) || done[static_cast<std::size_t>(node.in[0])]) continue;
      done[static_cast<std::size_t>(node.in[0])] = true;
      sites.push_back(make_site(node.in[0]));
    }
    return sites;
  }

 private:
  const Node& node(int n) const { return graph_.nodes[static_cast<std::size_t>(n)]; }

  Site make_site(ValueId value) {
    Site site;
    site.model = &model_;
    site.value = value;
    bool only_adds = true, in_blocks = true;
    for (const int use : graph_.uses(value)) {
      if (node(use).kind == StepKind::kLinear) {
        if (in_scope(node(use), scope_)) site.linears.push_back(use);
        in_blocks &= node(use).layer >= 0;
        continue;
      }
      site.residual = true;
      only_adds &= node(use).kind == StepKind::kAdd;
    }
    for (const int linear : site.linears)
      site.name += site.name.empty() ? model_.node_name(linear) : "+" + slot_name(node(linear).slot);
    find_kind(site);
    find_producer(site, only_adds && in_blocks);
    return site;
  }

  void find_kind(Site& site) {
    const Slot first = node(site.linears.front()).slot;
    if (first == Slot::kQProj && site.linears.size() == 3) {
      site.kind = SiteKind::kAttention;
      site.attention_node = graph_.uses(node(site.linears.front()).out).front();
    } else if (first == Slot::kGateProj && site.linears.size() == 2) {
      site.kind = SiteKind::kGatedMlp;
      site.activation_node = graph_.uses(node(site.linears.front()).out).front();
    } else if (first == Slot::kFc1) {
      site.kind = SiteKind::kMlp;
    } else if (first == Slot::kDownProj) {
      site.kind = SiteKind::kDown;
    }
  }

  void find_producer(Site& site, bool uses_allow) {
    const int producer = graph_.producer[static_cast<std::size_t>(site.value)];
    const Node& p = node(producer);
    if (!uses_allow) {
      site.refusal = "something beside linears and residual sums reads this value";
      return;
    }
    const bool is_output =
        std::any_of(graph_.outputs.begin(), graph_.outputs.end(), [&](const auto& o) { return o.second == site.value; });
    if (is_output) {
      site.refusal = "it is an output of the model";
      return;
    }
    if (p.kind == StepKind::kNorm) {
      site.producer = ProducerKind::kNorm;
      site.producer_node = producer;
    } else if (p.kind == StepKind::kMultiply) {
      for (const ValueId in : p.in) {  // the factor that comes straight from a linear can take 1/s in its rows
        if (in == kNoValue) continue;
        const int source = graph_.producer[static_cast<std::size_t>(in)];
        if (node(source).kind == StepKind::kLinear && graph_.uses(in).size() == 1) {
          site.producer = ProducerKind::kLinearRows;
          site.producer_node = source;
        }
      }
    } else if (p.kind == StepKind::kAdd && site.kind == SiteKind::kAttention) {
      site.producer = ProducerKind::kExplicit;  // the first block of a post-norm decoder reads the embeddings themselves
      site.producer_node = producer;
    }
    if (site.producer == ProducerKind::kNone) site.refusal = "no norm or linear in front can absorb a change";
    if (site.producer == ProducerKind::kLinearRows && site.residual) {
      site.producer = ProducerKind::kNone;
      site.refusal = "a residual branch reads this value";
    }
    const auto has_bias = [&](int n) { return model_.param_of(n).bias.defined(); };
    site.bias_everywhere =
        (site.producer == ProducerKind::kExplicit || (site.producer == ProducerKind::kNorm && has_bias(producer))) &&
        std::all_of(site.linears.begin(), site.linears.end(), has_bias);
  }

  const Model& model_;
  const Graph& graph_;
  const SiteScope& scope_;
};

}  // namespace

std::vector<Site> derive_sites(const Model& model, const SiteScope& scope) { return Derivation(model, scope).run(); }

}  // namespace quell
