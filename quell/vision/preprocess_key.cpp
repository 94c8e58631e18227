// The key `preprocess` of networks that are described as a list of ops.
#include <algorithm>

#include "quell/base/error.h"
#include "quell/io/json.h"
#include "quell/vision/preprocessor_config.h"
#include "quell/vision/preprocessor_settings.h"

namespace quell {
namespace {

ChannelOrder read_channels(const Settings& preprocess) {
  const std::string channels = json_string(preprocess, "channels", "RGB");
  if (channels == "RGB") return ChannelOrder::kRgb;
  if (channels == "BGR") return ChannelOrder::kBgr;
  require(channels == "grey", ErrorCode::kUnsupported, "key \"preprocess.channels\": \"", channels,
          "\" is none of RGB, BGR, grey");
  return ChannelOrder::kGrey;
}

double read_factor(const Settings& preprocess) {
  const std::string scale = json_string(preprocess, "scale", "");
  if (scale == "divide by 255") return 1.0 / 255.0;
  require(scale == "raw 0..255 values", ErrorCode::kUnsupported, "key \"preprocess.scale\": \"",
          scale, "\" is neither \"divide by 255\" nor \"raw 0..255 values\"");
  return 1;
}

/// [channels, height, width].
ImageSize read_input(const Settings& config, std::int64_t channels) {
  const Json& input = config.value("input");
  const auto is_side = [](const Json& side) {
    if (!side.is_number_integer()) return false;
    const auto number = side.get<std::int64_t>();
    return number >= 1 && number <= kMaxImageSide;
  };
  const bool fits =
      input.is_array() && input.size() == 3 && std::all_of(input.begin(), input.end(), is_side);
  require(fits, ErrorCode::kInvalidInput,
          "key \"input\": expected [channels, height, width], up to ", kMaxImageSide);
  require(input[0].get<std::int64_t>() == channels, ErrorCode::kInvalidInput,
          "key \"input\": ", input[0].get<std::int64_t>(),
          " channels, and \"preprocess.channels\" has ", channels);
  return {input[1].get<std::int64_t>(), input[2].get<std::int64_t>()};
}

/// The text is written for people; what it must say is whose resizing is meant.
ResizeMethod read_resize_text(const std::string& text) {
  const bool area = text.find("INTER_AREA") != std::string::npos;
  const bool linear = text.find("INTER_LINEAR") != std::string::npos;
  require(area != linear, ErrorCode::kUnsupported,
          "key \"preprocess.resize\": expected a text with one of OpenCV's INTER_AREA and "
          "INTER_LINEAR, found \"",
          text.substr(0, 60), "\"");
  return {ResizeLibrary::kOpenCv, area ? ResizeFilter::kArea : ResizeFilter::kBilinear};
}

constexpr std::string_view kKnown[] = {"channels", "scale", "mean", "std", "resize"};

void check_keys(const Settings& preprocess) {
  for (const auto& [key, value] : preprocess.json().items()) {
    if (std::find(std::begin(kKnown), std::end(kKnown), key) != std::end(kKnown)) continue;
    preprocess.refuse(key, "known are channels, scale, mean, std and resize");
  }
}

}  // namespace

Preprocessing read_preprocess_key(const Settings& config) {
  return with_file_name(config, [&] {
    const Settings preprocess = config.section("preprocess");
    check_keys(preprocess);

    Preprocessing out;
    out.channels = read_channels(preprocess);
    const ImageSize size = read_input(config, out.num_channels());
    out.result = size;
    if (preprocess.has("resize"))
      out.resize = {read_resize_text(json_string(preprocess, "resize", "")), size, 0};

    Normalization& normalization = out.normalization;
    normalization.factor = read_factor(preprocess);
    const bool has_mean = preprocess.has("mean");
    require(has_mean == preprocess.has("std"), ErrorCode::kInvalidInput,
            "key \"preprocess\": mean and std come together");
    if (has_mean) {
      normalization.mean = channel_numbers(preprocess, "mean", out.num_channels(), {});
      normalization.std = channel_divisors(preprocess, "std", out.num_channels(), {});
    }
    return out;
  });
}

}  // namespace quell
