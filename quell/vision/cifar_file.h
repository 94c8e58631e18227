// The binary files of CIFAR-10 and CIFAR-100: records of one or two labels and 32 x 32 pixels, red,
// green and blue one after the other.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "quell/vision/image.h"

namespace quell {

/// Checked records that point into `bytes`, which the caller keeps alive.
class CifarFile {
 public:
  /// Which of the two it is follows from the size and the labels. Throws Error(kInvalidInput) where
  /// it can be neither; `source` names it in messages.
  CifarFile(std::span<const std::byte> bytes, const std::string& source);

  std::int64_t size() const { return size_; }
  int num_classes() const { return num_labels_ == 1 ? 10 : 100; }
  /// Of CIFAR-100 the fine one.
  std::int32_t label(std::int64_t index) const;
  Image image(std::int64_t index) const;

 private:
  const std::byte* record(std::int64_t index) const;

  std::span<const std::byte> bytes_;
  std::int64_t size_ = 0;
  std::int64_t num_labels_ = 1;  ///< of a record
};

}  // namespace quell
