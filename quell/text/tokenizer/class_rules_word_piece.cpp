// Classes with a WordPiece vocabulary (vocab.txt).
#include "quell/base/error.h"
#include "quell/base/log.h"
#include "quell/text/tokenizer/class_rules.h"
#include "quell/text/tokenizer/python_stages.h"

namespace quell {
namespace {

Json bert_normalizer(const ClassBuilder& b, bool clean_text, bool lower) {
  const Json accents = b.config().value("strip_accents");
  return {{"type", "BertNormalizer"},
          {"clean_text", clean_text},
          {"handle_chinese_chars", b.flag("tokenize_chinese_chars", true)},
          {"strip_accents", accents},
          {"lowercase", lower}};
}

void set_stages(ClassBuilder& b, Json normalizer, const std::string& prefix) {
  b.normalizer = std::move(normalizer);
  b.pre_tokenizer = {{"type", "BertPreTokenizer"}};
  b.model = {{"type", "WordPiece"}, {"unk_token", b.needed("unk_token")}};
  b.decoder = {{"type", "WordPiece"}, {"prefix", prefix}};
}

void set_cls_and_sep(ClassBuilder& b, int type_of_cls) {
  const std::string cls = b.needed("cls_token");
  const std::string sep = b.needed("sep_token");
  b.post_processor = [=](const AddedVocabulary& ids) {
    return make_template(ids, {{cls, type_of_cls}, {"$A", 0}, {sep, 0}},
                         {{cls, type_of_cls}, {"$A", 0}, {sep, 0}, {"$B", 1}, {sep, 1}});
  };
}

/// The same where either may be null, of which BERT's class makes a token None with a fixed id.
void set_bert_cls_and_sep(ClassBuilder& b) {
  const auto item = [&](const char* key, std::int64_t id_of_null) {
    const bool is_null = !b.tokens().named[key].token;
    return is_null ? TemplateItem{"None", 0, id_of_null} : TemplateItem{b.needed(key)};
  };
  const TemplateItem cls = item("cls_token", 2);
  const TemplateItem sep = item("sep_token", 3);
  TemplateItem last = sep;
  last.type_id = 1;
  b.post_processor = [=](const AddedVocabulary& ids) {
    return make_template(ids, {cls, {"$A"}, sep}, {cls, {"$A"}, sep, {"$B", 1}, last});
  };
}

void default_bert_tokens(ClassBuilder& b) {
  b.default_tokens({{"unk_token", "[UNK]"},
                    {"sep_token", "[SEP]"},
                    {"pad_token", "[PAD]"},
                    {"cls_token", "[CLS]"},
                    {"mask_token", "[MASK]"}});
}

}  // namespace

void build_bert(ClassBuilder& b) {
  default_bert_tokens(b);
  set_stages(b, bert_normalizer(b, true, b.flag("do_lower_case", true)), "##");
  set_bert_cls_and_sep(b);
}

void build_dpr(ClassBuilder& b) {
  // The class keeps do_lower_case to itself and hands BERT's rules nothing of it.
  if (!b.flag("do_lower_case", true))
    log_once(
        LogLevel::kWarning,
        b.config().file() +
            ": do_lower_case false has no effect with the tokenizers of DPR; like transformers, "
            "Quell "
            "lower-cases texts (\"tokenizer_class\": \"BertTokenizer\" would leave case alone)");
  default_bert_tokens(b);
  set_stages(b, bert_normalizer(b, true, true), "##");
  set_bert_cls_and_sep(b);
}

void build_mpnet(ClassBuilder& b) {
  b.default_tokens({{"bos_token", "<s>"},
                    {"eos_token", "</s>"},
                    {"sep_token", "</s>"},
                    {"cls_token", "<s>"},
                    {"unk_token", "[UNK]"},
                    {"pad_token", "<pad>"},
                    {"mask_token", "<mask>"}});
  set_stages(b, bert_normalizer(b, true, b.flag("do_lower_case", true)), "##");
  for (const char* key :
       {"bos_token", "eos_token", "sep_token", "cls_token", "unk_token", "pad_token"})
    b.token_with_flags(key);
  b.token_with_flags("mask_token", true);

  const std::string cls = b.needed("cls_token");
  const std::string sep = b.needed("sep_token");
  b.post_processor = [=](const AddedVocabulary& ids) -> Json {
    return {{"type", "RobertaProcessing"},
            {"sep", {sep, ids.id_of(sep).value_or(2)}},
            {"cls", {cls, ids.id_of(cls).value_or(0)}},
            {"trim_offsets", true},
            {"add_prefix_space", false}};
  };
}

void build_funnel(ClassBuilder& b) {
  b.default_tokens({{"unk_token", "<unk>"},
                    {"sep_token", "<sep>"},
                    {"pad_token", "<pad>"},
                    {"cls_token", "<cls>"},
                    {"mask_token", "<mask>"},
                    {"bos_token", "<s>"},
                    {"eos_token", "</s>"}});
  const Json normalizer =
      bert_normalizer(b, b.flag("clean_text", true), b.flag("do_lower_case", true));
  set_stages(b, normalizer, json_string(b.config(), "wordpieces_prefix", "##"));
  set_cls_and_sep(b, 2);
}

void build_bert_japanese(ClassBuilder& b) {
  const Settings& config = b.config();
  const auto need_stage = [&](const char* key) {
    require(b.flag(key, true), ErrorCode::kUnsupported, config.file(), ": key \"", key,
            "\" (false): BertJapaneseTokenizer is supported with both its tokenizers only; pass "
            "token ids instead of text");
  };
  need_stage("do_word_tokenize");
  need_stage("do_subword_tokenize");
  const std::string words = json_string(config, "word_tokenizer_type", "basic");
  const std::string subwords = json_string(config, "subword_tokenizer_type", "wordpiece");
  require(words == "basic", ErrorCode::kUnsupported, config.file(),
          ": BertJapaneseTokenizer with word_tokenizer_type \"", words,
          "\" is not supported; split the text into words beforehand, or pass token ids");
  require(subwords == "wordpiece" || subwords == "character", ErrorCode::kUnsupported,
          config.file(), ": BertJapaneseTokenizer with subword_tokenizer_type \"", subwords,
          "\" is not supported; pass token ids instead of text");
  const Json& never_split = config.value("never_split");
  require(never_split.is_null() || never_split.empty(), ErrorCode::kUnsupported, config.file(),
          ": BertJapaneseTokenizer with never_split is not supported");
  for (const char* key : {"mecab_kwargs", "sudachi_kwargs", "jumanpp_kwargs"}) config.value(key);

  default_bert_tokens(b);
  set_stages(b, {{"type", kPythonNormalizer}, {"lowercase", b.flag("do_lower_case", false)}}, "##");
  b.pre_tokenizer = {{"type", kPythonWords}};
  b.decoder["cleanup"] = false;
  set_cls_and_sep(b, 0);
  if (subwords == "wordpiece") return;

  b.pre_tokenizer = sequence_of("pretokenizers", {{{"type", kPythonWords}},
                                                  {{"type", kPythonPieceNfkc}},
                                                  {{"type", "FixedLength"}, {"length", 1}}});
  b.model = {{"type", "WordLevel"}, {"unk_token", b.needed("unk_token")}};
}

}  // namespace quell
