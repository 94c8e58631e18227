// How the product of a convolution is shared out: blocks of rows and of panels of weights.
#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>

#include "quell/base/exec_context.h"
#include "quell/kernels/conv_s8/conv_s8.h"

namespace quell {

/// What is multiplied: rows of outputs by panels of weights.
struct ConvolutionProduct {
  std::int64_t rows = 0;
  std::int64_t panels = 0;
  std::int64_t row_bytes = 0;    ///< of the image, for a row of outputs
  std::int64_t panel_bytes = 0;  ///< of the weights
  std::int64_t row_unit = 1;     ///< rows that a kernel takes together
  std::int64_t panel_unit = 1;
  std::int64_t most_rows = std::numeric_limits<std::int64_t>::max();  ///< of a task
};

/// Rows and panels of one task: enough tasks for all threads, rows that stay in the cache while the
/// panels pass by.
struct ConvolutionBlocks {
  ConvolutionProduct of;
  std::int64_t rows = 0;
  std::int64_t panels = 0;
  std::int64_t row_blocks = 0;
  std::int64_t panel_blocks = 0;

  ConvolutionBlocks(const ConvolutionProduct& product, int threads) : of(product) {
    constexpr std::int64_t kTasks = 16;
    constexpr std::int64_t kCached = std::int64_t{128} << 10;
    std::int64_t strips = (of.panels + of.panel_unit - 1) / of.panel_unit;
    const std::int64_t row_parts = (kTasks + strips - 1) / strips;
    const std::int64_t shared =
        kernels::round_up((of.rows + row_parts - 1) / row_parts, of.row_unit);
    const std::int64_t most = std::min(kCached / of.row_bytes, of.most_rows);
    rows = std::min(shared, std::max(of.row_unit, most / of.row_unit * of.row_unit));

    // Few rows behind the last block are part of it: weights would pass by for nothing.
    const std::int64_t left = of.rows % rows;
    row_blocks = std::max<std::int64_t>(1, of.rows / rows + (left > of.row_unit / 2 ? 1 : 0));
    if (row_blocks * strips < threads) {
      of.panel_unit = 1;
      strips = of.panels;
    }
    const std::int64_t wanted = std::min(strips, (kTasks + row_blocks - 1) / row_blocks);
    panels = (strips + wanted - 1) / wanted * of.panel_unit;
    panel_blocks = (of.panels + panels - 1) / panels;
  }

  /// Calls body(first row, rows, first panel, end) for each. A thread that has neighbouring tasks
  /// reads the larger operand in part and the smaller as a whole.
  template <typename Body>
  void for_each(ExecContext& ctx, const Body& body) const {
    const bool by_panels = of.panels * of.panel_bytes > of.rows * of.row_bytes;
    const auto run = [&](std::int64_t row_block, std::int64_t panel_block) {
      const std::int64_t row = row_block * rows;
      const std::int64_t count = row_block + 1 < row_blocks ? rows : of.rows - row;
      const std::int64_t panel = panel_block * panels;
      body(row, count, panel, std::min(of.panels, panel + panels));
    };
    ctx.pool.parallel_for(row_blocks * panel_blocks, 1, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t task = begin; task < end; ++task)
        if (by_panels)
          run(task % row_blocks, task / row_blocks);
        else
          run(task / panel_blocks, task % panel_blocks);
    });
  }
};

}  // namespace quell
