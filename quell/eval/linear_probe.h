// Linear probes on a frozen encoder: label = argmax(weight x + bias) of features x made of its
// hidden states.
#pragma once

#include <filesystem>
#include <vector>

#include "quell/engine/engines.h"

namespace quell {

/// One part of the features: a pooled hidden state.
struct ProbePart {
  bool cls = false;          ///< the first token; else the mean over the mask
  std::int64_t hidden = -1;  ///< 0: embeddings, i: after layer i, -1: the last
  bool sentence = false;     ///< the model's own sentence embedding instead
};

struct LinearProbe {
  Tensor weight, bias;  ///< [classes, D], [classes]
  std::vector<ProbePart> parts;
  bool pair = false;  ///< [u, v, |u - v|, u * v] of two sentences
};

/// A .safetensors file with `weight` and `bias`. Metadata "features" says what x is:
/// "mean2+cls2+mean3+cls3", or "embedding" for the sentence embedding that the model's modules
/// make; without it x is the mean of the last hidden state, or [u, v, |u - v|, u * v] where D is
/// four times the hidden size. Throws Error(kInvalidInput).
LinearProbe read_linear_probe(const std::filesystem::path& file, const Model& model);

/// Predicted classes: one for each sequence, or for each two in a row of pairs.
std::vector<int> predict(const LinearProbe& probe, const ForwardModel& model,
                         const std::vector<TokenSequence>& sequences, ExecContext& ctx);

}  // namespace quell
