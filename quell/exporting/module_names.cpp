#include "quell/exporting/module_names.h"

#include <algorithm>

#include "quell/model/family.h"

namespace quell {
namespace {

/// "BertModel", but not "GPT2LMHeadModel".
bool is_bare(const std::string& architecture) {
  return architecture.ends_with("Model") && !architecture.ends_with("LMHeadModel");
}

}  // namespace

std::vector<std::string> linears_of_other_classes(const std::string& model_type) {
  if (model_type == "bert") return {"bert.pooler.dense", "cls.seq_relationship"};
  if (model_type == "albert") return {"albert.pooler", "sop_classifier.classifier"};
  if (model_type == "roberta" || model_type == "xlm-roberta") return {"roberta.pooler.dense"};
  return {};
}

ModuleNames::ModuleNames(const Model& model)
    : prefix_(find_family(model.spec.model_type).prefix),
      bare_(is_bare(architecture_of(Settings(*model.config)))) {}

std::string ModuleNames::of_class(const std::string& name) const {
  return bare_ && name.starts_with(prefix_) ? name.substr(prefix_.size()) : name;
}

std::vector<std::string> ModuleNames::everywhere(const std::string& module) const {
  if (prefix_.empty() || !module.starts_with(prefix_)) return {module};
  std::vector<std::string> names = {module, module.substr(prefix_.size())};
  if (bare_) std::swap(names[0], names[1]);
  return names;
}

std::vector<std::string> ignored_modules(const Model& model) {
  const ModuleNames names(model);
  std::vector<std::string> out;
  const auto add = [&](const std::string& module) {
    for (const std::string& name : names.everywhere(module))
      if (std::find(out.begin(), out.end(), name) == out.end()) out.push_back(name);
  };
  std::vector<bool> is_linear(model.params.size());
  for (NodeId n = 0; n < model.graph.num_nodes(); ++n)
    if (model.graph.node(n).param >= 0 && model.graph.node(n).op->product)
      is_linear[static_cast<std::size_t>(model.graph.node(n).param)] = true;
  for (std::size_t i = 0; i < model.params.size(); ++i)
    if (is_linear[i] && !model.params[i].quantized) {
      add(model.params[i].module);
      if (model.params[i].module == "embed_out")
        add("lm_head");  // of GPT-NeoX, since transformers 5
    }
  const auto has = [&](const std::string& module) {
    return std::any_of(model.params.begin(), model.params.end(),
                       [&](const Param& p) { return p.module == module; });
  };
  for (const std::string& module : linears_of_other_classes(model.spec.model_type))
    if (!has(module)) add(module);
  return out;
}

}  // namespace quell
