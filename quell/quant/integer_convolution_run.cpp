// How the sums of a convolution on codes are shared out and fed: blocks of output pixels, and
// pointers to what their taps see.
#include <algorithm>
#include <cstring>

#include "quell/base/error.h"
#include "quell/quant/convolution_blocks.h"
#include "quell/quant/integer_convolution.h"

namespace quell {

using kernels::kPanel;
using kernels::round_up;

/// One call: what is read, and where it goes.
struct IntegerConvolution::Job {
  const QuantizedRows& x;
  const kernels::Epilogue& epilogue;
  std::int64_t rows = 0;  ///< of the output
  ExecContext& ctx;
};

void IntegerConvolution::forward(const TensorView& x, TensorSpan y, ExecContext& ctx) const {
  require(x.cols() == channels_ && y.cols() == outputs_ && y.rows() == out_rows(x.rows()),
          ErrorCode::kInvalidInput, "integer convolution: shapes ", x.shape().to_string(), " -> ",
          y.shape().to_string(), " do not fit ", channels_, " -> ", outputs_, " channels");
  LinearOutput output;
  output.f32 = y.f32().data();
  forward_rows(quantize_rows(x, input_, false, ctx), output, ctx);
}

void IntegerConvolution::forward_rows(const QuantizedRows& x, const LinearOutput& output,
                                      ExecContext& ctx) const {
  kernels::Epilogue e;
  e.scale = scale_.data();
  e.bias = bias_.data();
  e.column_offset = offset_.data();
  set_output(output, outputs_, e);
  const Job job{x, e, out_rows(x.rows), ctx};
  if (tiles_) return run_tiles(job);
  switch (kind_) {
    case Kind::kPointwise: return run_pointwise(job);
    case Kind::kBordered: return run_bordered(job);
    case Kind::kDepthwise: return run_depthwise(job);
    case Kind::kDense:
    case Kind::kGrouped: return run_dense(job);
  }
}

namespace {

/// Panels that a kernel takes together, where it has as many.
std::int64_t panel_unit(const kernels::ConvS8Kernel& kernel) {
  constexpr std::int64_t kWideVector = 64;  // four of them are two panels
  return kernel.vector_bytes >= kWideVector ? 2 : 1;
}

/// Of pointers to what taps see, so that they leave most of the nearest cache to the codes.
constexpr std::int64_t kPointers = 2048;

}  // namespace

void IntegerConvolution::run_pointwise(const Job& job) const {
  const kernels::PackedConv& w = groups_.front();
  const ConvolutionBlocks blocks({.rows = job.rows,
                                  .panels = w.panels(),
                                  .row_bytes = job.x.stride,
                                  .panel_bytes = w.panel_bytes(),
                                  .row_unit = kernel_->row_unit,
                                  .panel_unit = panel_unit(*kernel_)},
                                 job.ctx.pool.num_threads());
  blocks.for_each(
      job.ctx, [&](std::int64_t row, std::int64_t rows, std::int64_t panel, std::int64_t end) {
        kernel_->pointwise(job.x.row(row), job.x.stride, rows, w, job.epilogue, row, panel, end);
      });
}

void IntegerConvolution::point_at_taps(const QuantizedRows& x, std::int64_t first,
                                       std::int64_t rows,
                                       std::vector<const std::uint8_t*>& to) const {
  const TapTable& table = geometry_->taps;
  to.resize(static_cast<std::size_t>(table.kernel_height * table.kernel_width * rows));
  // One run of pixels of an output row after the other.
  for (std::int64_t i = 0; i < rows;) {
    const std::int64_t image = (first + i) / table.out.pixels();
    const std::int64_t at = (first + i) % table.out.pixels();
    const std::int64_t y = at / table.out.width;
    const std::int64_t x0 = at % table.out.width;
    const std::int64_t count = std::min(rows - i, table.out.width - x0);
    const std::int64_t* columns = table.columns.data() + x0 * table.kernel_width;
    for (std::int64_t a = 0; a < table.kernel_height; ++a) {
      const std::int64_t image_y =
          table.rows[static_cast<std::size_t>(y * table.kernel_height + a)];
      const std::uint8_t** pointers = to.data() + a * table.kernel_width * rows + i;
      if (image_y < 0) {
        for (std::int64_t b = 0; b < table.kernel_width; ++b)
          std::fill_n(pointers + b * rows, count, padding_.data());
        continue;
      }

      const std::uint8_t* line = x.row(image * table.image.pixels() + image_y * table.image.width);
      for (std::int64_t b = 0; b < table.kernel_width; ++b)
        for (std::int64_t p = 0; p < count; ++p) {
          const std::int64_t column = columns[p * table.kernel_width + b];
          pointers[b * rows + p] = column < 0 ? padding_.data() : line + column * x.stride;
        }
    }
    i += count;
  }
}

namespace {

/// `count` times the same pixel.
void fill_pixels(std::uint8_t* to, std::int64_t count, const std::uint8_t* pixel,
                 std::int64_t bytes) {
  for (std::int64_t i = 0; i < count; ++i)
    std::memcpy(to + i * bytes, pixel, static_cast<std::size_t>(bytes));
}

}  // namespace

Tensor IntegerConvolution::with_border(const Job& job, std::int64_t height,
                                       std::int64_t width) const {
  const ImageSize& image = geometry_->taps.image;
  const ImagePadding& padding = geometry_->window.padding;
  const std::int64_t pixel = round_up(channels_, 4);
  const std::int64_t rows = job.rows / geometry_->taps.out.pixels() * height;
  const std::int64_t left = std::min(padding.left, width);
  const std::int64_t inner = std::min(image.width, width - left);
  Tensor copy = Tensor::uninitialized(DType::kU8, {rows * width * pixel + kernels::kPackedK});
  std::uint8_t* bordered = copy.as<std::uint8_t>().data();

  job.ctx.pool.parallel_for(rows, 16, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t r = begin; r < end; ++r) {
      const std::int64_t image_y = r % height - padding.top;
      std::uint8_t* to = bordered + r * width * pixel;
      if (image_y < 0 || image_y >= image.height) {
        fill_pixels(to, width, padding_.data(), pixel);
        continue;
      }

      const std::uint8_t* from = job.x.row(r / height * image.pixels() + image_y * image.width);
      fill_pixels(to, left, padding_.data(), pixel);
      to += left * pixel;
      if (job.x.stride == pixel)
        std::memcpy(to, from, static_cast<std::size_t>(inner * pixel));
      else
        for (std::int64_t c = 0; c < inner; ++c)
          std::memcpy(to + c * pixel, from + c * job.x.stride, static_cast<std::size_t>(pixel));
      fill_pixels(to + inner * pixel, width - left - inner, padding_.data(), pixel);
    }
  });
  return copy;
}

