// What tests of the golden data of whole models share: batches, recorded tensors, and what these
// are in a graph.
#pragma once

#include "quell/io/json.h"
#include "quell/io/safetensors.h"
#include "quell/train/torch_model.h"
#include "tests/train/golden_run.h"

namespace quell::train::testing {

inline torch::Tensor recorded(const SafetensorsFile& file, const std::string& name) {
  return torch_of(file.at(name));
}

/// "<prefix>.input_ids" and what stands beside it.
inline TokenBatch read_batch(const SafetensorsFile& file, const std::string& prefix) {
  const auto read = [&](const char* name, std::int32_t otherwise) {
    if (file.has(prefix + name)) return to_i32(file.at(prefix + name), name);
    const auto count = static_cast<std::size_t>(file.at(prefix + "input_ids").numel());
    return std::vector<std::int32_t>(count, otherwise);
  };
  TokenBatch batch;
  batch.batch = file.at(prefix + "input_ids").shape()[0];
  batch.length = file.at(prefix + "input_ids").shape()[1];
  batch.ids = read("input_ids", 0);
  batch.mask = read("attention_mask", 1);
  batch.type_ids = read("token_type_ids", 0);
  if (file.has(prefix + "decoder_input_ids")) {
    batch.decoder_length = file.at(prefix + "decoder_input_ids").shape()[1];
    batch.decoder_ids = read("decoder_input_ids", 0);
  }
  return batch;
}

/// A model of the golden data: what its tensors are called in the cases, and what they are here.
class Recorded {
 public:
  Recorded(const Model& model, const TokenBatch& batch, torch::ScalarType dtype)
      : model_(model), batch_(batch), interpreter_(model, dtype) {}

  TorchModel& interpreter() { return interpreter_; }

  /// [layers, ...] for what every layer has; not defined() where `label` is something else.
  torch::Tensor value(const std::string& label) const {
    if (label == "logits") return outputs({}).values.at("logits");
    if (label == "hidden" || label == "enc_hidden") return hidden_states(0);
    if (label == "dec_hidden") return hidden_states(1);
    if (label == "scores") return stages(AttentionStage::kScores, 0, false);
    if (label == "context") return stages(AttentionStage::kContext, 0, false);
    if (label == "probs" || label == "enc_attn") return stages(AttentionStage::kMap, 0, false);
    if (label == "dec_attn") return stages(AttentionStage::kMap, 1, false);
    if (label == "cross_attn") return stages(AttentionStage::kMap, 1, true);
    if (label == "sa_output") return by_layer(projections());
    if (label == "attn_output") return by_layer(behind_norms(projections()));
    return {};
  }

 private:
  TorchOutputs outputs(const Taps& taps) const { return interpreter_.forward(batch_, taps); }
  const Graph& graph() const { return model_.graph; }

  torch::Tensor by_layer(const std::vector<ValueId>& values) const {
    const TorchOutputs out = outputs({values, {}});
    std::vector<torch::Tensor> layers;
    for (const ValueId v : values) {
      const torch::Tensor rows = out.taps.at(v);
      layers.push_back(rows.view({batch_.batch, -1, rows.size(1)}));
    }
    return torch::stack(layers);
  }

  torch::Tensor hidden_states(std::size_t stack) const {
    return by_layer(graph().stacks[stack].hidden_states);
  }

  std::vector<NodeId> attentions(int stack, bool cross) const {
    std::vector<NodeId> out;
    for (const NodeId n : graph().order()) {
      const Node& node = graph().node(n);
      if (!node.is(op_attention) || node.place.stack != stack) continue;
      if (attention_of(node).cross == cross) out.push_back(n);
    }
    return out;
  }

  torch::Tensor stages(AttentionStage stage, int stack, bool cross) const {
    Taps taps;
    for (const NodeId n : attentions(stack, cross)) taps.attention.push_back({n, stage});
    const TorchOutputs out = outputs(taps);
    std::vector<torch::Tensor> layers;
    for (const AttentionPoint& point : taps.attention) layers.push_back(out.attention.at(point));
    return torch::stack(layers);
  }

  std::vector<ValueId> projections() const {
    std::vector<ValueId> out;
    for (const NodeId n : attentions(0, false)) out.push_back(attention_output(graph(), n));
    return out;
  }
  /// Behind the sum, and behind the norm that reads it.
  std::vector<ValueId> behind_norms(const std::vector<ValueId>& values) const {
    std::vector<ValueId> out;
    for (const ValueId v : values) {
      const ValueId sum = graph().node(graph().uses(v).at(0)).out;
      out.push_back(graph().node(graph().uses(sum).at(0)).out);
    }
    return out;
  }

  const Model& model_;
  const TokenBatch& batch_;
  TorchModel interpreter_;
};

/// 1 where a tensor that runs over tokens, or over pairs of them, stands for something.
inline torch::Tensor counted(const std::string& label, const torch::Tensor& values,
                             const TokenBatch& batch) {
  const torch::Tensor mask =
      torch::tensor(batch.mask).view({batch.batch, batch.length}).to(torch::kBool);
  const bool of_decoder = label.starts_with("dec") || label == "cross_attn" ||
                          (label == "logits" && batch.decoder_length > 0);
  const torch::Tensor all = torch::ones_like(values, torch::kBool);
  // Nobody pads the decoders of this data; the logits of a classifier have no tokens.
  if (of_decoder || values.dim() < 3) return all;
  if (values.dim() == 3) return mask.unsqueeze(-1).expand_as(values);
  if (values.dim() == 4) return mask.unsqueeze(0).unsqueeze(-1).expand_as(values);

  const torch::Tensor rows = mask.view({1, batch.batch, 1, batch.length, 1}).expand_as(values);
  if (label != "scores") return rows;
  // References show scores behind the mask.
  return rows.logical_and(mask.view({1, batch.batch, 1, 1, batch.length}).expand_as(values));
}

}  // namespace quell::train::testing
