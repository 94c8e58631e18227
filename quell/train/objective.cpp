#include "quell/train/objective.h"

#include <algorithm>
#include <cmath>

#include "quell/base/error.h"

namespace quell::train {
namespace {

template <typename T>
void drop_duplicates(std::vector<T>& values) {
  std::sort(values.begin(), values.end());
  values.erase(std::unique(values.begin(), values.end()), values.end());
}

void drop_duplicates(Taps& taps) {
  drop_duplicates(taps.values);
  drop_duplicates(taps.attention);
}

void check(const TermFactory& factory, const TermChoice& choice, const TermSetting& setting) {
  require(std::isfinite(choice.weight) && choice.weight >= 0, ErrorCode::kInvalidInput, "term \"",
          factory.name, "\": its weight is ", choice.weight, "; choose 0 or more");
  require(setting.teacher || !factory.needs_teacher, ErrorCode::kInvalidInput, "term \"",
          factory.name, "\": needs a teacher; name one, or train on \"labels\" alone");
  require(setting.task != TaskKind::kUnlabelled || !factory.needs_labels, ErrorCode::kInvalidInput,
          "term \"", factory.name,
          "\": needs labels, and the data has none; give data with labels, or leave it out");
}

std::vector<NamedTensor> named_by_term(const std::string& term, std::vector<NamedTensor> tensors) {
  for (NamedTensor& t : tensors) t.name = term + "." + t.name;
  return tensors;
}

}  // namespace

const TermFactory& term_factory(const std::string& name) {
  std::vector<std::string> known;
  for (const TermFactory* factory : all_of(static_cast<const TermFactory*>(nullptr))) {
    if (factory->name == name) return *factory;
    known.emplace_back(factory->name);
  }
  throw Error(ErrorCode::kInvalidInput,
              "term \"" + name + "\" is unknown; known are " + comma_list(known));
}

Objective::Objective(const std::vector<TermChoice>& choices, const TermSetting& setting) {
  require(!choices.empty(), ErrorCode::kInvalidInput,
          "training has no term to minimize; name at least one");
  std::map<std::string, int> uses;
  for (const TermChoice& choice : choices) {
    const TermFactory& factory = term_factory(choice.method.name());
    check(factory, choice, setting);

    std::string name(factory.name);
    const int use = ++uses[name];
    if (use > 1) name += "." + std::to_string(use);
    terms_.push_back({name, choice.weight, factory.make(choice.method, setting)});
    terms_.back().term->want(student_taps_, teacher_taps_);
  }
  drop_duplicates(student_taps_);
  drop_duplicates(teacher_taps_);
}

std::map<std::string, torch::Tensor> Objective::values(const TermInput& input) {
  std::map<std::string, torch::Tensor> out;
  torch::Tensor loss;
  for (Entry& entry : terms_) {
    const torch::Tensor value = entry.term->value(input);
    const torch::Tensor weighted = value * entry.weight;
    loss = loss.defined() ? loss + weighted : weighted;
    out[entry.name] = value;
  }
  out["loss"] = loss;
  return out;
}

std::map<std::string, double> Objective::diagnostics(const TermInput& input) const {
  const torch::NoGradGuard guard;
  std::map<std::string, double> out;
  for (const Entry& entry : terms_)
    for (const auto& [name, value] : entry.term->diagnostics(input))
      out[entry.name + "." + name] = value;
  return out;
}

std::vector<NamedTensor> Objective::parameters() const {
  std::vector<NamedTensor> out;
  for (const Entry& entry : terms_)
    for (NamedTensor& t : named_by_term(entry.name, entry.term->parameters()))
      out.push_back(std::move(t));
  return out;
}

std::vector<NamedTensor> Objective::state() const {
  std::vector<NamedTensor> out;
  for (const Entry& entry : terms_)
    for (NamedTensor& t : named_by_term(entry.name, entry.term->state()))
      out.push_back(std::move(t));
  return out;
}

}  // namespace quell::train