void IntegerConvolution::run_bordered(const Job& job) const {
  const TapTable& table = geometry_->taps;
  const Window& window = geometry_->window;
  const std::int64_t pixel = round_up(channels_, 4);
  // What lies right of the last window, or below it, is left out.
  const std::int64_t height = (table.out.height - 1) * window.stride_height +
                              (table.kernel_height - 1) * window.dilation_height + 1;
  const std::int64_t width = (table.out.width - 1) * window.stride_width + table.kernel_width;
  const Tensor copy = with_border(job, height, width);
  const std::uint8_t* bordered = copy.as<std::uint8_t>().data();

  const kernels::PackedConv& w = groups_.front();
  const ConvolutionBlocks blocks({.rows = job.rows,
                                  .panels = w.panels(),
                                  .row_bytes = pixel * window.stride_height * window.stride_width,
                                  .panel_bytes = w.panel_bytes(),
                                  .row_unit = kernel_->row_unit,
                                  .panel_unit = panel_unit(*kernel_),
                                  .most_rows = kPointers / table.kernel_height},
                                 job.ctx.pool.num_threads());
  blocks.for_each(
      job.ctx, [&](std::int64_t first, std::int64_t rows, std::int64_t panel, std::int64_t end) {
        thread_local std::vector<const std::uint8_t*> seen;
        seen.resize(static_cast<std::size_t>(table.kernel_height * rows));
        // One run of pixels of an output row after the other.
        for (std::int64_t i = 0; i < rows;) {
          const std::int64_t row = (first + i) / table.out.width;
          const std::int64_t x = (first + i) % table.out.width;
          const std::int64_t count = std::min(rows - i, table.out.width - x);
          const std::int64_t top =
              row / table.out.height * height + row % table.out.height * window.stride_height;
          for (std::int64_t a = 0; a < table.kernel_height; ++a) {
            const std::int64_t line = top + a * window.dilation_height;
            const std::uint8_t* from = bordered + (line * width + x * window.stride_width) * pixel;
            const std::uint8_t** to = seen.data() + a * rows + i;
            for (std::int64_t p = 0; p < count; ++p) to[p] = from + p * window.stride_width * pixel;
          }
          i += count;
        }
        kernel_->dense(seen.data(), rows, w, job.epilogue, first, panel, end);
      });
}

