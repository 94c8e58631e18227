#include "quell/train/deploy.h"

#include "quell/base/error.h"
#include "quell/graph/forms.h"
#include "quell/model/quantized_checkpoint.h"
#include "quell/quant/quantized_linear.h"

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
  QTensor out;
  out.spec = spec_of(entry);
  const WeightCodes made = entry.quantizer->codes(weight.detach());

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

/// As files hold codes of a table: with a step a row.
QTensor by_row(QTensor codes) {
  const std::int64_t rows = codes.codes.rows();
  const std::int64_t steps = codes.qparams.scale.numel();

  codes.spec.granularity = Granularity::kPerChannel;
  codes.spec.group_size = 0;
  if (steps == rows) return codes;
  const StepAndZero whole = codes.qparams.at(0);
  const auto count = static_cast<std::size_t>(rows);
  codes.qparams.scale = Tensor::from<float>(std::vector<float>(count, whole.scale), {rows});
  codes.qparams.zero_point =
      Tensor::from<std::int32_t>(std::vector<std::int32_t>(count, whole.zero_point), {rows});
  return codes;
}

/// A head that reads codes multiplies with those of the table; any other with its values.
void put_table(const Entry& entry, const torch::Tensor& table, Model& model) {
  QTensor codes = by_row(codes_of(entry, table));
  for (const NodeId n : readers_of(model.graph, model.graph.weight(entry.param))) {
    const Node& head = model.graph.node(n);
    if (!head.is(op_linear)) continue;
    if (model.graph.is_from(head.in[kLinearInput], op_quantize))
      model.set_codes(head.param, codes.clone());
    else
      set_weight_quant(model.graph, head.param, codes.spec);
  }
  record_table(codes.spec, model.param(entry.param).module, *model.config);
  model.replace_table(entry.param, std::move(codes));
}

/// What attention reads.
void check_attention(const Entry& entry) {
  require(!spec_of(entry).dynamic, ErrorCode::kUnsupported, entry.name,
          ": attention on codes wants static steps; use static_step");
}

/// A table [rows, columns], of which files hold a step a row.
void check_table(const Entry& entry, std::int64_t columns) {
  const QuantSpec spec = spec_of(entry);
  const bool fits = spec.granularity != Granularity::kPerGroup || spec.group_size == columns;
  require(fits, ErrorCode::kUnsupported, entry.name,
          ": a file holds tables with one step a row; use granularity row or tensor");
}

/// Engines multiply codes with codes, and groups that their kernels take.
void check_products(const Entry& entry, const Graph& graph) {
  const QuantSpec spec = spec_of(entry);
  const bool in_groups = spec.granularity == Granularity::kPerGroup;
  require(!in_groups || spec.group_size % kIntegerGroupUnit == 0, ErrorCode::kUnsupported,
          entry.name, ": weights in groups of ", spec.group_size,
          " have no integer kernel; take a multiple of ", kIntegerGroupUnit);

  for (const NodeId n : graph.order()) {
    const Node& node = graph.node(n);
    const bool multiplies = node.is(op_linear) && node.param == entry.param;
    require(!multiplies || graph.is_from(node.in[kLinearInput], op_quantize),
            ErrorCode::kUnsupported, entry.name,
            ": its codes would be multiplied with floats, which no engine does; give the recipe a "
            "quantizer of activations");
  }
}

}  // namespace

void check_deployable(const StudentQuantizers& quantizers, const TorchModel& student) {
  bool has_weights = quantizers.empty();
  for (const auto& entry : quantizers.entries()) {
    switch (entry->kind) {
      case Entry::Kind::kWeight:
        check_products(*entry, student.graph());
        has_weights = true;
        break;
      case Entry::Kind::kInput: spec_of(*entry); break;
      case Entry::Kind::kTable:
        check_table(*entry, student.parameters().weight(entry->param).size(1));
        break;
      case Entry::Kind::kAttention: check_attention(*entry); break;
    }
  }
  require(
      has_weights, ErrorCode::kUnsupported,
      "the recipe leaves weights in floats, and files hold quantizers of activations and tables "
      "only beside quantized weights; give it a quantizer of weights, or none at all");
}

void deploy(const TorchModel& student, const StudentQuantizers& quantizers, Model& model) {
  check_deployable(quantizers, student);
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
        model.graph.set_attributes(quantize_node(model.graph, entry->value),
                                   Attributes::of(activation_of(*entry)));
        break;
      case Entry::Kind::kAttention: put_attention_quant(*entry, model.graph); break;
    }
  }
}

}  // namespace quell::train
