// Tokenizers from files. Whatever lies in the directory becomes the tokenizer.json object it stands for, which is read in one
// place.
#include "quell/base/error.h"
#include "quell/text/tokenizer/tokenizer.h"
#include "quell/text/tokenizer/vocabulary_files.h"

namespace quell {
namespace fs = std::filesystem;
namespace {

EncodeOptions read_truncation(const Json& json) {
  EncodeOptions options;
  options.max_length = json_int(json, "max_length", 0, std::int64_t{1} << 40, 512);
  const std::string strategy = json_string(json, "strategy", "LongestFirst");
  options.truncation = strategy == "OnlyFirst"    ? TruncationStrategy::kOnlyFirst
                       : strategy == "OnlySecond" ? TruncationStrategy::kOnlySecond
                                                  : TruncationStrategy::kLongestFirst;
  options.truncate_left = json_string(json, "direction", "Right") == "Left";
  return options;
}

Padding read_padding(const Json& json) {
  Padding padding;
  const Json& strategy = member(json, "strategy");
  if (strategy.is_object()) padding.length = json_int(strategy, "Fixed", 0, 1 << 30, 0);
  padding.left = json_string(json, "direction", "Right") == "Left";
  padding.multiple_of = json_int(json, "pad_to_multiple_of", 0, 1 << 30, 0);
  padding.id = static_cast<std::int32_t>(json_int(json, "pad_id", 0, 1 << 26, 0));
  padding.type_id = static_cast<std::int32_t>(json_int(json, "pad_type_id", 0, 255, 0));
  padding.token = json_string(json, "pad_token", "[PAD]");
  return padding;
}

}  // namespace

Tokenizer Tokenizer::from_json(const Json& json, const std::string& source) {
  try {
    require(json.is_object(), ErrorCode::kInvalidInput, "not a JSON object");
    Tokenizer t;
    t.normalizer_ = make_normalizer(member(json, "normalizer"));
    t.pre_tokenizer_ = make_pre_tokenizer(member(json, "pre_tokenizer"));
    t.model_ = make_token_model(member(json, "model"));
    t.post_processor_ = make_post_processor(member(json, "post_processor"));
    t.decoder_ = make_decoder(member(json, "decoder"));
    t.added_ = AddedTokens(member(json, "added_tokens"), t.normalizer_.get());
    if (const Json& truncation = member(json, "truncation"); truncation.is_object())
      t.defaults_.truncation = read_truncation(truncation);
    if (const Json& padding = member(json, "padding"); padding.is_object()) t.defaults_.padding = read_padding(padding);
    return t;
  } catch (const Error& e) {
    throw Error(e.code(), source + ": " + e.what());
  } catch (const Json::exception& e) {
    throw Error(ErrorCode::kInvalidInput, source + ": " + e.what());
  }
}

Tokenizer Tokenizer::open(const ModelDirectory& directory) {
  const fs::path& dir = directory.path();
  std::error_code ec;
  if (fs::exists(dir / "tokenizer.json", ec))
    return from_json(read_json_file(dir / "tokenizer.json"), (dir / "tokenizer.json").string());
  const auto read = [&](const fs::path& file, Json (*make)(const fs::path&, const TokenizerFiles&)) {
    try {
      return from_json(make(file, read_tokenizer_files(dir)), file.string());
    } catch (const Json::exception& e) {
      throw Error(ErrorCode::kInvalidInput, file.string() + ": " + e.what());
    }
  };
  if (fs::exists(dir / "vocab.txt", ec)) return read(dir / "vocab.txt", json_of_word_piece);
  if (fs::exists(dir / "vocab.json", ec) && fs::exists(dir / "merges.txt", ec)) return read(dir / "vocab.json", json_of_bpe);
  for (const auto& entry : fs::directory_iterator(dir, ec))
    if (entry.path().extension() == ".model") return read(entry.path(), json_of_sentencepiece);
  throw Error(ErrorCode::kIo, dir.string() +
                                  ": no tokenizer.json, vocab.txt, vocab.json with merges.txt, or SentencePiece .model; pass token "
                                  "ids instead of text");
}

}  // namespace quell
