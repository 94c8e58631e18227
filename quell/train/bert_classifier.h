// A BERT classifier in libtorch, with Hugging Face parameter names.
#pragma once

#include <torch/torch.h>

#include <filesystem>
#include <map>
#include <string>

#include "quell/text/data/token_batch.h"

namespace quell::train {

struct BertConfig {
  std::int64_t vocab_size = 0, hidden_size = 96, intermediate_size = 384, num_hidden_layers = 4,
               num_attention_heads = 4;
  std::int64_t max_position_embeddings = 64, num_labels = 2;
};

/// Parameters by name; `forward` follows transformers' BertForSequenceClassification.
class BertClassifier {
 public:
  /// `outlier_gain` > 1 starts three channels of every norm but the last with that gamma and an
  /// offset of the same size: training then keeps outlier channels, as large language models have
  /// them.
  BertClassifier(const BertConfig& config, double outlier_gain);
  /// Reads weights that `save` (or transformers) wrote. Throws Error.
  static BertClassifier load(const std::filesystem::path& dir);

  /// Logits [B, num_labels].
  torch::Tensor forward(const TokenBatch& batch, double dropout, bool training) const;
  std::vector<torch::Tensor> parameters() const;
  /// config.json and model.safetensors.
  void save(const std::filesystem::path& dir) const;

 private:
  explicit BertClassifier(const BertConfig& config) : config_(config) {}
  torch::Tensor linear(const torch::Tensor& x, const std::string& name) const;
  torch::Tensor norm(const torch::Tensor& x, const std::string& name) const;
  torch::Tensor layer(const torch::Tensor& x, const torch::Tensor& mask, const std::string& name,
                      double dropout, bool training) const;
  const torch::Tensor& at(const std::string& name) const { return tensors_.at(name); }

  BertConfig config_;
  std::map<std::string, torch::Tensor> tensors_;
};

}  // namespace quell::train
