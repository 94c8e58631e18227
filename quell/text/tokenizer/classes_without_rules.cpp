#include "quell/text/tokenizer/classes_without_rules.h"

#include <algorithm>

#include "quell/base/error.h"
#include "quell/io/json.h"
#include "quell/text/tokenizer/components.h"

namespace quell {
namespace {

struct OtherClass {
  std::string_view name;
  std::string_view settings;  ///< JSON: those that it applies, with the values that it takes where
                              ///< none is stated
};

constexpr std::string_view kNone = "{}";
constexpr std::string_view kBert =
    R"({"do_lower_case": true, "strip_accents": null, "tokenize_chinese_chars": true})";
constexpr std::string_view kPrefix = R"({"add_prefix_space": true})";
constexpr std::string_view kNoPrefix = R"({"add_prefix_space": false})";
constexpr std::string_view kSourceLanguage = R"({"src_lang": null})";

constexpr OtherClass kClasses[] = {
    // They build a tokenizer anew from the vocabulary of tokenizer.json.
    {"BarthezTokenizer", kPrefix},
    {"CohereTokenizer", kNoPrefix},
    {"EsmcTokenizer", kNone},
    {"FNetTokenizer", kNone},
    {"LasrTokenizer", R"({"extra_ids": 100})"},
    {"LayoutLMv2Tokenizer", kBert},
    {"LayoutLMv3Tokenizer", kPrefix},
    {"LayoutXLMTokenizer", kPrefix},
    {"LukeTokenizer", R"({"add_prefix_space": false, "task": null})"},
    {"MLukeTokenizer", R"({"task": null})"},
    {"MarkupLMTokenizer", kNoPrefix},
    {"NllbTokenizer", R"({"src_lang": null, "legacy_behaviour": false})"},
    {"NougatTokenizer", kNone},
    {"PegasusTokenizer", R"({"offset": 103})"},
    {"ReformerTokenizer", kNone},
    {"RemBertTokenizer",
     R"({"do_lower_case": false, "keep_accents": true, "add_prefix_space": true})"},
    {"RoFormerTokenizer", kBert},
    {"SeamlessM4TTokenizer", R"({"src_lang": "eng", "keep_accents": null})"},
    {"Siglip2Tokenizer", kNone},
    {"SplinterTokenizer", kBert},
    {"Tipsv2Tokenizer", R"({"do_lower_case": true})"},
    {"UdopTokenizer", kNone},
    {"VideoPrismTokenizer", R"({"extra_ids": 100})"},
    {"WhisperTokenizer",
     R"({"add_prefix_space": false, "language": null, "task": null, "predict_timestamps": false})"},
    {"XGLMTokenizer", kPrefix},

    // They go by other files, and by no tokenizer.json.
    {"BartphoTokenizer", kNone},
    {"BertGenerationTokenizer", kNone},
    {"BertJapaneseTokenizer", R"({"do_lower_case": false})"},
    {"BertTokenizerLegacy", kBert},
    {"BertweetTokenizer", R"({"normalization": false})"},
    {"BioGptTokenizer", kNone},
    {"BlenderbotSmallTokenizer", kNone},
    {"ByT5Tokenizer", R"({"extra_ids": 125})"},
    {"CTRLTokenizer", kNone},
    {"CanineTokenizer", kNone},
    {"ClvpTokenizer", kNoPrefix},
    {"CpmAntTokenizer", kNone},
    {"CpmTokenizer", R"({"do_lower_case": false, "remove_space": true, "keep_accents": false})"},
    {"DiaTokenizer", kNone},
    {"EsmTokenizer", kNone},
    {"FSMTTokenizer", R"({"do_lower_case": false})"},
    {"FastSpeech2ConformerTokenizer", R"({"should_strip_spaces": false})"},
    {"FlaubertTokenizer", R"({"do_lowercase": false})"},
    {"GPTNeoXJapaneseTokenizer", R"({"do_clean_text": false})"},
    {"GPTSw3Tokenizer",
     R"({"do_lower_case": false, "remove_space": false, "keep_accents": false})"},
    {"M2M100Tokenizer", kSourceLanguage},
    {"MarianTokenizer", kNone},
    {"MgpstrTokenizer", kNone},
    {"MyT5Tokenizer", R"({"extra_ids": 125})"},
    {"PLBartTokenizer", kSourceLanguage},
    {"PerceiverTokenizer", kNone},
    {"PhobertTokenizer", kNone},
    {"ProphetNetTokenizer", kBert},
    {"RoCBertTokenizer", kBert},
    {"SiglipTokenizer", R"({"do_lower_case": true})"},
    {"Speech2TextTokenizer", R"({"do_upper_case": false, "do_lower_case": false})"},
    {"SpeechT5Tokenizer", R"({"normalize": false})"},
    {"TapasTokenizer", kBert},
    {"VitsTokenizer",
     R"({"add_blank": true, "normalize": true, "phonemize": true, "is_uroman": false})"},
    {"Wav2Vec2CTCTokenizer", R"({"do_lower_case": false})"},
    {"Wav2Vec2PhonemeCTCTokenizer", kNone},
    {"XLMTokenizer", R"({"do_lowercase_and_remove_accent": true})"}};

const OtherClass* find_class(const std::string& name) {
  const auto* found = std::find_if(std::begin(kClasses), std::end(kClasses),
                                   [&](const OtherClass& c) { return c.name == name; });
  return found == std::end(kClasses) ? nullptr : found;
}

using Stages = std::vector<const Json*>;

/// A stage of tokenizer.json, or those that it is a sequence of.
void collect_stages(const Json& stage, Stages& out) {
  if (!stage.is_object()) return;
  out.push_back(&stage);
  for (const char* key : {"normalizers", "pretokenizers"})
    for (const Json& inner : member(stage, key)) collect_stages(inner, out);
}

/// What tokenizer.json itself says of the matter of a setting; nothing where it does not tell.
class StatedInFile {
 public:
  explicit StatedInFile(const Json& json) : post_processor_(member(json, "post_processor").dump()) {
    collect_stages(member(json, "normalizer"), normalizers_);
    collect_stages(member(json, "pre_tokenizer"), pre_tokenizers_);
  }

