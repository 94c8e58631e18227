// Sentence models made from the example's encoder: small, and with any modules.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "quell/io/json.h"
#include "quell/io/mapped_file.h"
#include "quell/io/safetensors.h"
#include "tests/support/golden_numbers.h"
#include "tests/support/support.h"

namespace quell::testing {

/// A copy of the example's model in `dir` / `name`, with modules.json.
class SentenceModel {
 public:
  static constexpr std::int64_t kHidden = 96;

  explicit SentenceModel(const std::filesystem::path& dir) : dir_(dir) {
    std::filesystem::copy(kReviews / "model", dir_);
    add("", "Transformer");
    write("sentence_bert_config.json", {{"max_seq_length", 64}, {"do_lower_case", false}});
  }

  SentenceModel& pooling(const Json& config) {
    const std::string folder = add_folder("Pooling");
    return write(folder + "/config.json", config);
  }
  SentenceModel& mean() {
    return pooling({{"word_embedding_dimension", kHidden}, {"pooling_mode_mean_tokens", true}});
  }
  SentenceModel& dense(std::int64_t in, std::int64_t out, const std::string& activation,
                       Json more = Json::object()) {
    const std::string folder = add_folder("Dense");
    Json config = {{"in_features", in},
                   {"out_features", out},
                   {"bias", true},
                   {"activation_function", activation}};
    config.update(more);
    write(folder + "/config.json", config);
    const Tensor weight = GoldenNumbers(5).make({out, in}, -0.2, 0.2),
                 bias = GoldenNumbers(6).make({out}, -0.2, 0.2);
    write_safetensors(
        dir_ / folder / "model.safetensors",
        std::map<std::string, TensorView>{{"linear.weight", weight}, {"linear.bias", bias}});
    return *this;
  }
  SentenceModel& normalize() {
    add_folder("Normalize");
    return *this;
  }
  SentenceModel& layer_norm(std::int64_t size) {
    const std::string folder = add_folder("LayerNorm");
    write(folder + "/config.json", {{"dimension", size}});
    const Tensor weight = GoldenNumbers(7).make({size}, 0.5, 2),
                 bias = GoldenNumbers(8).make({size}, -1, 1);
    write_safetensors(
        dir_ / folder / "model.safetensors",
        std::map<std::string, TensorView>{{"norm.weight", weight}, {"norm.bias", bias}});
    return *this;
  }
  /// Any entry of modules.json.
  SentenceModel& add(const std::string& path, const std::string& type) {
    modules_.push_back(
        {{"idx", modules_.size()},
         {"name", std::to_string(modules_.size())},
         {"path", path},
         {"type",
          type.find('.') == std::string::npos ? "sentence_transformers.models." + type : type}});
    return write("modules.json", modules_);
  }

  SentenceModel& write(const std::string& file, const Json& json) {
    std::filesystem::create_directories((dir_ / file).parent_path());
    write_text_file(dir_ / file, json.dump(1));
    return *this;
  }
  Json read(const std::string& file) const { return read_json_file(dir_ / file); }
  /// Adds `key` to a file that is there.
  SentenceModel& set(const std::string& file, const std::string& key, const Json& value) {
    Json json = read(file);
    json[key] = value;
    return write(file, json);
  }

  const std::filesystem::path& path() const { return dir_; }
  std::string text() const { return "'" + dir_.string() + "'"; }

 private:
  std::string add_folder(const std::string& type) {
    const std::string folder = std::to_string(modules_.size()) + "_" + type;
    add(folder, type);
    return folder;
  }

  std::filesystem::path dir_;
  Json modules_ = Json::array();
};

}  // namespace quell::testing
