#include "quell/vision/preprocessor_config.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "quell/base/error.h"
#include "quell/io/json.h"
#include "quell/vision/preprocessor_settings.h"

namespace quell {
namespace {

const std::vector<double> kImageNetStandard = {0.5, 0.5, 0.5};

/// Numbers as PIL.Image has them.
constexpr std::array kResample = {ResizeFilter::kNearest,  ResizeFilter::kLanczos,
                                  ResizeFilter::kBilinear, ResizeFilter::kBicubic,
                                  ResizeFilter::kBox,      ResizeFilter::kHamming};

/// A class of image processors of transformers: what its missing keys mean.
struct ProcessorClass {
  std::string_view name;  ///< without "ImageProcessor"
  ResizeFilter resample = ResizeFilter::kBilinear;
  ImageSize size = {};             ///< or
  std::int64_t shortest_edge = 0;  ///< also: a plain number for `size` is one
  ImageSize crop_size = {};        ///< without: `do_center_crop` needs the key
  bool do_center_crop = false;
  bool crops_by_percentage = false;  ///< ConvNeXT's `crop_pct`
  bool has_second_std = false;       ///< EfficientNet's `include_top`, `rescale_offset`
};

constexpr ProcessorClass kClasses[] = {
    {.name = "ViT", .size = {224, 224}},
    {.name = "DeiT",
     .resample = ResizeFilter::kBicubic,
     .size = {256, 256},
     .crop_size = {224, 224},
     .do_center_crop = true},
    {.name = "ConvNext",
     .resample = ResizeFilter::kBicubic,
     .shortest_edge = 384,
     .crops_by_percentage = true},
    {.name = "EfficientNet",
     .resample = ResizeFilter::kBicubic,
     .size = {346, 346},
     .crop_size = {289, 289},
     .has_second_std = true},
    {.name = "MobileNetV1", .shortest_edge = 256, .crop_size = {224, 224}, .do_center_crop = true},
    {.name = "MobileNetV2", .shortest_edge = 256, .crop_size = {224, 224}, .do_center_crop = true},
};

struct ProcessorType {
  const ProcessorClass* known;
  ResizeLibrary library;
};

ProcessorType processor_type(const Settings& settings, ResizeLibrary library) {
  const bool old = !settings.has("image_processor_type");
  const std::string key = old ? "feature_extractor_type" : "image_processor_type";
  const std::string type = json_string(settings, key, "");
  require(!type.empty(), ErrorCode::kInvalidInput, "key \"image_processor_type\" is missing");

  std::string name = type;
  const auto cut = [&](std::string_view ending) {
    const bool there = name.ends_with(ending);
    if (there) name.resize(name.size() - ending.size());
    return there;
  };
  if (cut("Pil")) library = ResizeLibrary::kPillow;
  if (cut("Fast")) library = ResizeLibrary::kTorchvision;
  const bool is_processor = cut("ImageProcessor") || cut("FeatureExtractor");

  for (const ProcessorClass& known : kClasses)
    if (is_processor && name == known.name) return {&known, library};
  throw Error(ErrorCode::kUnsupported, str("key \"", key, "\": no rules for \"", type, "\""));
}

std::int64_t side(const Settings& size, const std::string& key) {
  return json_int(size, key, 1, kMaxImageSide);
}

/// `size` or `crop_size` as an object or a number.
struct SizeSetting {
  ImageSize size;
  std::int64_t shortest_edge = 0;
};

SizeSetting read_size(const Settings& settings, const std::string& key, bool number_is_edge) {
  if (settings.json().at(key).is_number()) {
    const std::int64_t number = side(settings, key);
    return number_is_edge ? SizeSetting{{}, number} : SizeSetting{{number, number}, 0};
  }

  const Settings object = settings.section(key);
  if (object.has("shortest_edge")) {
    if (object.has("longest_edge"))
      object.refuse("longest_edge", "a limit on the longer side is not supported");
    return {{}, side(object, "shortest_edge")};
  }
  return {{side(object, "height"), side(object, "width")}, 0};
}

ResizeMethod read_method(const Settings& settings, const ProcessorType& type) {
  ResizeMethod method = {type.library, type.known->resample};
  if (settings.has("resample")) {
    const auto last = static_cast<std::int64_t>(kResample.size()) - 1;
    method.filter = kResample[static_cast<std::size_t>(json_int(settings, "resample", 0, last))];
  }
  require(can_resize(method), ErrorCode::kUnsupported,
          "key \"resample\": ", library_name(method.library), " does not resize by ",
          filter_name(method.filter));
  return method;
}

CropStep crop_to(ImageSize size, ResizeLibrary library) {
  const bool pillow = library == ResizeLibrary::kPillow;
  return {size, pillow ? CropStep::OddRow::kInFront : CropStep::OddRow::kBehind};
}

/// ConvNeXT: below 384 the shorter side becomes larger by 1 / crop_pct, and the middle is cut out;
/// from 384 on both sides are stretched to that size.
void read_percentage_crop(const Settings& settings, const ProcessorType& type, ResizeStep step,
                          Preprocessing& out) {
  require(step.shortest_edge > 0, ErrorCode::kInvalidInput,
          "key \"size\": this processor needs \"shortest_edge\"");
  const double percentage = json_number(settings, "crop_pct", 224.0 / 256.0);
  require(percentage > 0.01 && percentage <= 1, ErrorCode::kInvalidInput,
          "key \"crop_pct\": expected a number above 0.01, at most 1");

  const ImageSize square = {step.shortest_edge, step.shortest_edge};
  if (step.shortest_edge < 384) {
    const double larger = static_cast<double>(step.shortest_edge) / percentage;
    step.shortest_edge = static_cast<std::int64_t>(larger);
    out.crop = crop_to(square, type.library);
  } else {
    step.size = square;
    step.shortest_edge = 0;
  }
  out.resize = step;
}

void read_resize(const Settings& settings, const ProcessorType& type, Preprocessing& out) {
  if (!json_bool(settings, "do_resize", true)) return;

  const ProcessorClass& known = *type.known;
  SizeSetting size = {known.size, known.shortest_edge};
  if (settings.has("size")) size = read_size(settings, "size", known.shortest_edge > 0);

  const ResizeStep step = {read_method(settings, type), size.size, size.shortest_edge};
  if (known.crops_by_percentage)
    read_percentage_crop(settings, type, step, out);
  else
    out.resize = step;
}

void read_crop(const Settings& settings, const ProcessorType& type, Preprocessing& out) {
  const ProcessorClass& known = *type.known;
  if (!json_bool(settings, "do_center_crop", known.do_center_crop)) return;

  // A crop behind ConvNeXT's own would be a third step.
  if (known.crops_by_percentage)
    settings.refuse("do_center_crop", "a crop behind the one by crop_pct is not supported");
  else if (settings.has("crop_size"))
    out.crop = crop_to(read_size(settings, "crop_size", false).size, type.library);
  else
    out.crop = crop_to(known.crop_size, type.library);

  require(!out.crop || out.crop->size.height > 0, ErrorCode::kInvalidInput,
          "key \"crop_size\" is missing");
}

Normalization read_normalization(const Settings& settings, const ProcessorType& type) {
  Normalization out;
  const bool pillow = type.library == ResizeLibrary::kPillow;
  out.arithmetic = pillow ? Arithmetic::kSeparate : Arithmetic::kFused;

  if (json_bool(settings, "do_rescale", true)) {
    out.factor = json_number(settings, "rescale_factor", 1.0 / 255.0);
    require(out.factor > 1e-9 && out.factor < 1e9, ErrorCode::kInvalidInput,
            "key \"rescale_factor\": expected a number above 0");
    const bool offset = type.known->has_second_std && json_bool(settings, "rescale_offset", false);
    if (offset) out.offset = -1;
  }

  const std::vector<double> deviations =
      channel_divisors(settings, "image_std", 3, kImageNetStandard);
  if (json_bool(settings, "do_normalize", true)) {
    out.mean = channel_numbers(settings, "image_mean", 3, kImageNetStandard);
    out.std = deviations;
  }
  const bool twice = type.known->has_second_std && json_bool(settings, "include_top", true);
  if (twice) out.second_std = deviations;
  return out;
}

/// The size of every result, where all have one.
std::optional<ImageSize> result_size(const Preprocessing& steps) {
  if (steps.crop) return steps.crop->size;
  if (steps.resize && steps.resize->shortest_edge == 0) return steps.resize->size;
  return std::nullopt;
}

constexpr std::string_view kPadding = "padding";

using Effect = KeyRule::Effect;

constexpr KeyRule kRules[] = {
    // Of saving and loading.
    {"processor_class"},
    {"_processor_class"},
    {"feature_extractor_type"},
    {"transformers_version"},
    {"_commit_hash"},
    {"_name_or_path"},
    {"name_or_path"},
    {"use_fast"},
    {"backend"},

    // Of calls.
    {"return_tensors"},
    {"device"},
    {"disable_grouping"},
    {"default_to_square"},  // classes know theirs
    {"do_convert_rgb"},     // images are RGB already
    {"_valid_processor_keys"},
    {"_valid_kwargs_names"},
    {"model_valid_processing_keys"},
    {"image_seq_length"},

    // Of label images, and of steps that are switched off.
    {"do_reduce_labels"},
    {"reduce_labels"},
    {"size"},
    {"resample"},
    {"crop_size"},
    {"crop_pct"},
    {"rescale_factor"},
    {"image_mean"},
    {"image_std"},

    {"data_format", Effect::kChangesResults, R"([null, "channels_first", "channels_last"])",
     "the order of the values"},
    {"input_data_format", Effect::kChangesResults, R"([null, "channels_first", "channels_last"])",
     "the order of the values"},
    {"do_pad", Effect::kChangesResults, "[null, false]", kPadding},
    {"pad_size", Effect::kChangesResults, "[null]", kPadding},
    {"auto_map", Effect::kChangesResults, "[null]", "code in the repository"},
    {"*", Effect::kChangesResults, "[null, false]", "an unknown setting"},
};

}  // namespace

Preprocessing read_preprocessor_config(const Settings& settings, ResizeLibrary library) {
  return with_file_name(settings, [&] {
    const ProcessorType type = processor_type(settings, library);
    Preprocessing out;
    read_resize(settings, type, out);
    read_crop(settings, type, out);
    out.normalization = read_normalization(settings, type);
    out.result = result_size(out);
    return out;
  });
}

std::span<const KeyRule> preprocessor_key_rules() { return kRules; }

Preprocessing read_preprocessing(const ModelDirectory& directory, ResizeLibrary library) {
  if (directory.has("preprocessor_config.json")) {
    const Settings settings = directory.read("preprocessor_config.json");
    const Preprocessing out = read_preprocessor_config(settings, library);
    directory.finish(settings, preprocessor_key_rules());
    return out;
  }

  // LSTR's authors have a file of their own; Quell writes what it holds to config.json.
  const char* file = directory.has("config.json") ? "config.json" : "LSTR.json";
  const Settings config = directory.read_if_there(file);
  const auto with_report = [&](Preprocessing out) {
    directory.read_too(config);
    return out;
  };
  if (config.contains("system") && config.contains("db"))
    return with_report(read_lstr_settings(config));
  require(config.has("preprocess"), ErrorCode::kInvalidInput, directory.string(),
          ": nothing says how images are prepared, neither preprocessor_config.json nor the key "
          "\"preprocess\" of config.json");
  return with_report(read_preprocess_key(config));
}

}  // namespace quell
