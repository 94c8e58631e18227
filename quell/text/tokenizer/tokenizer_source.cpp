#include "quell/text/tokenizer/tokenizer_source.h"

#include <algorithm>

#include "quell/base/error.h"
#include "quell/base/log.h"
#include "quell/io/mapped_file.h"
#include "quell/text/tokenizer/classes_without_rules.h"
#include "quell/text/tokenizer/components.h"
#include "quell/text/tokenizer/tokenizer_class.h"
#include "quell/text/tokenizer/tokenizer_keys.h"
#include "quell/text/tokenizer/vocabulary_files.h"

namespace quell {
namespace fs = std::filesystem;
namespace {

constexpr std::size_t kLargestFile = std::size_t{512} << 20;

/// Where a SentencePiece model lies: under the name that the class looks for, else under any.
std::optional<fs::path> find_model_file(const fs::path& dir, const std::string& wanted) {
  std::error_code ec;
  for (const std::string& name : {wanted, std::string("tokenizer.model")})
    if (!name.empty() && fs::exists(dir / name, ec)) return dir / name;

  std::vector<fs::path> others;
  for (const auto& entry : fs::directory_iterator(dir, ec))
    if (entry.path().extension() == ".model") others.push_back(entry.path());
  if (others.empty()) return std::nullopt;
  return *std::min_element(others.begin(), others.end());
}

/// Reads one directory.
class Opener {
 public:
  Opener(const ModelDirectory& directory, const Settings& config)
      : directory_(directory),
        dir_(directory.path()),
        config_(config),
        class_(find_tokenizer_class(directory, config_)),
        rule_(find_class_rule(class_.name)) {}

  TokenizerSource read_all() {
    TokenizerSource source;
    source.json = read();
    source.rule = used_rule_;
    source.is_file = is_file_;
    source.warnings = warnings_;
    return source;
  }

 private:
  Settings read() {
    // This class alone goes by its vocabulary even where there is a tokenizer.json.
    if (class_.name == "BertJapaneseTokenizer" && directory_.has(rule_->file))
      return read_vocabulary();
    if (directory_.has("tokenizer.json")) return read_tokenizer_json();

    // A class that only reads tokenizer.json, or none: go by the class that the files name, then by
    // what files there are.
    if (!rule_) rule_ = find_class_rule(class_.stated);
    const bool plain = class_.name == kPlainClass && directory_.has("tokenizer.model");
    if (plain && (!rule_ || std::string_view(rule_->file) == "tokenizer.model"))
      return read_plain_model(dir_ / "tokenizer.model", false);
    if (!class_.stated.empty() || (!class_.name.empty() && class_.name != kPlainClass))
      require_rule();
    if (!rule_) rule_ = rule_of_files();
    if (rule_) return read_vocabulary();

    // transformers looks for tokenizer.model alone. Files of other names are of llama2.c and its
    // kin, whose texts have a begin token.
    if (const auto model = find_model_file(dir_, ""))
      return read_plain_model(*model, model->filename() != "tokenizer.model");
    throw Error(ErrorCode::kIo, dir_.string() +
                                    ": no tokenizer.json, vocab.txt, vocab.json with merges.txt, "
                                    "or SentencePiece .model; pass token "
                                    "ids instead of text");
  }

  template <typename Read>
  auto reading(const fs::path& file, Read read) {
    try {
      return read();
    } catch (const Error& e) {
      const std::string what = e.what();
      throw Error(e.code(), what.starts_with(dir_.string()) ? what : file.string() + ": " + what);
    } catch (const Json::exception& e) {
      throw Error(ErrorCode::kInvalidInput, file.string() + ": " + e.what());
    }
  }

  void require_rule() const {
    require(rule_ != nullptr, ErrorCode::kUnsupported, dir_.string(), ": ", class_.source,
            " is not supported without tokenizer.json; save it with "
            "AutoTokenizer.from_pretrained(DIR).save_pretrained(DIR) of "
            "transformers, or pass token ids instead of text");
  }

  const ClassRule* rule_of_files() const {
    if (directory_.has("vocab.txt")) return find_class_rule("BertTokenizer");
    if (directory_.has("vocab.json") && directory_.has("merges.txt"))
      return find_class_rule("GPT2Tokenizer");
    return nullptr;
  }

  ClassInputs inputs_without_json() {
    ClassInputs inputs;
    inputs.config = config_;
    inputs.tokens = read_token_settings(directory_, config_, Json());
    return inputs;
  }

  Settings build(ClassInputs inputs, const fs::path& file) {
    used_rule_ = rule_;
    return reading(file, [&] {
      ClassBuilder builder(std::move(inputs));
      rule_->build(builder);
      return Settings(builder.finish(), file.string());
    });
  }

