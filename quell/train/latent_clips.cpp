#include "quell/train/latent_clips.h"

#include <algorithm>

#include "quell/base/error.h"
#include "quell/graph/forms.h"
#include "quell/train/clip_search.h"
#include "quell/train/term_inputs.h"

namespace quell::train {
namespace {

using Entry = StudentQuantizers::Entry;

bool makes_queries_or_keys(const Graph& graph, ValueId v) {
  for (const NodeId n : readers_of(graph, v)) {
    const Node& reader = graph.node(n);
    if (!reader.is(op_attention)) continue;
    for (const AttentionOperand operand : {kQueryOperand, kKeyOperand})
      if (base_of(graph, reader.in[operand]) == v) return true;
  }
  return false;
}

/// What the linear of the weight reads; kNoValue where the weight is not to be clipped.
ValueId input_of(const Graph& graph, const Entry& entry) {
  const Node& linear = graph.node(graph.users(entry.param).front());
  if (makes_queries_or_keys(graph, linear.out)) return kNoValue;
  return base_of(graph, linear.in[kLinearInput]);
}

std::int64_t group_size_of(const Entry& entry, std::int64_t columns) {
  const std::optional<QuantSpec> spec = entry.quantizer->deployable().spec;
  const bool has_groups = spec && spec->granularity != Granularity::kPerTensor;
  require(has_groups && entry.quantizer->parameters().empty(), ErrorCode::kInvalidInput, entry.name,
          ": clip_search is for codes with a step a row or group that follows the weights, as "
          "those of int_asym; leave it out");
  return spec->granularity == Granularity::kPerGroup ? spec->group_size : columns;
}

/// Rows that are no padding.
torch::Tensor rows_of_tokens(const Model& model, const TokenBatch& batch, ValueId v,
                             const torch::Tensor& rows) {
  const RowSpace space = model.graph.value(v).type.rows;
  if (space.kind != RowSpace::Kind::kTokens) return rows;
  const torch::Tensor counts = is_token(tokens_of(model, batch, space.stack)).flatten();
  return rows.index_select(0, counts.nonzero().squeeze(1));
}

/// Rows of the values, of as many batches as hold `tokens` tokens, without quantizers.
std::map<ValueId, torch::Tensor> float_inputs(TorchModel& student,
                                              const std::vector<ValueId>& values,
                                              const TrainingData& data, std::int64_t tokens) {
  const QuantizerSlots kept = student.quantizers();
  student.set_quantizers({});
  std::map<ValueId, std::vector<torch::Tensor>> parts;
  std::int64_t seen = 0;
  for (std::int64_t i = 0; seen < tokens && i < data.batches_per_epoch(); ++i) {
    const TokenBatch batch = data.batch(i).tokens;
    const TorchOutputs outputs = student.forward(batch, {.values = values});
    for (const ValueId v : values)
      parts[v].push_back(rows_of_tokens(student.model(), batch, v, outputs.taps.at(v)));
    seen += is_token(batch).sum().item<std::int64_t>();
  }
  student.set_quantizers(kept);

  std::map<ValueId, torch::Tensor> out;
  for (const auto& [v, rows] : parts) out[v] = torch::cat(rows);
  return out;
}

}  // namespace

void clip_latent_weights(TorchModel& student, const StudentQuantizers& quantizers,
                         const TrainingData& data, std::int64_t tokens) {
  const torch::NoGradGuard guard;
  std::map<const Entry*, ValueId> inputs;
  std::vector<ValueId> values;
  for (const auto& entry : quantizers.entries()) {
    if (entry->kind != Entry::Kind::kWeight) continue;
    const ValueId x = input_of(student.graph(), *entry);
    if (x == kNoValue) continue;
    inputs[entry.get()] = x;
    if (std::find(values.begin(), values.end(), x) == values.end()) values.push_back(x);
  }

  const std::map<ValueId, torch::Tensor> rows = float_inputs(student, values, data, tokens);
  for (const auto& [entry, x] : inputs) {
    torch::Tensor weight = student.parameters().weight(entry->param);
    const torch::Tensor& stored = student.parameters().at(entry->tensor);
    require(weight.is_alias_of(stored), ErrorCode::kUnsupported, entry->name,
            ": clip_search cannot write rows that lie apart in their tensor; leave it out");
    const std::int64_t group = group_size_of(*entry, weight.size(1));
    require(weight.size(1) % group == 0, ErrorCode::kInvalidInput, entry->name,
            ": clip_search: groups of ", group, " do not divide its ", weight.size(1),
            " columns; choose another group_size of weights");
    const ClipSearch settings{.group_size = group, .sample_tokens = tokens};
    const Clips clips = search_clips(weight, rows.at(x), settings, [&](const torch::Tensor& w) {
      return entry->quantizer->quantize(w);
    });
    weight.copy_(clamp_to(weight, clips));
  }
}

}  // namespace quell::train
