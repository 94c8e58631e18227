#include "quell/train/bert_classifier.h"

#include <cmath>

#include "quell/io/checkpoint.h"
#include "quell/io/json.h"
#include "quell/io/safetensors.h"

namespace quell::train {
namespace {

constexpr double kEps = 1e-12;
constexpr double kInitStd = 0.05;
constexpr std::int64_t kOutlierChannels[] = {7, 31, 70};

torch::Tensor ids_of(const std::vector<std::int32_t>& values, const TokenBatch& batch) {
  return torch::from_blob(const_cast<std::int32_t*>(values.data()), {batch.batch, batch.length},
                          torch::kInt32)
      .to(torch::kInt64);
}

}  // namespace

BertClassifier::BertClassifier(const BertConfig& config, double outlier_gain) : config_(config) {
  const std::int64_t h = config.hidden_size, f = config.intermediate_size;
  const auto make = [&](const std::string& name, std::vector<std::int64_t> shape) {
    tensors_[name + ".weight"] = torch::randn(shape) * kInitStd;
    if (name.find("embeddings.") == std::string::npos)
      tensors_[name + ".bias"] = torch::zeros({shape[0]});
  };
  const auto make_norm = [&](const std::string& name, bool outliers) {
    torch::Tensor weight = torch::ones({h}), bias = torch::zeros({h});
    if (outliers && outlier_gain > 1)
      for (const std::int64_t c : kOutlierChannels) {
        weight[c] = outlier_gain;
        bias[c] = c % 2 ? -outlier_gain : outlier_gain;
      }
    tensors_[name + ".weight"] = weight;
    tensors_[name + ".bias"] = bias;
  };
  make("bert.embeddings.word_embeddings", {config.vocab_size, h});
  make("bert.embeddings.position_embeddings", {config.max_position_embeddings, h});
  make("bert.embeddings.token_type_embeddings", {2, h});
  make_norm("bert.embeddings.LayerNorm", true);
  for (std::int64_t l = 0; l < config.num_hidden_layers; ++l) {
    const std::string p = "bert.encoder.layer." + std::to_string(l) + ".";
    for (const char* name : {"attention.self.query", "attention.self.key", "attention.self.value",
                             "attention.output.dense"})
      make(p + name, {h, h});
    make_norm(p + "attention.output.LayerNorm", true);
    make(p + "intermediate.dense", {f, h});
    make(p + "output.dense", {h, f});
    make_norm(p + "output.LayerNorm", l + 1 < config.num_hidden_layers);
  }
  make("bert.pooler.dense", {h, h});
  make("classifier", {config.num_labels, h});
  for (auto& [name, tensor] : tensors_) tensor.set_requires_grad(true);
}

BertClassifier BertClassifier::load(const std::filesystem::path& dir) {
  const Checkpoint checkpoint = Checkpoint::open(dir);
  const Settings& c = checkpoint.config();
  BertConfig config;
  config.vocab_size = json_int(c, "vocab_size", 1, 1 << 20);
  config.hidden_size = json_int(c, "hidden_size", 1, 1 << 20);
  config.intermediate_size = json_int(c, "intermediate_size", 1, 1 << 20);
  config.num_hidden_layers = json_int(c, "num_hidden_layers", 1, 1000);
  config.num_attention_heads = json_int(c, "num_attention_heads", 1, 1000);
  config.max_position_embeddings = json_int(c, "max_position_embeddings", 1, 1 << 20);
  BertClassifier model(config);
  for (const auto& [name, view] : checkpoint.tensors()) {
    const Tensor t = to_f32(view, name);
    model.tensors_[name] =
        torch::from_blob(const_cast<float*>(t.f32().data()), t.shape().dims()).clone();
  }
  return model;
}

torch::Tensor BertClassifier::linear(const torch::Tensor& x, const std::string& name) const {
  return torch::nn::functional::linear(x, at(name + ".weight"), at(name + ".bias"));
}

torch::Tensor BertClassifier::norm(const torch::Tensor& x, const std::string& name) const {
  return torch::layer_norm(x, {config_.hidden_size}, at(name + ".weight"), at(name + ".bias"),
                           kEps);
}

torch::Tensor BertClassifier::layer(const torch::Tensor& x, const torch::Tensor& mask,
                                    const std::string& name, double dropout, bool training) const {
  const std::int64_t b = x.size(0), n = x.size(1), heads = config_.num_attention_heads,
                     d = config_.hidden_size / heads;
  const auto split = [&](const torch::Tensor& t) {
    return t.view({b, n, heads, d}).transpose(1, 2);
  };
  const torch::Tensor q = split(linear(x, name + "attention.self.query")),
                      k = split(linear(x, name + "attention.self.key")),
                      v = split(linear(x, name + "attention.self.value"));
  const torch::Tensor probs = torch::softmax(
      torch::matmul(q, k.transpose(-2, -1)) / std::sqrt(static_cast<double>(d)) + mask, -1);
  const torch::Tensor context =
      torch::matmul(probs, v).transpose(1, 2).reshape({b, n, config_.hidden_size});
  const torch::Tensor attended = linear(context, name + "attention.output.dense");
  const torch::Tensor middle =
      norm(x + torch::dropout(attended, dropout, training), name + "attention.output.LayerNorm");
  const torch::Tensor fed =
      linear(torch::gelu(linear(middle, name + "intermediate.dense")), name + "output.dense");
  return norm(middle + torch::dropout(fed, dropout, training), name + "output.LayerNorm");
}

torch::Tensor BertClassifier::forward(const TokenBatch& batch, double dropout,
                                      bool training) const {
  const torch::Tensor ids = ids_of(batch.ids, batch), types = ids_of(batch.type_ids, batch);
  const torch::Tensor mask =
      (1.0 - ids_of(batch.mask, batch).to(torch::kFloat32)).unsqueeze(1).unsqueeze(1) * -1e9;
  torch::Tensor x = torch::embedding(at("bert.embeddings.word_embeddings.weight"), ids) +
                    torch::embedding(at("bert.embeddings.token_type_embeddings.weight"), types) +
                    at("bert.embeddings.position_embeddings.weight").slice(0, 0, batch.length);
  x = norm(x, "bert.embeddings.LayerNorm");
  for (std::int64_t l = 0; l < config_.num_hidden_layers; ++l)
    x = layer(x, mask, "bert.encoder.layer." + std::to_string(l) + ".", dropout, training);
  return linear(torch::tanh(linear(x.select(1, 0), "bert.pooler.dense")), "classifier");
}

std::vector<torch::Tensor> BertClassifier::parameters() const {
  std::vector<torch::Tensor> out;
  for (const auto& [name, tensor] : tensors_) out.push_back(tensor);
  return out;
}

void BertClassifier::save(const std::filesystem::path& dir) const {
  std::map<std::string, TensorView> views;
  std::vector<torch::Tensor> kept;
  for (const auto& [name, tensor] : tensors_) {
    kept.push_back(tensor.detach().contiguous().to(torch::kFloat32));
    views.emplace(name, TensorView(kept.back().data_ptr<float>(), DType::kF32,
                                   Shape(kept.back().sizes().vec())));
  }
  write_safetensors(dir / "model.safetensors", views, {{"format", "pt"}});
  const Json config = {{"architectures", {"BertForSequenceClassification"}},
                       {"model_type", "bert"},
                       {"vocab_size", config_.vocab_size},
                       {"hidden_size", config_.hidden_size},
                       {"intermediate_size", config_.intermediate_size},
                       {"num_hidden_layers", config_.num_hidden_layers},
                       {"num_attention_heads", config_.num_attention_heads},
                       {"max_position_embeddings", config_.max_position_embeddings},
                       {"type_vocab_size", 2},
                       {"hidden_act", "gelu"},
                       {"layer_norm_eps", kEps},
                       {"pad_token_id", 0},
                       {"torch_dtype", "float32"},
                       {"id2label", {{"0", "negative"}, {"1", "positive"}}},
                       {"label2id", {{"negative", 0}, {"positive", 1}}}};
  write_text_file(dir / "config.json", config.dump(2) + "\n");
}

}  // namespace quell::train
