#include "quell/vision/gzip.h"

#include <zlib.h>

#include <algorithm>
#include <limits>

#include "quell/base/error.h"

namespace quell {
namespace {

/// Owns an inflating stream.
class Inflater {
 public:
  explicit Inflater(const std::string& source) : source_(source) {
    constexpr int kGzipOnly = 16;
    require(inflateInit2(&stream_, kGzipOnly + MAX_WBITS) == Z_OK, ErrorCode::kInvalidInput, source,
            ": zlib cannot start");
  }
  ~Inflater() { inflateEnd(&stream_); }
  Inflater(const Inflater&) = delete;
  Inflater& operator=(const Inflater&) = delete;

  /// Fills `out` as far as there is something; says how much. zlib counts in 32 bits.
  std::size_t fill(std::span<const std::byte> bytes, std::span<std::uint8_t> out) {
    constexpr std::size_t kPiece = std::numeric_limits<uInt>::max() / 2;
    std::size_t written = 0;

    while (true) {
      if (stream_.avail_in == 0) {
        const std::size_t piece = std::min(kPiece, bytes.size());
        stream_.next_in = reinterpret_cast<Bytef*>(const_cast<std::byte*>(bytes.data()));
        stream_.avail_in = static_cast<uInt>(piece);
        bytes = bytes.subspan(piece);
      }
      const std::size_t room = std::min(kPiece, out.size() - written);
      stream_.next_out = out.data() + written;
      stream_.avail_out = static_cast<uInt>(room);

      const int status = inflate(&stream_, Z_NO_FLUSH);
      written += room - stream_.avail_out;
      if (status == Z_STREAM_END) return written;

      const bool cut_off = status == Z_BUF_ERROR && stream_.avail_in == 0 && bytes.empty();
      if (written == out.size()) return written;
      require(!cut_off, ErrorCode::kInvalidInput, source_, ": the gzip file is cut off");
      require(status == Z_OK || status == Z_BUF_ERROR, ErrorCode::kInvalidInput, source_,
              ": damaged gzip file: ", stream_.msg ? stream_.msg : "not gzip");
    }
  }

 private:
  const std::string& source_;
  z_stream stream_{};
};

}  // namespace

bool is_gzip(std::span<const std::byte> bytes) {
  return bytes.size() >= 2 && bytes[0] == std::byte{0x1f} && bytes[1] == std::byte{0x8b};
}

std::vector<std::uint8_t> gunzip(std::span<const std::byte> bytes, std::size_t count,
                                 const std::string& source) {
  std::vector<std::uint8_t> out(count);
  Inflater inflater(source);
  out.resize(inflater.fill(bytes, out));
  return out;
}

}  // namespace quell
