#include "quell/vision/idx_file.h"

#include <algorithm>

#include "quell/base/error.h"
#include "quell/vision/gzip.h"

namespace quell {
namespace {

constexpr std::size_t kMaxRank = 4;
constexpr std::size_t kMaxHeader = 4 + 4 * kMaxRank;
constexpr std::int64_t kMaxValues = std::int64_t{1} << 31;
constexpr std::uint8_t kUnsignedByte = 0x08;

/// The first `count` bytes of the content, fewer where there are no more.
std::vector<std::uint8_t> content(std::span<const std::byte> bytes, std::size_t count,
                                  const std::string& source) {
  if (is_gzip(bytes)) return gunzip(bytes, count, source);

  const auto* first = reinterpret_cast<const std::uint8_t*>(bytes.data());
  return {first, first + std::min(count, bytes.size())};
}

/// Deflate cannot make more than this of a byte: a header that asks for more lies.
constexpr std::int64_t kMaxExpansion = 1032;

std::int64_t most_values(std::span<const std::byte> bytes) {
  const auto size = static_cast<std::int64_t>(bytes.size());
  return is_gzip(bytes) ? size * kMaxExpansion : size;
}

}  // namespace

bool is_idx(std::span<const std::byte> bytes, const std::string& source) {
  const std::vector<std::uint8_t> magic = content(bytes, 4, source);
  return magic.size() == 4 && magic[0] == 0 && magic[1] == 0 && magic[2] >= kUnsignedByte &&
         magic[2] <= 0x0e && magic[3] >= 1;
}

IdxArray parse_idx(std::span<const std::byte> bytes, const std::string& source) {
  const std::vector<std::uint8_t> header = content(bytes, kMaxHeader, source);
  const bool magic = header.size() >= 4 && header[0] == 0 && header[1] == 0;
  require(magic, ErrorCode::kInvalidInput, source, ": not an IDX file");
  require(header[2] == kUnsignedByte, ErrorCode::kUnsupported, source, ": an IDX file of type ",
          static_cast<int>(header[2]), "; bytes (8) are read");
  const std::size_t rank = header[3];
  require(rank >= 1 && rank <= kMaxRank, ErrorCode::kInvalidInput, source, ": an IDX file of ",
          rank, " dimensions; 1 to ", kMaxRank, " are read");
  const std::size_t header_size = 4 + 4 * rank;
  require(header.size() >= header_size, ErrorCode::kInvalidInput, source,
          ": the IDX file ends inside its header");

  IdxArray array;
  std::int64_t count = 1;
  for (std::size_t i = 4; i < header_size; i += 4) {
    std::int64_t size = 0;
    for (std::size_t byte = i; byte < i + 4; ++byte) size = size * 256 + header[byte];
    require(size > 0, ErrorCode::kInvalidInput, source, ": an IDX file without values");
    require(size <= kMaxValues / count, ErrorCode::kUnsupported, source,
            ": an IDX file of more than 2^31 values");
    count *= size;
    array.sizes.push_back(size);
  }
  require(count <= most_values(bytes), ErrorCode::kInvalidInput, source, ": the IDX file is ",
          "shorter than the ", count, " values that its sizes say");

  // One byte more than there should be shows whether there are too many.
  const std::size_t expected = header_size + static_cast<std::size_t>(count);
  array.values = content(bytes, expected + 1, source);
  require(array.values.size() >= expected, ErrorCode::kInvalidInput, source, ": the IDX file is ",
          "shorter than the ", count, " values that its sizes say");
  require(array.values.size() == expected, ErrorCode::kInvalidInput, source, ": the IDX file is ",
          "longer than the ", count, " values that its sizes say");
  array.values.erase(array.values.begin(),
                     array.values.begin() + static_cast<std::ptrdiff_t>(header_size));
  return array;
}

Image idx_image(const IdxArray& images, std::int64_t index, const std::string& source) {
  const std::size_t rank = images.sizes.size();
  const bool has_channels = rank == 4;
  require(rank == 3 || (has_channels && (images.sizes[3] == 1 || images.sizes[3] == 3)),
          ErrorCode::kInvalidInput, source,
          ": an IDX file of other sizes than images, height, width and perhaps 1 or 3 channels");

  Image image(images.sizes[1], images.sizes[2], has_channels ? images.sizes[3] : 1);
  const auto size = static_cast<std::int64_t>(image.pixels.size());
  const auto first = images.values.begin() + index * size;
  image.pixels.assign(first, first + size);
  return image;
}

}  // namespace quell
