#include "quell/vision/preprocessing_words.h"

#include "quell/base/error.h"

namespace quell {
namespace {

const char* channel_words(ChannelOrder order) {
  switch (order) {
    case ChannelOrder::kRgb: return "RGB";
    case ChannelOrder::kBgr: return "BGR";
    case ChannelOrder::kGrey: return "grey";
  }
  return "";
}

std::string size_words(ImageSize size) { return str(size.height, " x ", size.width); }

std::string resize_words(const ResizeStep& step) {
  const std::string to = step.shortest_edge > 0 ? str("a shorter side of ", step.shortest_edge)
                                                : size_words(step.size);
  return str("resized to ", to, " (", library_name(step.method.library), ", ",
             filter_name(step.method.filter), ")");
}

std::string numbers(const std::vector<double>& values) {
  std::string text;
  for (const double v : values) text += str(" ", v);
  return text;
}

}  // namespace

std::string describe_preprocessing(const Preprocessing& steps) {
  std::string text = channel_words(steps.channels);
  if (steps.resize) text += ", " + resize_words(*steps.resize);
  if (steps.crop) text += ", the middle " + size_words(steps.crop->size);
  if (!steps.resize && !steps.crop && steps.result)
    text += ", of " + size_words(*steps.result) + " pixels (others are refused)";

  const Normalization& n = steps.normalization;
  if (n.factor != 1) text += str(", times ", n.factor);
  if (n.offset != 0) text += str(", plus ", n.offset);
  if (!n.mean.empty()) text += ", less mean" + numbers(n.mean);
  if (!n.std.empty()) text += ", divided by" + numbers(n.std);
  if (!n.second_std.empty()) text += ", divided by" + numbers(n.second_std) + " again";
  return text;
}

}  // namespace quell
