#include "quell/train/deployment_check.h"

#include <algorithm>
#include <cmath>
#include <map>

#include "quell/base/error.h"
#include "quell/engine/engines.h"
#include "quell/graph/forms.h"
#include "quell/quant/quantize.h"
#include "quell/train/distance.h"
#include "quell/train/torch_forward.h"

namespace quell::train {
namespace {

using Entry = StudentQuantizers::Entry;

constexpr double kLargestShare = 1e-4;
constexpr double kLargestRowDistance = 1e-5;
/// Of a step: beyond it two values stand on different codes.
constexpr float kSameCode = 0.25F;
/// Of a step: how near to the middle between two codes a value lies that f32 can round either way.
constexpr float kTieWidth = 1e-3F;

/// Nodes of `model` by what they are called in any file of it.
std::map<std::string, NodeId> linears_by_module(const Model& model) {
  std::map<std::string, NodeId> out;
  for (const NodeId n : model.graph.order()) {
    const Node& node = model.graph.node(n);
    if (!node.is(op_linear) || node.param == kNoParam) continue;
    const ParamDef& def = model.graph.param(node.param);
    out[def.module + "/" + std::to_string(def.packing.part)] = n;
  }
  return out;
}

std::map<std::string, NodeId> attentions_by_label(const Model& model) {
  std::map<std::string, NodeId> out;
  for (const NodeId n : model.graph.order())
    if (model.graph.node(n).is(op_attention)) out[model.graph.node(n).label] = n;
  return out;
}

NodeId counterpart(const std::map<std::string, NodeId>& there, const std::string& name) {
  const auto found = there.find(name);
  require(found != there.end(), ErrorCode::kVerification, "the file that was written lacks ", name);
  return found->second;
}

/// Of the row's codes.
float step_of_row(const ActivationQuant& quant, std::span<const float> row) {
  if (!quant.spec.dynamic) return quant.qparams.scale;
  return calculate_qparams(minmax_range(row), quant.spec).scale;
}

struct RowCodes {
  std::int64_t differing = 0;
  std::int64_t by_more_than_one = 0;
  std::int64_t away_from_ties = 0;
};

/// Of one row: `trained` and `deployed` are `x` behind both quantizers.
RowCodes compare_row(const ActivationQuant& quant, std::span<const float> x,
                     std::span<const float> trained, std::span<const float> deployed) {
  const float step = step_of_row(quant, x);
  RowCodes out;
  for (std::size_t i = 0; i < x.size(); ++i) {
    const float distance = std::abs(trained[i] - deployed[i]) / step;
    if (distance <= kSameCode) continue;
    ++out.differing;
    if (distance > 1 + kSameCode) ++out.by_more_than_one;

    const float place = std::abs(x[i]) / step;
    const float from_tie = std::abs(place - std::floor(place) - 0.5F);
    if (from_tie > kTieWidth) ++out.away_from_ties;
  }
  return out;
}

class Comparison {
 public:
  Comparison(const TorchModel& student, const StudentQuantizers& quantizers, const Model& read,
             ExecContext& ctx)
      : student_(student), read_(read), ctx_(ctx) {
    const std::map<std::string, NodeId> attentions = attentions_by_label(read);
    for (const auto& entry : quantizers.entries()) {
      if (entry->kind == Entry::Kind::kInput) inputs_[entry->value] = entry.get();
      if (entry->kind != Entry::Kind::kAttention) continue;
      const std::string& label = student.graph().node(entry->point.node).label;
      points_.push_back({entry.get(), counterpart(attentions, label)});
      taps_.attention.push_back(entry->point);
    }
    add_linears();
  }

  void run(const TokenBatch& batch) {
    const torch::NoGradGuard guard;
    const TorchOutputs outputs = student_.forward(batch, taps_);
    std::map<ValueId, std::vector<bool>> clean;  // rows of an input without a code that differs
    for (const Linear& linear : linears_) {
      if (!clean.contains(linear.input))
        clean[linear.input] = compare_input(linear, outputs.taps.at(linear.input));
      compare_rows(linear, outputs, clean.at(linear.input));
    }
    for (const Point& point : points_)
      compare_point(point, outputs.attention.at(point.entry->point));
  }

  const DeploymentCheck& result() const { return result_; }

 private:
  struct Linear {
    std::string name;
    ValueId input = kNoValue;   ///< of the student's graph, in front of quantizers
    ValueId output = kNoValue;  ///< of the student's graph
    NodeId there = kNoNode;
    const ActivationQuant* quant = nullptr;  ///< of the file
  };
  struct Point {
    const Entry* entry;
    NodeId there;
  };

  void add_linears() {
    const std::map<std::string, NodeId> there = linears_by_module(read_);
    const std::map<std::string, NodeId> here = linears_by_module(student_.model());
    for (const auto& [name, n] : here) {
      const Graph& graph = student_.graph();
      const Node& node = graph.node(n);
      const ValueId input = base_of(graph, node.in[kLinearInput]);
      const bool reads_codes = graph.is_from(node.in[kLinearInput], op_quantize);
      if (!reads_codes || !inputs_.contains(input)) continue;

      Linear linear{.name = node.label, .input = input, .output = node.out};
      linear.there = counterpart(there, name);
      linear.quant = input_quant_of(read_.graph, read_.graph.node(linear.there).in[kLinearInput]);
      require(linear.quant != nullptr, ErrorCode::kVerification, "the file that was written holds ",
              node.label, " without a quantizer of its input");
      linears_.push_back(linear);
      taps_.values.push_back(linear.input);
      taps_.values.push_back(linear.output);
    }
  }

