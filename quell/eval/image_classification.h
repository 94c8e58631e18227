// How many images a model puts in the class that their label says.
#pragma once

#include "quell/eval/evaluate.h"
#include "quell/vision/image_source.h"
#include "quell/vision/preprocessing.h"

namespace quell {

/// Which images, and how they become pixels.
struct ImageEvalSet {
  const ImageSource& images;
  Preprocessing steps = {};
  std::int64_t skip = 0;   ///< left out at the beginning
  std::int64_t limit = 0;  ///< images at most; 0: all
  std::int64_t batch = 16;
};

/// Images `first` to `first + count - 1` of the source, prepared for the model.
TokenBatch read_image_batch(const Model& model, const ImageSource& images, std::int64_t first,
                            std::int64_t count, const Preprocessing& steps, ThreadPool& pool);

/// A model to compare with; its classes are computed once for all that are compared with it on the
/// same images.
struct ImageReference {
  const ForwardModel* model = nullptr;
  std::vector<std::size_t> classes = {};  ///< by image of the set: filled by evaluate_images
  std::vector<bool> right = {};
};

/// top-1 and top-5 in percent (top-5 where there are more than five classes). `reference` (may be
/// null) adds the share of images that get its class, and what top-1 gains or loses, image by
/// image, with half of a 95 % interval. Throws Error(kUnsupported) where the model has no logits of
/// one row an image, Error(kInvalidInput) on a label that it has no class for.
std::vector<MetricResult> evaluate_images(const ForwardModel& model, ImageReference* reference,
                                          const ImageEvalSet& set, ExecContext& ctx);

}  // namespace quell
