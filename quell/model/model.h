// A loaded model: its description, its weights in slots, and what quantization has added to it.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "quell/base/scratch_file.h"
#include "quell/io/checkpoint.h"
#include "quell/io/json.h"
#include "quell/model/family.h"
#include "quell/model/graph.h"
#include "quell/model/sentence_files.h"
#include "quell/quant/quant_spec.h"

namespace quell {

/// A norm, linear or embedding table. All tensors f32.
struct Param {
  Slot slot = Slot::kNone;
  int stack = 0;                       ///< of an encoder-decoder model
  int weights = -1;                    ///< layer weights index, -1 for the whole model
  std::string module;                  ///< Hugging Face module name
  Tensor weight, bias;                 ///< undefined where the module has none
  int tied_to = -1;                    ///< parameter whose weight this one uses
  std::string weight_name, bias_name;  ///< tensor names
  Packing packing;                     ///< how the checkpoint stores the weight
  Shape stored_shape;  ///< of the weight in the checkpoint, where it has another rank; else empty
  /// Set by quantization of a linear: codes and steps. `weight` then still holds the float
  /// (migrated) matrix, or, for a checkpoint read back, the dequantized codes.
  std::optional<QTensor> quantized;
  /// Of a quantized embedding table: what quantized engines look up.
  Tensor dequantized;
  /// Tensors added by quantization that the Hugging Face module does not have (bias of an RMSNorm,
  /// of a linear without one).
  bool added_weight = false, added_bias = false;
  std::int64_t added_rows = 0,
               added_columns =
                   0;  ///< of channels that quantization split: more than the configuration says
};

/// x * scale + shift gives a migrated value its original meaning again: residual branches and
/// outputs read it so.
struct ChannelAffine {
  Tensor scale, shift;  ///< [C]; shift may be undefined
};

struct Model {
  ModelSpec spec;
  Graph graph;
  Json config;         ///< of config.json, with what passes changed: what is written
  ModelDirectory dir;  ///< where it was read from (tokenizer and other files)
  std::vector<Param> params;
  std::vector<int> node_param;  ///< node -> parameter, -1 for steps without weights
  std::vector<std::string> unused_tensors, missing_tensors;

  SentencePipeline
      sentence;  ///< what follows the last hidden states; not defined(): no sentence embeddings
  TextSettings text;                ///< how texts become tokens
  std::int64_t max_seq_length = 0;  ///< of a sentence model: tokens of a text, as
                                    ///< sentence-transformers takes it; 0: of no such model

  /// Where matrices lie while nobody reads them; null: all are in memory.
  std::shared_ptr<ScratchFile> scratch;
  bool values_in_scratch =
      false;  ///< with `scratch`: what calibration carries from step to step lies there too

  // What quantization added.
  std::map<ValueId, ActivationQuant> input_quant;  ///< at the input of quantized linears
  std::map<int, AttentionQuant> attention_quant;   ///< by node
  std::map<ValueId, ChannelAffine>
      restore;  ///< migrated values that something other than a linear reads
  std::map<ValueId, ChannelAffine>
      explicit_affine;  ///< values divided where no producer could absorb it: (x - shift) / scale
  Rounding rounding = Rounding::kReciprocal;  ///< of the simulated engine; calibration divides
  bool bias_corrected =
      false;  ///< biases make up for quantization: the float function is not the original's
  bool residual_after_quant = false;  ///< residual branches read the fake-quantized value

  const Param& param_of(int node) const {
    return params[static_cast<std::size_t>(node_param[static_cast<std::size_t>(node)])];
  }
  Param& param_of(int node) {
    return params[static_cast<std::size_t>(node_param[static_cast<std::size_t>(node)])];
  }
  const Tensor& weight_of(const Param& p) const {
    return p.tied_to >= 0 ? params[static_cast<std::size_t>(p.tied_to)].weight : p.weight;
  }
  bool is_quantized() const;
  /// Moves matrices and codes that are in memory to `scratch`, where there is one. Views of them
  /// end.
  void spill();
  /// Takes what `node` reads out of memory until it is read again, where it lies in scratch.
  void drop_pages(int node) const;
  /// "layers.3.fc1", "embedding_norm", ...: for messages.
  std::string node_name(int node) const;
  const AttentionSpec& attention_of(int node) const;
};

/// Reads a checkpoint: float ones, and those that Quell or another tool wrote in the
/// compressed-tensors `int-quantized` layout. Throws Error with file, tensor or key on anything
/// missing, misshapen or not finite. `allow_missing`: tensors that are missing are listed in
/// `missing_tensors` and hold zeros, for a look at a damaged checkpoint. `scratch`: becomes the
/// model's; then one matrix at a time is in memory.
Model load_model(const Checkpoint& checkpoint, bool allow_missing = false,
                 std::shared_ptr<ScratchFile> scratch = nullptr);

}  // namespace quell