namespace {

/// The same for output columns from `column` on, whose parameters lie at `packed`.
kernels::Epilogue from_column(kernels::Epilogue e, std::int64_t column, std::int64_t packed) {
  e.scale += packed;
  e.bias += packed;
  e.column_offset += packed;
  for (const float** by_column : {&e.code_scale, &e.code_shift, &e.residual.column_scale,
                                  &e.residual.column_shift, &e.residual.f32})
    if (*by_column) *by_column += column;
  if (e.residual.codes) e.residual.codes += column;
  if (e.codes) e.codes += column;
  if (e.f32) e.f32 += column;
  return e;
}

}  // namespace

std::int64_t IntegerConvolution::image_bytes(const Job& job) const {
  return std::max<std::int64_t>(1, job.x.rows * job.x.stride / job.rows);
}

void IntegerConvolution::run_dense(const Job& job) const {
  const TapTable& table = geometry_->taps;
  const std::int64_t taps = table.kernel_height * table.kernel_width;
  const std::int64_t group_in = channels_ / geometry_->groups;
  const std::int64_t group_out = outputs_ / geometry_->groups;
  const std::int64_t panels = groups_.front().panels();
  const ConvolutionBlocks blocks({.rows = job.rows,
                                  .panels = panels,
                                  .row_bytes = image_bytes(job),
                                  .panel_bytes = groups_.front().panel_bytes(),
                                  .row_unit = kernel_->row_unit,
                                  .panel_unit = panel_unit(*kernel_),
                                  .most_rows = kPointers / taps},
                                 job.ctx.pool.num_threads());
  blocks.for_each(job.ctx, [&](std::int64_t first, std::int64_t rows, std::int64_t panel,
                               std::int64_t end) {
    thread_local std::vector<const std::uint8_t*> seen;
    point_at_taps(job.x, first, rows, seen);
    for (std::int64_t g = 0; g < geometry_->groups; ++g) {
      if (g > 0)
        for (const std::uint8_t*& codes : seen) codes += group_in;
      const kernels::Epilogue e = from_column(job.epilogue, g * group_out, g * panels * kPanel);
      kernel_->dense(seen.data(), rows, groups_[static_cast<std::size_t>(g)], e, first, panel, end);
    }
  });
}

namespace {

/// The same for rows from `row` on, which are then called 0, 1, ...
kernels::Epilogue from_row(kernels::Epilogue e, std::int64_t row) {
  if (e.f32) e.f32 += row * e.ld_out;
  if (e.codes) e.codes += row * e.ld_out;
  if (e.residual.f32) e.residual.f32 += row * e.residual.ld;
  if (e.residual.codes) e.residual.codes += row * e.residual.ld;
  return e;
}

}  // namespace

void IntegerConvolution::run_tiles(const Job& job) const {
  const std::int64_t taps = geometry_->window.taps();
  const std::int64_t depth = tiles_->k;
  const std::int64_t stride = kernels::code_stride(depth);
  const std::int64_t panels = tiles_->padded_n() / kPanel;
  const kernels::GemmS8Kernel& gemm = kernels::choose_gemm_s8(
      Isa::kAmx, input_.spec.max_code() + code_shift(input_.spec), tiles_->max_abs);
  const ConvolutionBlocks blocks({.rows = job.rows,
                                  .panels = panels,
                                  .row_bytes = stride,
                                  .panel_bytes = tiles_->panel_bytes(),
                                  .row_unit = gemm.row_unit},
                                 job.ctx.pool.num_threads());
  blocks.for_each(job.ctx,
                  [&](std::int64_t first, std::int64_t rows, std::int64_t panel, std::int64_t end) {
                    const kernels::Epilogue e = from_row(job.epilogue, first);
                    if (kind_ == Kind::kPointwise) {
                      // Behind the channels lies the next pixel, whose weights are 0 here.
                      gemm.run(job.x.row(first), job.x.stride, *tiles_, e, 0, rows, panel, end);
                      return;
                    }

                    thread_local std::vector<const std::uint8_t*> seen;
                    thread_local std::vector<std::uint8_t> gathered;
                    point_at_taps(job.x, first, rows, seen);
                    gathered.resize(static_cast<std::size_t>(rows * stride));
                    for (std::int64_t i = 0; i < rows; ++i)
                      for (std::int64_t t = 0; t < taps; ++t)
                        std::memcpy(gathered.data() + i * stride + t * channels_,
                                    seen[static_cast<std::size_t>(t * rows + i)],
                                    static_cast<std::size_t>(channels_));
                    gemm.run(gathered.data(), stride, *tiles_, e, 0, rows, panel, end);
                  });
}

