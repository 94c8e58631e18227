// Where a model directory says how its images are prepared.
#pragma once

#include <span>

#include "quell/io/model_directory.h"
#include "quell/vision/preprocessing.h"

namespace quell {

/// Of preprocessor_config.json: the image processors of transformers for ViT, DeiT, ConvNeXT (and
/// ResNet), EfficientNet, MobileNetV1 and V2, by `image_processor_type` or, in older files,
/// `feature_extractor_type`. Missing keys have the defaults of their class. As transformers 5
/// chooses, torchvision resizes; a type that ends in "Pil" and `library` = kPillow ask for Pillow,
/// which transformers 4 had by default. Throws Error(kInvalidInput | kUnsupported) with the key.
/// Keys that nobody asked for are judged with preprocessor_key_rules().
Preprocessing read_preprocessor_config(const Settings& settings,
                                       ResizeLibrary library = ResizeLibrary::kTorchvision);

/// Every key that is not known to change nothing is refused.
std::span<const KeyRule> preprocessor_key_rules();

/// Of the key `preprocess` in a network description (config.json): "channels" (RGB, BGR, grey),
/// "scale" ("divide by 255" or "raw 0..255 values"), "mean", "std", and "resize", whose text must
/// name one of OpenCV's INTER_AREA and INTER_LINEAR. The size is the description's "input", [C, H,
/// W]. Throws as above.
Preprocessing read_preprocess_key(const Settings& config);

/// Of LSTR's settings (LSTR.json): what its code does for the size in `db.input_size`. Throws as
/// above.
Preprocessing read_lstr_settings(const Settings& settings);

/// Of a model directory: preprocessor_config.json, judged and reported, else `preprocess` of
/// config.json, else settings of LSTR. Throws Error(kInvalidInput) where none is there.
Preprocessing read_preprocessing(const ModelDirectory& directory,
                                 ResizeLibrary library = ResizeLibrary::kTorchvision);

}  // namespace quell
