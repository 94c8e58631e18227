// Sentence embeddings: what sentence-transformers does behind an encoder, as a list of modules
// (modules.json).
#pragma once

#include <map>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "quell/base/exec_context.h"
#include "quell/tensor/tensor.h"
#include "quell/text/data/token_batch.h"

namespace quell {

/// In the order in which sentence-transformers puts several side by side where a file sets a flag
/// for each.
enum class PoolingMode { kCls, kMax, kMean, kMeanSqrtLength, kWeightedMean, kLastToken };
/// As newer files spell it ("cls", "mean_sqrt_len_tokens", ...).
std::optional<PoolingMode> pooling_mode_from_name(std::string_view name);
std::string_view pooling_mode_name(PoolingMode mode);

/// The values that modules read and write: one row a token, or one a sentence.
enum class SentenceValue { kTokens, kSentence };

/// Token rows to one row a sentence: the modes' results side by side.
struct PoolingModule {
  std::vector<PoolingMode> modes;
  bool include_prompt = true;  ///< false: the tokens of a prompt take no part
};

/// torch's activation of that name ("Tanh", "GELU", ...) with its default settings; null: not
/// supported.
using ElementFunction = double (*)(double);
ElementFunction element_function(std::string_view name);

/// activation(x weight^T + bias), plus x, or its projection, where `adds_input`.
struct DenseModule {
  Tensor weight, bias;  ///< [out, in], [out] or undefined
  std::string activation = "Tanh";
  bool adds_input = false;
  Tensor projection;  ///< [out, in] of the input that is added; undefined: as it is
  SentenceValue in = SentenceValue::kSentence, out = SentenceValue::kSentence;
};

/// x / max(|x|, 1e-12)
struct NormalizeModule {
  SentenceValue in = SentenceValue::kSentence, out = SentenceValue::kSentence;
};

/// Of sentences, with torch's eps of 1e-5.
struct LayerNormModule {
  Tensor weight, bias;  ///< [D]
};

using SentenceModule = std::variant<PoolingModule, DenseModule, NormalizeModule, LayerNormModule>;

enum class Similarity { kCosine, kDot, kEuclidean, kManhattan };
std::optional<Similarity> similarity_from_name(std::string_view name);
/// Larger is more alike: distances are negative.
double similarity(Similarity kind, std::span<const float> a, std::span<const float> b);

struct SentencePipeline {
  std::vector<SentenceModule> modules;  ///< empty: the model gives no sentence embeddings
  std::int64_t truncate_dim = 0;        ///< dimensions kept in the end, 0: all

  std::map<std::string, std::string> prompts;  ///< by name; put in front of every text
  std::string default_prompt;  ///< name of the one that holds where no other is asked for, "" none
  Similarity similarity = Similarity::kCosine;

  /// What a cross encoder puts behind its score, by torch's name
  /// (config_sentence_transformers.json); "": config.json says.
  std::string score_activation;

  /// Files of the modules behind the encoder, relative to the model's directory: what an export has
  /// to take along.
  std::vector<std::string> files;

  bool defined() const { return !modules.empty(); }
  /// Whether a module leaves out the tokens of prompts.
  bool leaves_out_prompts() const;
  /// Dimensions of an embedding where the encoder's rows have `hidden_size`.
  std::int64_t dimension(std::int64_t hidden_size) const;
};

/// Throws Error(kInvalidInput) naming the module where sizes do not fit each other, or a module
/// reads what none has written; or where none writes a sentence's row.
void check_pipeline(const SentencePipeline& pipeline, std::int64_t hidden_size);

/// Embeddings [B, D] of the last hidden states [rows, H], in f32. Each depends on the rows of its
/// sequence alone, in their order: the same bytes in any batch, padded or not, and for any number
/// of threads.
Tensor embed(const SentencePipeline& pipeline, const TensorView& hidden, const TokenBatch& batch,
             ExecContext& ctx);

/// One module: what it makes of `x`, which are rows of tokens or of sentences.
Tensor run_module(const SentenceModule& module, const TensorView& x, const TokenBatch& batch,
                  ExecContext& ctx);
SentenceValue input_of(const SentenceModule& module);
SentenceValue output_of(const SentenceModule& module);

/// The rows of sequence `b` that pooling reads, first and last of those whose mask is 1 included,
/// and which place among the tokens each has (from 1). Empty where a prompt that is left out covers
/// all.
struct PooledRow {
  std::int64_t row, place;
};
std::vector<PooledRow> pooled_rows(const PoolingModule& pooling, const TokenBatch& batch,
                                   std::int64_t b);

}  // namespace quell
