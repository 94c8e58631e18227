// libjpeg-turbo reports errors by not returning: it calls `error_exit`, which here jumps back. Each
// group of library calls is a step, a plain function whose locals need no destructor, run between
// setjmp and its return; everything that owns memory lives outside of steps.
#include <csetjmp>
#include <cstdio>
#include <cstring>

#include <jpeglib.h>

#include <jerror.h>

#include "quell/base/error.h"
#include "quell/vision/decode_image.h"

namespace quell {
namespace {

/// A file whose scans go on without end takes hours and little space; real ones have about ten.
constexpr int kMaxScans = 200;

struct JpegDecoder {
  jpeg_decompress_struct jpeg;
  jpeg_error_mgr errors;
  jpeg_progress_mgr progress;
  std::jmp_buf jump;
  char message[JMSG_LENGTH_MAX];
  const unsigned char* data;
  unsigned long size;
  unsigned char* row;  ///< where the next row goes
  std::size_t row_size;
};

JpegDecoder& decoder_of(j_common_ptr common) {
  return *static_cast<JpegDecoder*>(common->client_data);
}

[[noreturn]] void leave(j_common_ptr common) {
  JpegDecoder& decoder = decoder_of(common);
  common->err->format_message(common, decoder.message);
  std::longjmp(decoder.jump, 1);
}

/// Whether a warning is of no consequence for the pixels: the library found everything it needs.
bool harmless(int warning) {
  return warning == JWRN_EXTRANEOUS_DATA || warning == JWRN_ADOBE_XFORM ||
         warning == JWRN_JFIF_MAJOR || warning == JWRN_BOGUS_ICC;
}

/// Where data are damaged or end too early the library warns and invents the rest.
void on_message(j_common_ptr common, int level) {
  const bool is_warning = level < 0;
  if (is_warning && !harmless(common->err->msg_code)) leave(common);
}

void on_progress(j_common_ptr common) {
  JpegDecoder& decoder = decoder_of(common);
  if (decoder.jpeg.input_scan_number <= kMaxScans) return;

  std::snprintf(decoder.message, sizeof decoder.message, "more than %d scans", kMaxScans);
  std::longjmp(decoder.jump, 1);
}

/// Runs one step; false where it was left, with the reason in `message`.
bool run(JpegDecoder& decoder, void (*step)(JpegDecoder&)) {
  if (setjmp(decoder.jump) != 0) return false;
  step(decoder);
  return true;
}

void read_header(JpegDecoder& decoder) {
  jpeg_create_decompress(&decoder.jpeg);
  decoder.jpeg.client_data = &decoder;
  decoder.jpeg.progress = &decoder.progress;
  jpeg_mem_src(&decoder.jpeg, decoder.data, decoder.size);
  jpeg_read_header(&decoder.jpeg, TRUE);
}

void start(JpegDecoder& decoder) {
  const bool grey = decoder.jpeg.jpeg_color_space == JCS_GRAYSCALE;
  decoder.jpeg.out_color_space = grey ? JCS_GRAYSCALE : JCS_RGB;
  jpeg_start_decompress(&decoder.jpeg);
}

void read_rows(JpegDecoder& decoder) {
  while (decoder.jpeg.output_scanline < decoder.jpeg.output_height) {
    JSAMPROW rows[] = {decoder.row};
    jpeg_read_scanlines(&decoder.jpeg, rows, 1);
    decoder.row += decoder.row_size;
  }
  jpeg_finish_decompress(&decoder.jpeg);
}

/// Owns what the library allocates.
class JpegHandle {
 public:
  explicit JpegHandle(std::span<const std::byte> bytes) {
    std::memset(&decoder_, 0, sizeof decoder_);
    decoder_.data = reinterpret_cast<const unsigned char*>(bytes.data());
    decoder_.size = bytes.size();

    decoder_.jpeg.err = jpeg_std_error(&decoder_.errors);
    decoder_.jpeg.client_data = &decoder_;
    decoder_.errors.error_exit = leave;
    decoder_.errors.emit_message = on_message;
    decoder_.progress.progress_monitor = on_progress;
  }
  ~JpegHandle() { jpeg_destroy_decompress(&decoder_.jpeg); }
  JpegHandle(const JpegHandle&) = delete;
  JpegHandle& operator=(const JpegHandle&) = delete;

  void step(void (*step)(JpegDecoder&), const std::string& source) {
    require(run(decoder_, step), ErrorCode::kInvalidInput, source,
            ": damaged JPEG image: ", static_cast<const char*>(decoder_.message));
  }
  JpegDecoder& decoder() { return decoder_; }

 private:
  JpegDecoder decoder_;
};

}  // namespace

Image decode_jpeg(std::span<const std::byte> bytes, const std::string& source,
                  const ImageLimits& limits) {
  JpegHandle handle(bytes);
  handle.step(read_header, source);

  const jpeg_decompress_struct& jpeg = handle.decoder().jpeg;
  const auto height = static_cast<std::int64_t>(jpeg.image_height);
  const auto width = static_cast<std::int64_t>(jpeg.image_width);
  require(height * width <= limits.max_pixels, ErrorCode::kInvalidInput, source, ": ", width, " x ",
          height, " pixels, more than the ", limits.max_pixels, " that are read");
  const bool readable = jpeg.jpeg_color_space == JCS_GRAYSCALE ||
                        jpeg.jpeg_color_space == JCS_YCbCr || jpeg.jpeg_color_space == JCS_RGB;
  require(readable, ErrorCode::kUnsupported, source, ": a JPEG image of ", jpeg.num_components,
          " components that are neither grey nor RGB (CMYK?); convert it to RGB");

  handle.step(start, source);
  Image image(height, width, jpeg.output_components);
  handle.decoder().row = image.pixels.data();
  handle.decoder().row_size = static_cast<std::size_t>(width * image.channels);
  handle.step(read_rows, source);
  return image;
}

}  // namespace quell
