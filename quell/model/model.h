// A loaded model: its graph, its weights, and what quantization has added to them.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "quell/base/scratch_file.h"
#include "quell/graph/graph.h"
#include "quell/graph/ops.h"
#include "quell/io/checkpoint.h"
#include "quell/io/json_fwd.h"
#include "quell/model/model_spec.h"
#include "quell/model/sentence_files.h"
#include "quell/quant/packed_table.h"
#include "quell/quant/quant_spec.h"

namespace quell {

/// A norm, linear or embedding table: what the graph's ParamDef of the same id names, with its
/// tensors. All f32.
struct Param {
  std::string module;  ///< Hugging Face module name
  std::string label;   ///< "q_proj"
  Role role = Role::kNone;
  Tensor weight;  ///< undefined where the module has none, and where it is tied
  Tensor bias;
  std::vector<Tensor> vectors;            ///< further ones, as ParamDef::vectors names them
  std::vector<std::string> vector_names;  ///< of tensors
  ParamId tied_to = kNoParam;             ///< parameter whose weight this one uses
  std::string weight_name;                ///< tensor names
  std::string bias_name;
  Packing packing;     ///< how the checkpoint stores the weight
  Shape stored_shape;  ///< of the weight there, where it has another rank; else empty
  /// What the quantizer in front of linears makes of their matrix, kept since it is constant: see
  /// Model::set_codes. `weight` then still holds the float (migrated) matrix, or, for a checkpoint
  /// read back, the dequantized codes.
  std::optional<QTensor> quantized;
  /// The same of a table: what quantized engines look up. Not defined() where they read floats.
  PackedTable packed_table;
  /// The codes of a table whose `weight` is what they give.
  std::optional<QTensor> table_codes;
  /// Tensors added by quantization that the Hugging Face module does not have (bias of an RMSNorm,
  /// of a linear without one).
  bool added_weight = false;
  bool added_bias = false;
  /// Of channels that quantization split: more than the configuration says.
  std::int64_t added_rows = 0;
  std::int64_t added_columns = 0;
};

/// The quantizers of activations: a model's own, or others that a search tries in a run.
struct ActivationQuantizers {
  std::map<ValueId, ActivationQuant> inputs;
  std::map<NodeId, AttentionQuant> attention;
};

struct Model;
ActivationQuantizers quantizers_of(const Model& model);

struct Model {
  ModelSpec spec;
  Graph graph;
  JsonBox config;      ///< of config.json, with what passes changed: what is written
  ModelDirectory dir;  ///< where it was read from (tokenizer and other files)
  std::vector<Param> params;
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
  std::vector<std::string> folded_batch_norms;  ///< modules that convolutions hold now
  bool bias_corrected =
      false;  ///< biases make up for quantization: the float function is not the original's
  bool residual_after_quant = false;  ///< residual branches read the fake-quantized value

  const Param& param_of(NodeId n) const { return param(graph.node(n).param); }
  Param& param_of(NodeId n) { return param(graph.node(n).param); }
  const Param& param(ParamId p) const { return params[static_cast<std::size_t>(p)]; }
  Param& param(ParamId p) { return params[static_cast<std::size_t>(p)]; }
  const Tensor& weight_of(const Param& p) const {
    return p.tied_to == kNoParam ? p.weight : param(p.tied_to).weight;
  }
  /// Linears of the parameter read their matrix behind a quantizer, which makes these codes of it.
  void set_codes(ParamId p, QTensor codes);
  /// The same of a table that is looked up. Heads that are tied to it keep the float table.
  void set_table_codes(ParamId p, const QTensor& codes);
  /// The table becomes what these codes give, for heads that are tied to it as well.
  void replace_table(ParamId p, QTensor codes);
  /// Matrices are read as they are.
  void clear_weight_quantizers();
  bool is_quantized() const;
  /// Whether it reads images, not tokens.
  bool reads_images() const { return graph.reads(InputKind::kPixels); }
  /// Moves matrices and codes that are in memory to `scratch`, where there is one. Views of them
  /// end.
  void spill();
  /// Takes what `node` reads out of memory until it is read again, where it lies in scratch.
  void drop_pages(NodeId node) const;
  /// "layers.3.fc1", "embedding_norm", ...: for messages.
  const std::string& node_name(NodeId n) const { return graph.node(n).label; }
};

/// What a family makes of config.json.
struct Architecture {
  ModelSpec spec;
  Graph graph;
};
struct Family;
/// By the family that config.json names. Throws Error naming the file and the key.
Architecture build_architecture(const Settings& config);
/// `checkpoint`: where sizes that config.json does not say are looked up; null: nowhere.
Architecture build_architecture(const Settings& config, const Family& family,
                                const Checkpoint* checkpoint = nullptr);

/// Of a checkpoint, whose tensors say the sizes that its config.json does not.
Architecture build_architecture(const Checkpoint& checkpoint);

struct LoadOptions {
  /// Tensors that are missing are listed in `missing_tensors` and hold zeros, for a look at a
  /// damaged checkpoint.
  bool allow_missing = false;
  /// Becomes the model's; then one matrix at a time is in memory.
  std::shared_ptr<ScratchFile> scratch = nullptr;
  const Family* family = nullptr;  ///< null: the one of families/ that config.json names
};
/// Reads a checkpoint: float ones, and those that Quell or another tool wrote in a layout of
/// quantized linears (quantized_layout.h). Throws Error with file, tensor or key on anything
/// missing, misshapen or not finite.
Model load_model(const Checkpoint& checkpoint, const LoadOptions& options = {});

/// A model in memory: `weights` by the names that a checkpoint would have for them, f32 or any type
/// that checkpoints hold. Throws Error naming a tensor that is missing or misshapen.
Model make_model(Architecture architecture, std::map<std::string, Tensor> weights);
/// The same with zeros in every tensor.
Model make_zero_model(Architecture architecture);

}  // namespace quell
