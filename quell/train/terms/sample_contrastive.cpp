// Contrastive distillation of sentences (ACKD, as reconstructed): what paired layers give, pooled
// and put side by side, mapped to one width. The maps learn.
#include "quell/train/losses/sample_contrastive.h"

#include <ATen/CPUGeneratorImpl.h>

#include <cmath>
#include <limits>

#include "quell/base/error.h"
#include "quell/train/term_inputs.h"

namespace quell::train {
namespace {

std::int64_t columns_of(const Graph& graph, const std::vector<ValueId>& values) {
  std::int64_t sum = 0;
  for (const ValueId v : values) sum += graph.value(v).type.columns;
  return sum;
}

class SampleContrastiveTerm : public ObjectiveTerm {
 public:
  SampleContrastiveTerm(const MethodParams& params, const TermSetting& setting)
      : student_(setting.student.model()), teacher_(setting.teacher->model()) {
    params.check_keys({"width", "pooling", "temperature", "reweighting_temperature", "seed"});
    pools_first_ = params.choice("pooling", {"mean", "first"}, "mean") == "first";
    options_.temperature = params.number("temperature", 1e-4, 1e3, options_.temperature);
    const auto& values = params.values();
    const auto reweighting = values.find("reweighting_temperature");
    if (reweighting != values.end() && reweighting->second != "none")
      options_.reweighting_temperature = params.number("reweighting_temperature", 1e-4, 1e3, 1);

    pairs_ = layer_pairs(setting);
    require(!pairs_.student.empty(), ErrorCode::kInvalidInput,
            "term \"sample_contrastive\": the model has no layers; leave the term out");
    draw_maps(params, setting);
  }

  void want(Taps& student, Taps& teacher) const override {
    student.values.insert(student.values.end(), pairs_.student.begin(), pairs_.student.end());
    teacher.values.insert(teacher.values.end(), pairs_.teacher.begin(), pairs_.teacher.end());
  }

  torch::Tensor value(const TermInput& input) override {
    return sample_contrastive(of_student(input), of_teacher(input), student_map_, teacher_map_,
                              options_)
        .loss;
  }

  std::vector<NamedTensor> parameters() const override {
    return {{"student_map", student_map_}, {"teacher_map", teacher_map_}};
  }

  std::map<std::string, double> diagnostics(const TermInput& input) const override {
    if (input.batch.tokens.batch < 2) return {};
    return {{"margin", contrastive_margin(contrastive_features(of_student(input), student_map_),
                                          contrastive_features(of_teacher(input), teacher_map_))}};
  }

 private:
  /// Without the embeddings, which say nothing of a sentence.
  static ValuePairs layer_pairs(const TermSetting& setting) {
    const Graph& student = setting.student.graph();
    const Graph& teacher = setting.teacher->graph();
    const ValuePairs all = hidden_state_pairs(student, teacher, setting.layers);
    ValuePairs out;
    std::size_t i = 0;
    for (const std::vector<int>& stack : setting.layers) {
      ++i;
      for (std::size_t l = 0; l < stack.size(); ++l, ++i) {
        out.student.push_back(all.student[i]);
        out.teacher.push_back(all.teacher[i]);
      }
    }
    return out;
  }

  void draw_maps(const MethodParams& params, const TermSetting& setting) {
    const std::int64_t width = params.integer("width", 1, 1 << 16, 128);
    const std::int64_t seed =
        params.integer("seed", 0, std::numeric_limits<std::int32_t>::max(), 0);
    at::Generator generator = at::detail::createCPUGenerator(static_cast<std::uint64_t>(seed));
    // Drawn in f64, so that both types of training start alike.
    const auto draw = [&](std::int64_t columns) {
      const torch::Tensor map = torch::randn({width, columns}, generator, torch::kFloat64) /
                                std::sqrt(static_cast<double>(columns));
      return map.to(setting.student.dtype()).requires_grad_(true);
    };
    student_map_ = draw(columns_of(student_.graph, pairs_.student));
    teacher_map_ = draw(columns_of(teacher_.graph, pairs_.teacher));
  }

  torch::Tensor of_student(const TermInput& input) const {
    return features(student_, input.batch.tokens, tapped(input.student, pairs_.student),
                    pairs_.student);
  }
  torch::Tensor of_teacher(const TermInput& input) const {
    return features(teacher_, input.batch.tokens, tapped(input.teacher, pairs_.teacher),
                    pairs_.teacher)
        .to(student_map_.scalar_type());
  }

  /// [B, columns of all layers].
  torch::Tensor features(const Model& model, const TokenBatch& batch,
                         const std::vector<torch::Tensor>& layers,
                         const std::vector<ValueId>& values) const {
    std::vector<torch::Tensor> pooled;
    for (std::size_t i = 0; i < layers.size(); ++i) {
      const int stack = model.graph.value(values[i]).type.rows.stack;
      const torch::Tensor counts = is_token(tokens_of(model, batch, stack));
      const torch::Tensor by_sentence =
          layers[i].view({counts.size(0), counts.size(1), layers[i].size(1)});
      if (pools_first_) {
        pooled.push_back(by_sentence.select(1, 0));
        continue;
      }
      const torch::Tensor weight = counts.to(by_sentence.scalar_type()).unsqueeze(-1);
      pooled.push_back((by_sentence * weight).sum(1) / weight.sum(1));
    }
    return torch::cat(pooled, 1);
  }

  const Model& student_;
  const Model& teacher_;
  bool pools_first_ = false;
  SampleContrastiveOptions options_;
  ValuePairs pairs_;
  torch::Tensor student_map_;
  torch::Tensor teacher_map_;
};

}  // namespace

extern const TermFactory k_sample_contrastive;
const TermFactory k_sample_contrastive = {
    "sample_contrastive", true, false,
    [](const MethodParams& params, const TermSetting& setting) -> std::unique_ptr<ObjectiveTerm> {
      return std::make_unique<SampleContrastiveTerm>(params, setting);
    }};

}  // namespace quell::train
