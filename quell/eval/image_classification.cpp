#include "quell/eval/image_classification.h"

#include <algorithm>
#include <cmath>

#include "quell/base/error.h"
#include "quell/eval/metrics.h"
#include "quell/model/image_input.h"
#include "quell/vision/pixel_batch.h"

namespace quell {
namespace {

constexpr std::int64_t kTop = 5;

/// One row of logits an image.
Tensor logits_of(const ForwardModel& model, const TokenBatch& batch, ExecContext& ctx) {
  ForwardOutputs outputs;
  model.forward(batch, outputs, ctx);
  const auto found = outputs.values.find("logits");
  require(found != outputs.values.end() && found->second.rows() == batch.batch,
          ErrorCode::kUnsupported, model.model().dir.path().string(),
          ": has no logits with a row for each image");
  return std::move(found->second);
}

/// Whether fewer than `top` classes lie above the one that is wanted; of equal ones the first wins.
bool is_among_first(std::span<const float> logits, std::size_t wanted, std::int64_t top) {
  std::int64_t above = 0;
  for (std::size_t c = 0; c < logits.size(); ++c) {
    const bool wins_tie = logits[c] == logits[wanted] && c < wanted;
    above += logits[c] > logits[wanted] || wins_tie ? 1 : 0;
  }
  return above < top;
}

/// The label as a class of the model.
std::size_t class_of(const ImageSource& images, std::int64_t index, std::int64_t classes) {
  const std::optional<std::int32_t> label = images.label(index);
  require(label.has_value(), ErrorCode::kInvalidInput, images.name(index), ": has no label");
  require(*label >= 0 && *label < classes, ErrorCode::kInvalidInput, images.name(index), ": label ",
          *label, ", and the model has ", classes, " classes");
  return static_cast<std::size_t>(*label);
}

}  // namespace

TokenBatch read_image_batch(const Model& model, const ImageSource& images, std::int64_t first,
                            std::int64_t count, const Preprocessing& steps, ThreadPool& pool) {
  const PixelBatch read = read_pixels(images, first, count, steps, pool);
  const std::int64_t channels = read.values.cols();
  const std::int64_t pixels = read.size.pixels();

  // The rows are pixels with their channels; models read one plane a channel.
  std::vector<float> planes(static_cast<std::size_t>(read.values.numel()));
  for (std::int64_t r = 0; r < read.values.rows(); ++r)
    for (std::int64_t c = 0; c < channels; ++c) {
      const std::int64_t plane = r / pixels * channels + c;
      planes[static_cast<std::size_t>(plane * pixels + r % pixels)] = read.values.row(r)[c];
    }
  return make_image_batch(model, std::move(planes));
}

namespace {

/// What the images of a set get from one model.
struct Answers {
  std::vector<std::size_t> classes;
  std::vector<bool> right;
  std::int64_t among_five = 0;
  std::int64_t num_classes = 0;
};

Answers answers_of(const ForwardModel& model, const ImageEvalSet& set, std::int64_t end,
                   ExecContext& ctx) {
  Answers out;
  for (std::int64_t begin = set.skip; begin < end; begin += set.batch) {
    const std::int64_t count = std::min(set.batch, end - begin);
    const TokenBatch batch =
        read_image_batch(model.model(), set.images, begin, count, set.steps, ctx.pool);
    const Tensor logits = logits_of(model, batch, ctx);

    out.num_classes = logits.cols();
    for (std::int64_t i = 0; i < count; ++i) {
      const std::span<const float> row(logits.row(i), static_cast<std::size_t>(out.num_classes));
      const std::size_t wanted = class_of(set.images, begin + i, out.num_classes);
      out.classes.push_back(argmax(row));
      out.right.push_back(is_among_first(row, wanted, 1));
      out.among_five += is_among_first(row, wanted, kTop) ? 1 : 0;
    }
    ctx.progress("evaluate", begin + count - set.skip, end - set.skip);
  }
  return out;
}

/// In percent: what is won on some images less what is lost on others, and half of the interval in
/// which that difference lies with 95 % (normal approximation for paired answers).
struct PairedDifference {
  double value = 0;
  double half_interval = 0;
};

PairedDifference paired_difference(const std::vector<bool>& right,
                                   const std::vector<bool>& before) {
  double won = 0, lost = 0;
  for (std::size_t i = 0; i < right.size(); ++i) {
    won += right[i] && !before[i] ? 1 : 0;
    lost += !right[i] && before[i] ? 1 : 0;
  }
  const auto n = static_cast<double>(right.size());
  const double difference = (won - lost) / n;
  const double variance = (won + lost) / n - difference * difference;
  constexpr double kQuantile = 1.96;
  return {100 * difference, 100 * kQuantile * std::sqrt(std::max(0.0, variance) / n)};
}

}  // namespace

std::vector<MetricResult> evaluate_images(const ForwardModel& model, ImageReference* reference,
                                          const ImageEvalSet& set, ExecContext& ctx) {
  const std::int64_t all = set.images.size();
  const std::int64_t end = set.limit > 0 ? std::min(all, set.skip + set.limit) : all;
  require(set.skip < end, ErrorCode::kInvalidInput, "no images left to evaluate: there are ", all);

  const Answers answers = answers_of(model, set, end, ctx);
  const std::int64_t images = end - set.skip;
  const auto percent = [&](std::int64_t n) {
    return 100.0 * static_cast<double>(n) / static_cast<double>(images);
  };
  const std::int64_t first = std::count(answers.right.begin(), answers.right.end(), true);
  std::vector<MetricResult> out = {{"top-1", percent(first), images}};
  if (answers.num_classes > kTop) out.push_back({"top-5", percent(answers.among_five), images});
  if (!reference) return out;

  if (reference->classes.empty()) {
    Answers theirs = answers_of(*reference->model, set, end, ctx);
    reference->classes = std::move(theirs.classes);
    reference->right = std::move(theirs.right);
  }
  std::int64_t agreeing = 0;
  for (std::size_t i = 0; i < answers.classes.size(); ++i)
    agreeing += answers.classes[i] == reference->classes[i] ? 1 : 0;
  const PairedDifference difference = paired_difference(answers.right, reference->right);
  out.push_back({"top-1 agreement", percent(agreeing), images});
  out.push_back({"top-1 difference", difference.value, images});
  out.push_back({"difference +/-", difference.half_interval, images});
  return out;
}

}  // namespace quell
