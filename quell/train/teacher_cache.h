// What a teacher gives for each batch, kept on the disk: it is the same in every epoch.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>

#include "quell/train/torch_model.h"
#include "quell/train/training_batch.h"

namespace quell::train {

/// A file a batch (TrainingData with fixed batches), each complete or not there. A file whose
/// tokens are others than the batch's, or which is damaged, is made again.
class TeacherCache {
 public:
  /// Makes the directory. Throws Error(kIo).
  explicit TeacherCache(std::filesystem::path directory);

  /// What lies there of batch `number`, or what `make` makes, which is then kept.
  TorchOutputs outputs(std::int64_t number, const TrainingBatch& batch, const Taps& taps,
                       const std::function<TorchOutputs()>& make);

 private:
  std::filesystem::path directory_;
};

}  // namespace quell::train