  Settings read_vocabulary() {
    fs::path file = dir_ / rule_->file;
    if (file.extension() == ".model") file = find_model_file(dir_, rule_->file).value_or(file);
    const bool complete = directory_.has(file.filename().string()) &&
                          (file.extension() != ".json" || directory_.has("merges.txt"));
    require(complete, ErrorCode::kIo, dir_.string(), ": ",
            class_.source.empty() ? rule_->name : class_.source, ": ", rule_->name, " reads ",
            rule_->file, file.extension() == ".json" ? " with merges.txt" : "",
            ", which is not there, and there is no tokenizer.json; pass token ids instead of text");

    ClassInputs inputs = inputs_without_json();
    reading(file, [&] {
      if (std::string_view(rule_->name) == "BertJapaneseTokenizer")
        read_python_lines(file, inputs);
      else if (rule_->kind == ClassRule::Kind::kWordPiece)
        read_word_piece(file, inputs);
      else if (file.extension() == ".json")
        read_bpe(file, inputs);
      else
        read_sentencepiece_for(*rule_, read_sentencepiece(read_text_file(file, kLargestFile)),
                               inputs);
    });
    return build(std::move(inputs), file);
  }

  Settings read_plain_model(const fs::path& file, bool begin) {
    return reading(file, [&] {
      const SentencePieceModel model = read_sentencepiece(read_text_file(file, kLargestFile));
      return Settings(json_of_sentencepiece(model, inputs_without_json(), begin), file.string());
    });
  }

  Settings read_tokenizer_json() {
    const fs::path file = dir_ / "tokenizer.json";
    Json json = read_json_file(file);
    return reading(file, [&] {
      require(json.is_object(), ErrorCode::kInvalidInput, "not a JSON object");
      if (rule_ && builds_anew(json)) return rebuild(std::move(json), file);

      if (const auto warning = check_class_without_rules(class_, config_, json))
        warnings_.push_back(*warning);
      return extend(std::move(json), file);
    });
  }

  /// Whether the class makes a tokenizer of its own from the vocabulary in the file.
  bool builds_anew(const Json& json) {
    if (class_.name == "ConvBertTokenizer" || is_former_class(class_.name)) return false;
    if (class_.name == "BertJapaneseTokenizer") return false;  // its vocabulary is not there

    const Json& model = member(json, "model");
    if (!model.is_object()) return false;
    std::string type = json_string(model, "type", "");
    if (type.empty())
      type = model.contains("merges")            ? "BPE"
             : member(model, "vocab").is_array() ? "Unigram"
                                                 : "WordPiece";
    static constexpr const char* kTypes[] = {"WordPiece", "BPE", "Unigram"};
    const char* wanted = kTypes[static_cast<std::size_t>(rule_->kind)];
    if (type == wanted) return true;

    warnings_.push_back((dir_ / "tokenizer.json").string() + ": holds a " + type +
                        " model, where " + class_.source + " means " + wanted +
                        "; the file is followed");
    return false;
  }

  Settings rebuild(Json json, const fs::path& file) {
    ClassInputs inputs;
    inputs.config = config_;
    inputs.from_tokenizer_json = true;
    inputs.tokens = read_token_settings(directory_, config_, member(json, "added_tokens"));
    inputs.vocab = std::move(json["model"]["vocab"]);
    if (json["model"].contains("merges")) inputs.merges = std::move(json["model"]["merges"]);
    inputs.post_processor = member(json, "post_processor");
    inputs.charsmap = find_charsmap(member(json, "normalizer"));
    const Json truncation = member(json, "truncation");
    const Json padding = member(json, "padding");

    // The rest of the file is read too, so that what is unknown in it is not passed over.
    const Settings stated(std::move(json), file.string(), directory_.accepted());
    read_unused(stated);
    directory_.finish(stated, tokenizer_key_rules());

    used_rule_ = rule_;
    ClassBuilder builder(std::move(inputs));
    rule_->build(builder);
    warn_of_other_stages(stated.json(), builder);
    Json made = builder.finish();
    made["truncation"] = truncation;
    made["padding"] = padding;
    return Settings(std::move(made), file.string());
  }

  static void read_unused(const Settings& json) {
    if (json.has("normalizer")) make_normalizer(json.section("normalizer"));
    if (json.has("pre_tokenizer")) make_pre_tokenizer(json.section("pre_tokenizer"));
    if (json.has("decoder")) make_decoder(json.section("decoder"));
    if (json.has("post_processor")) make_post_processor(json.section("post_processor"));
    for (const char* key : {"normalizer", "pre_tokenizer", "decoder", "post_processor"})
      if (!json.has(key)) json.value(key);
    for (const char* key : {"truncation", "padding", "added_tokens"}) json.value(key);

    const Settings model = json.section("model");
    for (const char* key : {"type", "vocab", "merges", "dropout", "unk_token", "unk_id",
                            "continuing_subword_prefix", "end_of_word_suffix", "fuse_unk",
                            "byte_fallback", "ignore_merges", "max_input_chars_per_word"})
      model.value(key);
  }