void IntegerConvolution::run_depthwise(const Job& job) const {
  const TapTable& table = geometry_->taps;
  const Window& window = geometry_->window;
  const std::int64_t height = table.kernel_height;
  const std::int64_t columns = (table.out.width - 1) * window.stride_width +
                               (table.kernel_width - 1) * window.dilation_width + 1;
  const std::int64_t pointers = columns * height;  // of one row of outputs
  const std::int64_t all_rows = job.rows / table.out.width;

  // Tasks are blocks of rows, and of channels where there are few rows. Rows of a task share its
  // table of pointers, which leaves most of the nearest cache to the codes.
  constexpr std::int64_t kTasks = 16;
  const std::int64_t units = (channels_ + kernels::kDepthwiseUnit - 1) / kernels::kDepthwiseUnit;
  const std::int64_t parts = all_rows < kTasks ? std::min(units, kTasks) : 1;
  const std::int64_t part = (units + parts - 1) / parts * kernels::kDepthwiseUnit;
  const std::int64_t least_blocks = (kTasks + parts - 1) / parts;
  const std::int64_t wanted = (all_rows + least_blocks - 1) / least_blocks;
  const std::int64_t rows =
      std::clamp<std::int64_t>(wanted, 1, std::max<std::int64_t>(1, kPointers / pointers));
  const std::int64_t blocks = (all_rows + rows - 1) / rows;

  job.ctx.pool.parallel_for(blocks * parts, 1, [&](std::int64_t begin, std::int64_t end) {
    thread_local std::vector<const std::uint8_t*> seen;
    for (std::int64_t task = begin; task < end; ++task) {
      const std::int64_t first = task / parts * rows;
      const std::int64_t count = std::min(rows, all_rows - first);
      const std::int64_t channel = task % parts * part;
      if (channel >= channels_) continue;

      seen.resize(static_cast<std::size_t>(count * pointers));
      for (std::int64_t r = 0; r < count; ++r)
        point_at_columns(job.x, first + r, columns, seen.data() + r * pointers);
      const kernels::DepthwiseRows of{.columns = seen.data(),
                                      .stride = window.stride_width,
                                      .dilation = window.dilation_width,
                                      .pixels = table.out.width,
                                      .rows = count,
                                      .pointers_a_row = pointers};
      kernel_->depthwise(of, depthwise_, job.epilogue, first * table.out.width, channel,
                         std::min(channels_, channel + part));
    }
  });
}

void IntegerConvolution::point_at_columns(const QuantizedRows& x, std::int64_t row,
                                          std::int64_t columns, const std::uint8_t** to) const {
  const TapTable& table = geometry_->taps;
  const std::int64_t height = table.kernel_height;
  const std::int64_t image = row / table.out.height;
  const std::int64_t y = row % table.out.height;
  const std::int64_t left = std::min(geometry_->window.padding.left, columns);
  const std::int64_t end = std::min(columns, left + table.image.width);
  const std::uint8_t* codes = x.row(image * table.image.pixels());
  const std::int64_t line = table.image.width * x.stride;

  for (std::int64_t t = 0; t < height; ++t) {
    const std::int64_t image_y = table.rows[static_cast<std::size_t>(y * height + t)];
    const std::uint8_t* pixel = image_y < 0 ? padding_.data() : codes + image_y * line;
    const std::int64_t step = image_y < 0 ? 0 : x.stride;
    const std::uint8_t** at = to + t;
    for (std::int64_t c = 0; c < left; ++c) at[c * height] = padding_.data();
    for (std::int64_t c = left; c < end; ++c, pixel += step) at[c * height] = pixel;
    for (std::int64_t c = end; c < columns; ++c) at[c * height] = padding_.data();
  }
}

}  // namespace quell
