// Any bytes as preprocessor_config.json and as the description of a network: steps that work on a
// small image, or quell::Error.
#include "quell/base/error.h"
#include "quell/io/json.h"
#include "quell/vision/preprocessor_config.h"

namespace {

void try_steps(const quell::Settings& settings,
               quell::Preprocessing (*read)(const quell::Settings&)) {
  try {
    quell::Preprocessing steps = read(settings);

    // Targets of thousands of pixels are fine and slow.
    const auto limit = [](std::int64_t& side) { side = std::min<std::int64_t>(side, 40); };
    if (steps.resize) {
      limit(steps.resize->size.height);
      limit(steps.resize->size.width);
      limit(steps.resize->shortest_edge);
    }
    if (steps.crop) {
      limit(steps.crop->size.height);
      limit(steps.crop->size.width);
    }
    steps.result.reset();
    quell::Image image(7, 9, steps.num_channels());
    for (std::size_t i = 0; i < image.pixels.size(); ++i)
      image.pixels[i] = static_cast<std::uint8_t>(i * 37);
    (void)quell::preprocess(image, steps, "fuzz");
  } catch (const quell::Error&) {
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  try {
    const quell::Settings settings(
        quell::parse_json({reinterpret_cast<const char*>(data), size}, "fuzz"));
    try_steps(settings, [](const quell::Settings& s) { return read_preprocessor_config(s); });
    try_steps(settings, quell::read_preprocess_key);
  } catch (const quell::Error&) {
  }
  return 0;
}