  static std::optional<std::string> find_charsmap(const Json& normalizer) {
    if (!normalizer.is_object()) return std::nullopt;
    const Json list =
        normalizer.contains("normalizers") ? normalizer["normalizers"] : Json::array({normalizer});
    for (const Json& stage : list)
      if (stage.is_object() && json_string(stage, "type", "") == "Precompiled")
        return json_string(stage, "precompiled_charsmap", "");
    return std::nullopt;
  }

  /// Types that split a text, of a pre-tokenizer and those inside it.
  static std::vector<std::string> splitting_types(const Json& stage) {
    static constexpr const char* kSplitting[] = {
        "Split",          "Digits",           "Punctuation",
        "Whitespace",     "BertPreTokenizer", "CharDelimiterSplit",
        "UnicodeScripts", "FixedLength"};
    std::vector<std::string> types;
    if (!stage.is_object()) return types;
    const std::string type = json_string(stage, "type", "");
    if (std::find(std::begin(kSplitting), std::end(kSplitting), type) != std::end(kSplitting))
      types.push_back(type);
    for (const Json& inner : member(stage, "pretokenizers"))
      for (const std::string& t : splitting_types(inner)) types.push_back(t);
    return types;
  }

  void warn_of_other_stages(const Json& stated, const ClassBuilder& made) const {
    const auto warn = [&](const std::string& what) {
      log_once(LogLevel::kWarning,
               (dir_ / "tokenizer.json").string() + ": " + what + " differs from what " +
                   class_.source +
                   " makes of the vocabulary; like transformers, Quell follows the class "
                   "(\"tokenizer_class\": "
                   "\"PreTrainedTokenizerFast\" in tokenizer_config.json would follow the file)");
    };
    if (splitting_types(member(stated, "pre_tokenizer")) != splitting_types(made.pre_tokenizer))
      warn("pre_tokenizer");

    const Json& normalizer = member(stated, "normalizer");
    const bool both_bert =
        normalizer.is_object() && json_string(normalizer, "type", "") == "BertNormalizer" &&
        made.normalizer.is_object() && made.normalizer["type"] == "BertNormalizer";
    const auto flag = [](const Json& json, const char* key) { return json_bool(json, key, true); };
    if (!both_bert) return;
    static constexpr std::pair<const char*, const char*> kFlags[] = {
        {"lowercase", "do_lower_case"},
        {"handle_chinese_chars", "tokenize_chinese_chars"},
        {"clean_text", "clean_text"}};
    for (const auto& [key, setting] : kFlags)
      if (flag(normalizer, key) != flag(made.normalizer, key) && !config_.contains(setting))
        warn("normalizer." + std::string(key));
  }

  /// The file as it is, with the tokens of the files beside it.
  Settings extend(Json json, const fs::path& file) {
    const bool alone = config_.json().empty() && !directory_.has("special_tokens_map.json") &&
                       !directory_.has("added_tokens.json");
    if (!alone && member(json, "model").is_object() &&
        !member(member(json, "model"), "vocab").is_null()) {
      ClassInputs inputs;
      inputs.config = config_;
      inputs.from_tokenizer_json = true;
      inputs.tokens = read_token_settings(directory_, config_, member(json, "added_tokens"));
      for (const Json& token : member(json, "added_tokens"))
        inputs.present.push_back(read_special_token(token, "added_tokens"));
      inputs.vocab = std::move(json["model"]["vocab"]);
      ClassBuilder builder(std::move(inputs));
      if (const Json& padding = member(json, "padding"); padding.is_object())
        builder.default_token("pad_token", json_string(padding, "pad_token", "[PAD]"));
      json["added_tokens"] = builder.add_tokens().list();
      json["model"]["vocab"] = builder.take_vocab();
    }
    is_file_ = true;
    return Settings(std::move(json), file.string(), directory_.accepted());
  }

  const ModelDirectory& directory_;
  const fs::path dir_;
  Settings config_;
  TokenizerClass class_;
  const ClassRule* rule_;
  const ClassRule* used_rule_ = nullptr;
  bool is_file_ = false;
  std::vector<std::string> warnings_;
};

}  // namespace

TokenizerSource read_tokenizer_source(const ModelDirectory& directory, const Settings& config) {
  return Opener(directory, config).read_all();
}

}  // namespace quell
