// The kernels of this folder, for table.cpp and the test.
#pragma once

#include "quell/kernels/conv_s8/conv_s8.h"

namespace quell::kernels {

#define QUELL_CONV_S8_DENSE(name)                                                      \
  void name(const std::uint8_t* const* rows, std::int64_t pixels, const PackedConv& w, \
            const Epilogue& e, std::int64_t row0, std::int64_t panel_begin,            \
            std::int64_t panel_end)
#define QUELL_CONV_S8_POINTWISE(name)                                                          \
  void name(const std::uint8_t* x, std::int64_t ldx, std::int64_t pixels, const PackedConv& w, \
            const Epilogue& e, std::int64_t row0, std::int64_t panel_begin,                    \
            std::int64_t panel_end)
#define QUELL_CONV_S8_DEPTHWISE(name)                                               \
  void name(const DepthwiseRows& rows, const PackedDepthwise& w, const Epilogue& e, \
            std::int64_t row0, std::int64_t channel_begin, std::int64_t channel_end)
#define QUELL_CONV_S8_KERNEL(name)           \
  QUELL_CONV_S8_DENSE(dense_##name);         \
  QUELL_CONV_S8_POINTWISE(pointwise_##name); \
  QUELL_CONV_S8_DEPTHWISE(depthwise_##name)

QUELL_CONV_S8_KERNEL(reference);
QUELL_CONV_S8_KERNEL(avx2_widen);
QUELL_CONV_S8_KERNEL(avx2_maddubs);
QUELL_CONV_S8_KERNEL(avx_vnni);
QUELL_CONV_S8_KERNEL(avx512_vnni);

/// Defines the three kernels of an ISA file from its vectors.
#define QUELL_DEFINE_CONV_S8(name, Vectors)                                      \
  QUELL_CONV_S8_DENSE(dense_##name) {                                            \
    dense_conv<Vectors>(rows, pixels, w, e, row0, panel_begin, panel_end);       \
  }                                                                              \
  QUELL_CONV_S8_POINTWISE(pointwise_##name) {                                    \
    pointwise_conv<Vectors>(x, ldx, pixels, w, e, row0, panel_begin, panel_end); \
  }                                                                              \
  QUELL_CONV_S8_DEPTHWISE(depthwise_##name) {                                    \
    depthwise_conv<Vectors>(rows, w, e, row0, channel_begin, channel_end);       \
  }

}  // namespace quell::kernels
