#include "quell/vision/cifar_file.h"

#include <optional>

#include "quell/base/error.h"

namespace quell {
namespace {

constexpr std::int64_t kSide = 32;
constexpr std::int64_t kPlane = kSide * kSide;
constexpr std::int64_t kColours = 3;

struct Layout {
  std::int64_t num_labels;
  int max_label[2];
  std::int64_t record() const { return num_labels + kColours * kPlane; }
};
constexpr Layout kCifar10 = {1, {9, 0}};
constexpr Layout kCifar100 = {2, {19, 99}};

bool fits(const Layout& layout, std::span<const std::byte> bytes) {
  return !bytes.empty() && static_cast<std::int64_t>(bytes.size()) % layout.record() == 0;
}

/// The first record with a label that the layout does not have.
std::optional<std::int64_t> wrong_record(const Layout& layout, std::span<const std::byte> bytes) {
  const std::int64_t count = static_cast<std::int64_t>(bytes.size()) / layout.record();
  for (std::int64_t i = 0; i < count; ++i) {
    const std::byte* record = bytes.data() + i * layout.record();
    for (std::int64_t l = 0; l < layout.num_labels; ++l)
      if (std::to_integer<int>(record[l]) > layout.max_label[l]) return i;
  }
  return std::nullopt;
}

}  // namespace

CifarFile::CifarFile(std::span<const std::byte> bytes, const std::string& source) : bytes_(bytes) {
  require(fits(kCifar10, bytes) || fits(kCifar100, bytes), ErrorCode::kInvalidInput, source, ": ",
          bytes.size(), " bytes are no whole number of CIFAR records (", kCifar10.record(), " or ",
          kCifar100.record(), " bytes)");

  // A file of 3,074 records of CIFAR-10 is as long as one of 3,073 of CIFAR-100: the labels decide.
  const bool both = fits(kCifar10, bytes) && fits(kCifar100, bytes);
  const bool ten = both ? !wrong_record(kCifar10, bytes) : fits(kCifar10, bytes);
  const Layout& layout = ten ? kCifar10 : kCifar100;
  if (const std::optional<std::int64_t> wrong = wrong_record(layout, bytes))
    throw Error(ErrorCode::kInvalidInput,
                str(source, ": record ", *wrong, " has a label that CIFAR-", ten ? 10 : 100,
                    " does not have; not a CIFAR file, or a damaged one"));

  num_labels_ = layout.num_labels;
  size_ = static_cast<std::int64_t>(bytes.size()) / layout.record();
}

const std::byte* CifarFile::record(std::int64_t index) const {
  return bytes_.data() + index * (num_labels_ + kColours * kPlane);
}

std::int32_t CifarFile::label(std::int64_t index) const {
  return std::to_integer<std::int32_t>(record(index)[num_labels_ - 1]);
}

Image CifarFile::image(std::int64_t index) const {
  Image image(kSide, kSide, kColours);
  const std::byte* planes = record(index) + num_labels_;
  for (std::int64_t pixel = 0; pixel < kPlane; ++pixel) {
    std::uint8_t* out = image.pixels.data() + pixel * kColours;
    for (std::int64_t c = 0; c < kColours; ++c)
      out[c] = std::to_integer<std::uint8_t>(planes[c * kPlane + pixel]);
  }
  return image;
}

}  // namespace quell