  /// Whether the file does what `value` asks for.
  std::optional<bool> agrees(const std::string& key, const Json& value) const {
    if (key == "src_lang" && value.is_string())
      return post_processor_.find(value.get<std::string>()) != std::string::npos;
    if (!value.is_boolean()) return std::nullopt;

    const std::optional<bool> stated = flag(key);
    if (!stated) return std::nullopt;
    return *stated == value.get<bool>();
  }

 private:
  std::optional<bool> flag(const std::string& key) const {
    const Json* bert = find(normalizers_, "BertNormalizer");
    const bool lower =
        (bert && json_bool(*bert, "lowercase", true)) || find(normalizers_, "Lowercase");
    if (key == "do_lower_case" || key == "do_lowercase" || key == "do_lowercase_and_remove_accent")
      return lower;
    if (key == "keep_accents") return find(normalizers_, "StripAccents") == nullptr;
    if (key == "strip_accents") {
      if (!bert) return find(normalizers_, "StripAccents") != nullptr;
      return json_bool(*bert, "strip_accents", json_bool(*bert, "lowercase", true));
    }
    if (key == "tokenize_chinese_chars" && bert)
      return json_bool(*bert, "handle_chinese_chars", true);
    if (key == "add_prefix_space") return prefix_space();
    return std::nullopt;
  }

  std::optional<bool> prefix_space() const {
    if (const Json* bytes = find(pre_tokenizers_, "ByteLevel"))
      return json_bool(*bytes, "add_prefix_space", true);
    const Json* metaspace = find(pre_tokenizers_, "Metaspace");
    if (!metaspace) return std::nullopt;
    const std::string scheme = json_string(*metaspace, "prepend_scheme", "");
    return scheme.empty() ? json_bool(*metaspace, "add_prefix_space", true) : scheme != "never";
  }

  static const Json* find(const Stages& stages, const std::string& type) {
    const auto found = std::find_if(stages.begin(), stages.end(), [&](const Json* s) {
      return json_string(*s, "type", "") == type;
    });
    return found == stages.end() ? nullptr : *found;
  }

  Stages normalizers_, pre_tokenizers_;
  std::string post_processor_;
};

void refuse(const Settings& config, const std::string& key, const std::string& source) {
  try {
    config.refuse(key, "differs from tokenizer.json, and " + source +
                           " means rules of a class that Quell does not have; load and save the "
                           "tokenizer with transformers, and "
                           "state \"tokenizer_class\": \"PreTrainedTokenizerFast\"");
  } catch (const Error& e) {
    throw Error(e.code(), config.file() + ": " + e.what());
  }
}

}  // namespace

std::optional<std::string> check_class_without_rules(const TokenizerClass& tokenizer_class,
                                                     const Settings& config,
                                                     const Json& tokenizer_json) {
  const OtherClass* known = find_class(tokenizer_class.name);
  if (!known) return std::nullopt;

  const StatedInFile file(tokenizer_json);
  const Json defaults = Json::parse(known->settings);
  for (const auto& [key, fallback] : defaults.items()) {
    const Json& value = config.value(key);
    if (value.is_null() || file.agrees(key, value).value_or(value == fallback)) continue;
    refuse(config, key, tokenizer_class.source);
  }
  return tokenizer_class.file + ": " + tokenizer_class.source +
         ": transformers builds this tokenizer by rules of the class, which Quell does not have; "
         "tokenizer.json is followed as it "
         "is, "
         "and ids can differ (\"tokenizer_class\": \"PreTrainedTokenizerFast\" in "
         "tokenizer_config.json says that the file is "
         "meant)";
}

}  // namespace quell
