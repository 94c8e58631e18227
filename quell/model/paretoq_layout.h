// Linears of models trained by ParetoQ (Liu et al. 2025): float weights [out, in] in
// "<module>.weight", from which codes are made with the learned "<module>.weight_clip_val" [out, 1]
// when they are read. Inputs are floats there; integers need codes of 8 bits, with a step and zero
// point a token.
#pragma once

#include "quell/model/quantized_layout.h"

namespace quell {

/// Whether the checkpoint holds any clips.
bool has_paretoq_clips(const Checkpoint& checkpoint);

/// `bits`: of read_paretoq_bits. Keeps a reference to `checkpoint`.
std::unique_ptr<QuantizedLayout> make_paretoq_layout(const Checkpoint& checkpoint, int bits);

/// Codes and a step a row of weight [rows, columns] with clips [rows], at least 1e-5, in f32. With
/// c = clip:
///   bits 0: round(1.5 clamp(w / c)) times c / 1.5, clamp to -0.99 .. 0.99 (ternary)
///   bits 1: the sign of w times c
///   bits 2: round(2 clamp(w / c) - 0.5) + 0.5 times c / 2, which are the odd codes -3 .. 3 of 3
///           bits times c / 4
///   bits 3, 4: round(w / c), clamped to all codes of so many bits, times c (LSQ)
QTensor quantize_by_clip(const TensorView& weight, std::span<const float> clips, int bits);

}  // namespace quell
