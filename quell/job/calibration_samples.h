// What a model is calibrated on: sequences of tokens, or images, as the command line chooses them.
#pragma once

#include <memory>
#include <vector>

#include "quell/base/thread_pool.h"
#include "quell/job/quantize_job.h"
#include "quell/vision/image_source.h"

namespace quell {

class Tokenizer;

/// Samples in the order in which they are used.
struct CalibrationSamples {
  std::vector<TokenSequence> sequences;    ///< of models that read text
  std::vector<std::vector<float>> images;  ///< of the others: [channels, height, width] each

  // Where they came from, for people.
  std::shared_ptr<const Tokenizer> tokenizer;  ///< that made the sequences; null: they were ids
  std::shared_ptr<const ImageSource> source;   ///< of the images; null: there are none
  std::vector<std::int64_t> positions;         ///< of the images in it

  std::int64_t size() const { return static_cast<std::int64_t>(sequences.size() + images.size()); }
  /// Samples [begin, end), `batch_size` a batch.
  std::vector<TokenBatch> batches(const Model& model, std::int64_t begin, std::int64_t end,
                                  std::int64_t batch_size) const;
  /// All of them.
  std::vector<TokenBatch> batches(const Model& model, std::int64_t batch_size) const {
    return batches(model, 0, size(), batch_size);
  }
};

/// Rows of text or ids, windows of a token stream, or images, prepared as the model's files say.
/// Throws Error(kInvalidInput) when there are none.
CalibrationSamples load_calibration(const CalibrationChoice& choice, const Model& model,
                                    ThreadPool& pool);

}  // namespace quell
