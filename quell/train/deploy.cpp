#include "quell/train/deploy.h"

#include <algorithm>

#include "quell/base/error.h"
#include "quell/graph/forms.h"
#include "quell/model/quantized_checkpoint.h"
#include "quell/quant/quantize.h"

namespace quell::train {
namespace {

using Entry = StudentQuantizers::Entry;

/// Of a group whose codes are all 0, which has no step in training.
constexpr double kSmallestStep = 0x1.0p-23;

QuantSpec spec_of(const Entry& entry) {
  const DeployableForm form = entry.quantizer->deployable();
  require(form.spec.has_value(), ErrorCode::kUnsupported, entry.name,
          ": has no form in a file: ", form.text);
  return *form.spec;
}

/// Codes of a weight [out, in] as its quantizer leaves it.
QTensor codes_of(const Entry& entry, const torch::Tensor& weight) {
  const torch::NoGradGuard guard;
  const WeightCodes made = entry.quantizer->codes(weight.detach());
  QTensor out;
  out.spec = spec_of(entry);

  const torch::Tensor codes = made.codes.contiguous();
  const std::span<const std::int16_t> values(codes.data_ptr<std::int16_t>(),
                                             static_cast<std::size_t>(codes.numel()));
  out.codes = Tensor::from<std::int16_t>(values, {weight.size(0), weight.size(1)});

  const torch::Tensor steps = made.steps.to(torch::kFloat32).clamp_min(kSmallestStep).contiguous();
  const auto groups = static_cast<std::size_t>(steps.numel());
  out.qparams.scale = Tensor::from<float>({steps.data_ptr<float>(), groups}, {steps.numel()});
  const torch::Tensor zeros = made.zeros.to(torch::kInt32).contiguous();
  out.qparams.zero_point =
      Tensor::from<std::int32_t>({zeros.data_ptr<std::int32_t>(), groups}, {steps.numel()});
  return out;
}

ActivationQuant activation_of(const Entry& entry) {
  ActivationQuant out;
  out.spec = spec_of(entry);
  if (out.spec.dynamic) return out;

  const std::optional<StepAndZero> step = entry.quantizer->static_step();
  require(step.has_value(), ErrorCode::kUnsupported, entry.name, ": has no step that a file holds");
  out.qparams = *step;
  return out;
}

void put_attention_quant(const Entry& entry, Graph& graph) {
  const NodeId n = entry.point.node;
  AttentionQuant quant;
  if (const AttentionQuant* there = attention_quant_of(graph.node(n))) quant = *there;

  const ActivationQuant point = activation_of(entry);
  require(!point.spec.dynamic, ErrorCode::kUnsupported, entry.name,
          ": attention on codes wants static steps; use static_step");
  switch (entry.point.stage) {
    case AttentionStage::kQuery: quant.query = point; break;
    case AttentionStage::kKey: quant.key = point; break;
    case AttentionStage::kValue: quant.value = point; break;
    case AttentionStage::kMap: quant.probs = point; break;
    case AttentionStage::kScores:
    case AttentionStage::kContext: break;
  }
  set_attention_quant(graph, n, std::move(quant));
}

/// Readers of a file quantize the table that it holds: the codes are those of training only where
/// that gives them back.
void put_table(const Entry& entry, const torch::Tensor& table, Model& model) {
  // Training gives a tied head the matrix in floats, which would be gone.
  for (const Param& p : model.params)
    require(p.tied_to != entry.param, ErrorCode::kUnsupported, entry.name, ": ", p.module,
            " multiplies with the same table in floats; leave embeddings in floats");

  const QTensor codes = codes_of(entry, table);
  Param& param = model.param(entry.param);
  param.weight = dequantize(codes);
  QuantSpec spec = codes.spec;
  spec.granularity = Granularity::kPerChannel;
  const QTensor again = quantize_weight(param.weight, spec);

  const Tensor back = dequantize(again);
  const auto want = param.weight.f32();
  const auto got = back.f32();
  require(std::equal(want.begin(), want.end(), got.begin()), ErrorCode::kUnsupported, entry.name,
          ": a file holds tables with one symmetric step a row, from which the values of this "
          "quantizer do not come back; use twn or dynscale with granularity row and 2 bits");
  model.set_table_codes(entry.param, again);
  record_table(spec, param.module, *model.config);
}

}  // namespace

void deploy(const TorchModel& student, const StudentQuantizers& quantizers, Model& model) {
  student.parameters().write_to(model);
  for (const auto& entry : quantizers.entries()) {
    switch (entry->kind) {
      case Entry::Kind::kWeight:
        model.set_codes(entry->param, codes_of(*entry, student.parameters().weight(entry->param)));
        break;
      case Entry::Kind::kTable:
        put_table(*entry, student.parameters().weight(entry->param), model);
        break;
      case Entry::Kind::kInput:
        set_input_quant(model.graph, entry->value, activation_of(*entry), false,
                        [&](const Node& n) { return is_quantized_linear(model.graph, n); });
        break;
      case Entry::Kind::kAttention: put_attention_quant(*entry, model.graph); break;
    }
  }
}

}  // namespace quell::train
