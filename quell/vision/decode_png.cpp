// libpng reports errors by not returning, like libjpeg: see decode_jpeg.cpp for how steps are run.
#include <csetjmp>
#include <cstdio>
#include <cstring>

#include <png.h>

#include "quell/base/error.h"
#include "quell/vision/decode_image.h"

namespace quell {
namespace {

/// What a side has at most; libpng itself goes on to two billion.
constexpr png_uint_32 kMaxSide = 1 << 20;
/// What a chunk beside the pixels (a profile, a text) takes at most, unpacked.
constexpr png_alloc_size_t kMaxChunk = 16 << 20;

struct PngDecoder {
  png_structp png;
  png_infop info;
  std::jmp_buf jump;
  char message[128];
  const png_byte* data;
  std::size_t left;
  png_bytepp rows;
};

[[noreturn]] void leave(png_structp png, png_const_charp message) {
  PngDecoder& decoder = *static_cast<PngDecoder*>(png_get_error_ptr(png));
  std::snprintf(decoder.message, sizeof decoder.message, "%s", message);
  std::longjmp(decoder.jump, 1);
}

void ignore_warning(png_structp, png_const_charp) {}

void read_bytes(png_structp png, png_bytep out, std::size_t count) {
  PngDecoder& decoder = *static_cast<PngDecoder*>(png_get_io_ptr(png));
  if (count > decoder.left) png_error(png, "the file ends too early");

  std::memcpy(out, decoder.data, count);
  decoder.data += count;
  decoder.left -= count;
}

/// Runs one step; false where it was left, with the reason in `message`.
bool run(PngDecoder& decoder, void (*step)(PngDecoder&)) {
  if (setjmp(decoder.jump) != 0) return false;
  step(decoder);
  return true;
}

void read_header(PngDecoder& decoder) {
  decoder.png = png_create_read_struct(PNG_LIBPNG_VER_STRING, &decoder, leave, ignore_warning);
  if (!decoder.png) {
    std::snprintf(decoder.message, sizeof decoder.message, "libpng cannot start");
    std::longjmp(decoder.jump, 1);
  }
  decoder.info = png_create_info_struct(decoder.png);
  if (!decoder.info) png_error(decoder.png, "no memory");

  png_set_read_fn(decoder.png, &decoder, read_bytes);
  png_set_user_limits(decoder.png, kMaxSide, kMaxSide);
  png_set_chunk_malloc_max(decoder.png, kMaxChunk);
  png_read_info(decoder.png, decoder.info);
}

/// Palettes become colours, grey of few bits becomes bytes, and any transparency a channel.
void start(PngDecoder& decoder) {
  const png_byte type = png_get_color_type(decoder.png, decoder.info);
  if (type == PNG_COLOR_TYPE_PALETTE) png_set_palette_to_rgb(decoder.png);
  if (type == PNG_COLOR_TYPE_GRAY) png_set_expand_gray_1_2_4_to_8(decoder.png);
  if (png_get_valid(decoder.png, decoder.info, PNG_INFO_tRNS) != 0)
    png_set_tRNS_to_alpha(decoder.png);

  png_set_interlace_handling(decoder.png);
  png_read_update_info(decoder.png, decoder.info);
}

void read_rows(PngDecoder& decoder) {
  png_read_image(decoder.png, decoder.rows);
  png_read_end(decoder.png, nullptr);
}

/// Owns what the library allocates.
class PngHandle {
 public:
  explicit PngHandle(std::span<const std::byte> bytes) {
    std::memset(&decoder_, 0, sizeof decoder_);
    decoder_.data = reinterpret_cast<const png_byte*>(bytes.data());
    decoder_.left = bytes.size();
  }
  ~PngHandle() { png_destroy_read_struct(&decoder_.png, &decoder_.info, nullptr); }
  PngHandle(const PngHandle&) = delete;
  PngHandle& operator=(const PngHandle&) = delete;

  void step(void (*step)(PngDecoder&), const std::string& source) {
    require(run(decoder_, step), ErrorCode::kInvalidInput, source,
            ": damaged PNG image: ", static_cast<const char*>(decoder_.message));
  }
  PngDecoder& decoder() { return decoder_; }

 private:
  PngDecoder decoder_;
};

/// The image without its last channel, which must be opaque: what stands behind transparent pixels
/// is for every program another colour.
Image without_alpha(const Image& image, const std::string& source) {
  Image opaque(image.height, image.width, image.channels - 1);
  const std::uint8_t* from = image.pixels.data();
  std::uint8_t* to = opaque.pixels.data();

  for (std::int64_t i = 0; i < image.height * image.width; ++i) {
    to = std::copy(from, from + opaque.channels, to);
    from += opaque.channels;
    require(*from == 255, ErrorCode::kUnsupported, source,
            ": a PNG image with transparent pixels; blend them with a background first");
    ++from;
  }
  return opaque;
}

}  // namespace

Image decode_png(std::span<const std::byte> bytes, const std::string& source,
                 const ImageLimits& limits) {
  PngHandle handle(bytes);
  handle.step(read_header, source);

  PngDecoder& decoder = handle.decoder();
  const auto height = static_cast<std::int64_t>(png_get_image_height(decoder.png, decoder.info));
  const auto width = static_cast<std::int64_t>(png_get_image_width(decoder.png, decoder.info));
  require(height * width <= limits.max_pixels, ErrorCode::kInvalidInput, source, ": ", width, " x ",
          height, " pixels, more than the ", limits.max_pixels, " that are read");
  const int depth = png_get_bit_depth(decoder.png, decoder.info);
  require(depth <= 8, ErrorCode::kUnsupported, source, ": a PNG image of ", depth,
          " bits a channel; convert it to 8");

  handle.step(start, source);
  Image image(height, width, png_get_channels(decoder.png, decoder.info));
  std::vector<png_bytep> rows;
  for (std::int64_t y = 0; y < height; ++y) rows.push_back(image.row(y));
  decoder.rows = rows.data();
  handle.step(read_rows, source);

  const bool has_alpha = image.channels % 2 == 0;
  return has_alpha ? without_alpha(image, source) : image;
}

}  // namespace quell
