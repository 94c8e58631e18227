#include "quell/job/divergent_inputs.h"

#include <algorithm>
#include <numeric>
#include <span>

#include "quell/io/json.h"
#include "quell/text/tokenizer/tokenizer.h"
#include "quell/vision/encode_png.h"
#include "quell/vision/resize.h"

namespace quell {
namespace {

constexpr std::int64_t kThumbnailSide = 96;
constexpr std::size_t kTextTokens = 48;

std::string base64(std::span<const std::byte> bytes) {
  static constexpr char kDigits[] =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string out;
  for (std::size_t at = 0; at < bytes.size(); at += 3) {
    const std::size_t there = std::min<std::size_t>(3, bytes.size() - at);
    std::uint32_t bits = 0;
    for (std::size_t i = 0; i < 3; ++i)
      bits = bits << 8 | (i < there ? std::to_integer<std::uint32_t>(bytes[at + i]) : 0);

    for (std::size_t digit = 0; digit < 4; ++digit)
      out += digit <= there ? kDigits[bits >> (18 - 6 * digit) & 63] : '=';
  }
  return out;
}

/// The image as it is where it is small, else with its longer side that of a thumbnail.
Image thumbnail_of(const Image& image) {
  const std::int64_t longer = std::max(image.height, image.width);
  if (longer <= kThumbnailSide) return image;

  const auto shrunk = [&](std::int64_t side) {
    return std::max<std::int64_t>(1, (side * kThumbnailSide + longer / 2) / longer);
  };
  return resize(image, shrunk(image.height), shrunk(image.width),
                {ResizeLibrary::kPillow, ResizeFilter::kBilinear});
}

/// Names in archives are any bytes, and tokens may end within a character.
std::string as_utf8(const std::string& text) {
  const auto replace = Json::error_handler_t::replace;
  return Json::parse(Json(text).dump(-1, ' ', false, replace)).get<std::string>();
}

/// Without the folders in front of the archive or folder that the images are from.
std::string short_name(const std::string& name, const std::filesystem::path& source) {
  const std::filesystem::path last = source.has_filename() ? source : source.parent_path();
  const std::string folders = last.parent_path().string() + "/";
  return name.starts_with(folders) ? name.substr(folders.size()) : name;
}

std::string beginning_of(const TokenSequence& sequence, const Tokenizer* tokenizer) {
  const std::size_t shown = std::min(kTextTokens, sequence.ids.size());
  const std::span<const std::int32_t> ids(sequence.ids.data(), shown);
  std::string out;
  if (tokenizer)
    out = tokenizer->decode(ids);
  else
    for (const std::int32_t id : ids) out += (out.empty() ? "" : " ") + std::to_string(id);
  return shown < sequence.ids.size() ? out + " ..." : out;
}

/// What config.json calls the class; empty where it says nothing.
std::string label_of(const Json& config, std::int64_t of_class) {
  const auto names = config.find("id2label");
  if (names == config.end()) return "";

  const std::string key = std::to_string(of_class);
  Json name;
  if (names->is_object() && names->contains(key)) name = (*names)[key];
  if (names->is_array() && of_class < std::ssize(*names))
    name = (*names)[static_cast<std::size_t>(of_class)];
  const bool is_said = name.is_string() && name != "LABEL_" + key;
  return is_said ? name.get<std::string>() : "";
}

}  // namespace

std::vector<DivergentInput> most_divergent(const HeldOut& held_out, std::size_t count,
                                           const Model& model,
                                           const std::filesystem::path& source) {
  std::vector<std::size_t> order(held_out.divergences.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
    return held_out.divergences[a] > held_out.divergences[b];
  });
  order.resize(std::min(count, order.size()));

  const CalibrationSamples& samples = held_out.samples;
  std::vector<DivergentInput> out;
  for (const std::size_t i : order) {
    const std::size_t at = static_cast<std::size_t>(held_out.begin) + i;
    DivergentInput input;
    input.divergence = held_out.divergences[i];
    if (samples.source) {
      const std::int64_t position = samples.positions[at];
      input.name = as_utf8(short_name(samples.source->name(position), source));
      const Image thumbnail = thumbnail_of(samples.source->image(position));
      input.thumbnail = "data:image/png;base64," + base64(encode_png(thumbnail));
    } else {
      input.name = "sample " + std::to_string(i + 1);
      input.text = as_utf8(beginning_of(samples.sequences[at], samples.tokenizer.get()));
    }

    input.has_classes = !held_out.float_classes.empty();
    if (input.has_classes) {
      input.float_class = held_out.float_classes[i];
      input.quantized_class = held_out.quantized_classes[i];
      input.float_label = label_of(*model.config, input.float_class);
      input.quantized_label = label_of(*model.config, input.quantized_class);
    }
    out.push_back(std::move(input));
  }
  return out;
}

}  // namespace quell
