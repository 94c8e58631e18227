// LSTR's own settings. They say the size of its input; the rest is in its code (db/tusimple.py,
// test/tusimple.py).
#include "quell/base/error.h"
#include "quell/io/json.h"
#include "quell/vision/preprocessor_config.h"
#include "quell/vision/preprocessor_settings.h"

namespace quell {
namespace {

/// [height, width].
ImageSize read_input_size(const Settings& settings) {
  const Json& input = settings.section("db").value("input_size");
  const auto is_side = [](const Json& side) {
    if (!side.is_number_integer()) return false;
    const auto number = side.get<std::int64_t>();
    return number >= 1 && number <= kMaxImageSide;
  };
  const bool fits = input.is_array() && input.size() == 2 && is_side(input[0]) && is_side(input[1]);
  require(fits, ErrorCode::kInvalidInput, "key \"db.input_size\": expected [height, width], up to ",
          kMaxImageSide);
  return {input[0].get<std::int64_t>(), input[1].get<std::int64_t>()};
}

}  // namespace

Preprocessing read_lstr_settings(const Settings& settings) {
  return with_file_name(settings, [&] {
    const ImageSize size = read_input_size(settings);
    Preprocessing out;
    out.channels = ChannelOrder::kBgr;
    out.resize = {{ResizeLibrary::kOpenCv, ResizeFilter::kBilinear}, size, 0};
    out.result = size;
    out.normalization.factor = 1.0 / 255.0;
    out.normalization.mean = {0.40789654, 0.44719302, 0.47026115};
    out.normalization.std = {0.28863828, 0.27408164, 0.27809835};
    return out;
  });
}

}  // namespace quell
