// Tokenizers from files. Whatever lies in the directory becomes the tokenizer.json object it stands
// for, which is read in one place.
#include "quell/base/error.h"
#include "quell/base/log.h"
#include "quell/text/tokenizer/tokenizer.h"
#include "quell/text/tokenizer/tokenizer_keys.h"
#include "quell/text/tokenizer/tokenizer_source.h"

namespace quell {
namespace {

EncodeOptions read_truncation(const Settings& json) {
  EncodeOptions options;
  options.max_length = json_int(json, "max_length", 0, std::int64_t{1} << 40, 512);
  const std::string strategy = json_string(json, "strategy", "LongestFirst");
  if (strategy == "OnlyFirst")
    options.truncation = TruncationStrategy::kOnlyFirst;
  else if (strategy == "OnlySecond")
    options.truncation = TruncationStrategy::kOnlySecond;
  options.truncate_left = json_string(json, "direction", "Right") == "Left";
  json.value("stride");  // windows ask for theirs
  return options;
}

Padding read_padding(const Settings& json) {
  Padding padding;
  const Json& strategy = json.value("strategy");
  if (strategy.is_object()) padding.length = json_int(strategy, "Fixed", 0, 1 << 30, 0);
  padding.left = json_string(json, "direction", "Right") == "Left";
  padding.multiple_of = json_int(json, "pad_to_multiple_of", 0, 1 << 30, 0);
  padding.id = static_cast<std::int32_t>(json_int(json, "pad_id", 0, 1 << 26, 0));
  padding.type_id = static_cast<std::int32_t>(json_int(json, "pad_type_id", 0, 255, 0));
  padding.token = json_string(json, "pad_token", "[PAD]");
  return padding;
}

bool reads_left(const Settings& config, const char* key, bool fallback) {
  const std::string side = json_string(config, key, fallback ? "left" : "right");
  require(side == "left" || side == "right", ErrorCode::kInvalidInput, config.file(), ": ", key,
          " \"", side, "\" is neither left nor right");
  return side == "left";
}

std::optional<std::int64_t> read_max_length(const Settings& config) {
  const Json& older = config.value("max_len");
  const Json& value = config.has("model_max_length") ? config.value("model_max_length") : older;
  config.value("model_max_length");
  constexpr double kEndless = 1e9;  // transformers writes 1e30 for "no limit"
  if (!value.is_number() || value.get<double>() < 1 || value.get<double>() >= kEndless)
    return std::nullopt;
  return static_cast<std::int64_t>(value.get<double>());
}

}  // namespace

Tokenizer Tokenizer::from_settings(const Settings& json) {
  try {
    Tokenizer t;
    if (json.has("normalizer")) t.normalizer_ = make_normalizer(json.section("normalizer"));
    if (json.has("pre_tokenizer"))
      t.pre_tokenizer_ = make_pre_tokenizer(json.section("pre_tokenizer"));
    require(json.has("model"), ErrorCode::kInvalidInput, "tokenizer: no model");
    t.model_ = make_token_model(json.section("model"));
    if (json.has("post_processor"))
      t.post_processor_ = make_post_processor(json.section("post_processor"));
    t.decoder_ =
        json.has("decoder") ? make_decoder(json.section("decoder")) : make_default_decoder();
    t.added_ = AddedTokens(json.sections("added_tokens"), *t.model_, t.normalizer_.get());
    if (json.has("truncation"))
      t.defaults_.truncation = read_truncation(json.section("truncation"));
    if (json.has("padding")) t.defaults_.padding = read_padding(json.section("padding"));
    for (const char* key : {"normalizer", "pre_tokenizer", "post_processor", "decoder",
                            "truncation", "padding", "version"})
      if (!json.has(key) || std::string_view(key) == "version") json.value(key);
    return t;
  } catch (const Error& e) {
    throw Error(e.code(), json.file() + ": " + e.what());
  } catch (const Json::exception& e) {
    throw Error(ErrorCode::kInvalidInput, json.file() + ": " + e.what());
  }
}

Tokenizer Tokenizer::from_json(Json json, const std::string& source) {
  const Settings settings(std::move(json), source);
  Tokenizer tokenizer = from_settings(settings);
  judge_leftovers(settings, tokenizer_key_rules());
  return tokenizer;
}

Tokenizer Tokenizer::open(const ModelDirectory& directory) {
  const Settings config = directory.read_if_there("tokenizer_config.json");
  const TokenizerSource source = read_tokenizer_source(directory, config);
  Tokenizer t = from_settings(source.json);
  for (const std::string& warning : source.warnings) log_once(LogLevel::kWarning, warning);
  if (source.is_file) directory.finish(source.json, tokenizer_key_rules());

  // Settings of tokenizer_config.json that no stage holds.
  const std::string_view name = source.rule ? source.rule->name : "";
  const bool left = name == "LlamaTokenizer" || name == "CodeLlamaTokenizer" ||
                    name == "GemmaTokenizer" || name == "XLNetTokenizer";
  t.defaults_.pad_left = reads_left(config, "padding_side", left);
  t.defaults_.truncate_left = reads_left(config, "truncation_side", false);
  t.defaults_.model_max_length = read_max_length(config);

  const bool bpe = source.json.json()["model"].value("type", Json("BPE")) == "BPE";
  const bool even_bpe = json_bool(
      config, "clean_up_tokenization_spaces_for_bpe_even_though_it_will_corrupt_output", false);
  t.clean_up_spaces_ =
      json_bool(config, "clean_up_tokenization_spaces", false) && (!bpe || even_bpe);
  if (json_bool(config, "split_special_tokens", false)) t.added_.leave_special_tokens();
  if (name == "CLIPTokenizer") t.word_end_ = "</w>";

  directory.finish(config, tokenizer_config_key_rules());
  return t;
}

}  // namespace quell