  void count(const RowCodes& row, std::int64_t codes) {
    result_.codes += codes;
    result_.differing += row.differing;
    result_.by_more_than_one += row.by_more_than_one;
    result_.away_from_ties += row.away_from_ties;
  }

  std::vector<bool> compare_input(const Linear& linear, const torch::Tensor& x) {
    const Tensor values = to_tensor(x);
    const Tensor trained = to_tensor(inputs_.at(linear.input)->quantizer->quantize(x));
    Tensor deployed = Tensor::f32(values.shape());
    fake_quantize_activations(values, *linear.quant, Rounding::kReciprocal, deployed.span(), ctx_);

    std::vector<bool> clean;
    for (std::int64_t r = 0; r < values.rows(); ++r) {
      const auto columns = static_cast<std::size_t>(values.cols());
      const RowCodes row = compare_row(*linear.quant, {values.row(r), columns},
                                       {trained.row(r), columns}, {deployed.row(r), columns});
      count(row, values.cols());
      clean.push_back(row.differing == 0);
    }
    return clean;
  }

  void compare_rows(const Linear& linear, const TorchOutputs& outputs,
                    const std::vector<bool>& clean) {
    const Tensor x = to_tensor(outputs.taps.at(linear.input));
    const Tensor trained = to_tensor(outputs.taps.at(linear.output));
    Tensor deployed = Tensor::f32(trained.shape());
    make_simulated_op(read_, linear.there, true, ctx_.isa)->forward(x, deployed.span(), ctx_);

    for (std::int64_t r = 0; r < trained.rows(); ++r) {
      if (!clean[static_cast<std::size_t>(r)]) continue;
      float difference = 0;
      float largest = 0;
      for (std::int64_t c = 0; c < trained.cols(); ++c) {
        const float apart = std::abs(trained.row(r)[c] - deployed.row(r)[c]);
        if (is_farther(apart, difference)) difference = apart;
        largest = std::max(largest, std::abs(trained.row(r)[c]));
      }
      ++result_.rows;
      const double distance = largest > 0 ? difference / largest : difference;
      if (!is_farther(distance, result_.row_distance)) continue;
      result_.row_distance = distance;
      result_.farthest = linear.name;
    }
  }

  void compare_point(const Point& point, const torch::Tensor& x) {
    const AttentionQuant* quant = attention_quant_of(read_.graph.node(point.there));
    require(quant != nullptr, ErrorCode::kVerification, "the file that was written holds ",
            point.entry->name, " without a quantizer");
    const std::optional<ActivationQuant>* there = nullptr;
    switch (point.entry->point.stage) {
      case AttentionStage::kQuery: there = &quant->query; break;
      case AttentionStage::kKey: there = &quant->key; break;
      case AttentionStage::kValue: there = &quant->value; break;
      case AttentionStage::kMap: there = &quant->probs; break;
      case AttentionStage::kScores:
      case AttentionStage::kContext: break;
    }
    require(there && there->has_value(), ErrorCode::kVerification,
            "the file that was written holds ", point.entry->name, " without a quantizer");

    const ActivationQuant& quantizer = there->value();
    const Tensor values = to_tensor(x.flatten());
    const Tensor trained = to_tensor(point.entry->quantizer->quantize(x).flatten());
    Tensor deployed = Tensor::f32(values.shape());
    fake_quantize(values.f32(), quantizer.qparams, quantizer.spec, Rounding::kReciprocal,
                  deployed.span().f32());
    count(compare_row(quantizer, values.f32(), trained.f32(), deployed.f32()), values.numel());
  }

  const TorchModel& student_;
  const Model& read_;
  ExecContext& ctx_;
  std::map<ValueId, const Entry*> inputs_;
  std::vector<Linear> linears_;
  std::vector<Point> points_;
  Taps taps_;
  DeploymentCheck result_;
};

}  // namespace

bool DeploymentCheck::passes() const {
  return share() <= kLargestShare && by_more_than_one == 0 && away_from_ties == 0 &&
         row_distance <= kLargestRowDistance;
}

std::string DeploymentCheck::text() const {
  return str(differing, " of ", codes, " activation codes differ from training (share ", share(),
             ", at most 1e-4 allowed), ", by_more_than_one, " by more than one, ", away_from_ties,
             " away from ties; of ", rows, " rows without one the farthest is ", row_distance,
             " from training", farthest.empty() ? "" : " (" + farthest + ")",
             ", at most 1e-5 allowed");
}

DeploymentCheck check_deployment(const TorchModel& student, const StudentQuantizers& quantizers,
                                 const Model& read, const std::vector<TokenBatch>& batches,
                                 ExecContext& ctx) {
  Comparison comparison(student, quantizers, read, ctx);
  for (const TokenBatch& batch : batches) comparison.run(batch);
  return comparison.result();
}

}  // namespace quell::train
