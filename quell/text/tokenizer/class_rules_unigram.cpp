// Classes with a Unigram vocabulary (a SentencePiece model).
#include <algorithm>

#include "quell/base/error.h"
#include "quell/text/tokenizer/class_rules.h"

namespace quell {
namespace {

void set_model(ClassBuilder& b, std::int64_t unk_id) {
  const auto size = static_cast<std::int64_t>(b.inputs().vocab.size());
  require(unk_id < size, ErrorCode::kInvalidInput, "a vocabulary of ", size,
          " pieces has no place ", unk_id, " for unknown text");
  b.model = {{"type", "Unigram"}, {"unk_id", unk_id}, {"byte_fallback", false}};
}

/// Where the vocabulary holds `text`; only with a score of 0, where `unscored` asks for that.
std::optional<std::int64_t> find_piece(const ClassBuilder& b, const std::string& text,
                                       bool unscored) {
  const Json& vocab = b.inputs().vocab;
  for (std::size_t i = 0; i < vocab.size(); ++i) {
    const bool same = vocab[i][0].is_string() && vocab[i][0].get_ref<const std::string&>() == text;
    if (same && (!unscored || vocab[i][1].get<double>() == 0)) return static_cast<std::int64_t>(i);
  }
  return std::nullopt;
}

void set_words(ClassBuilder& b, const std::string& scheme) {
  b.pre_tokenizer =
      sequence_of("pretokenizers", {{{"type", "WhitespaceSplit"}}, metaspace(scheme)});
  b.decoder = metaspace(scheme);
}

Json precompiled(const ClassBuilder& b) {
  return {{"type", "Precompiled"}, {"precompiled_charsmap", *b.inputs().charsmap}};
}

/// Quotes, accents, case and SentencePiece's own rules, as ALBERT and XLNet prepare texts.
void set_albert_normalizer(ClassBuilder& b, bool keep_accents, bool lower) {
  Json list = {literal_replace("``", "\""), literal_replace("''", "\"")};
  if (!keep_accents) {
    list.push_back({{"type", "NFKD"}});
    list.push_back({{"type", "StripAccents"}});
  }
  if (lower) list.push_back({{"type", "Lowercase"}});
  if (b.inputs().charsmap) list.push_back(precompiled(b));
  b.normalizer = sequence_of("normalizers", list);
}

std::string scheme_of(const ClassBuilder& b) {
  return b.flag("add_prefix_space", true) ? "always" : "never";
}

void set_template(ClassBuilder& b, const std::vector<TemplateItem>& single,
                  const std::vector<TemplateItem>& pair) {
  b.post_processor = [=](const AddedVocabulary& ids) { return make_template(ids, single, pair); };
}

void set_cls_and_sep(ClassBuilder& b) {
  const std::string cls = b.needed("cls_token");
  const std::string sep = b.needed("sep_token");
  set_template(b, {{cls}, {"$A"}, {sep}}, {{cls}, {"$A"}, {sep}, {"$B", 1}, {sep, 1}});
}

void set_bos_and_eos_twice(ClassBuilder& b) {
  const std::string bos = b.needed("bos_token");
  const std::string eos = b.needed("eos_token");
  set_template(b, {{bos}, {"$A"}, {eos}}, {{bos}, {"$A"}, {eos}, {eos}, {"$B"}, {eos}});
}

}  // namespace

void build_albert(ClassBuilder& b) {
  b.default_tokens({{"bos_token", "[CLS]"},
                    {"eos_token", "[SEP]"},
                    {"unk_token", "<unk>"},
                    {"sep_token", "[SEP]"},
                    {"pad_token", "<pad>"},
                    {"cls_token", "[CLS]"},
                    {"mask_token", "[MASK]"}});
  set_model(b, 1);
  set_albert_normalizer(b, b.flag("keep_accents", false), b.flag("do_lower_case", true));
  set_words(b, scheme_of(b));

  // Looked up before the tokens of other files join; a post processor of tokenizer.json goes first.
  const std::string cls = b.needed("cls_token");
  const std::string sep = b.needed("sep_token");
  b.default_post_processor =
      make_template(AddedVocabulary(b.inputs().vocab), {{cls}, {"$A"}, {sep}},
                    {{cls}, {"$A"}, {sep}, {"$B", 1}, {sep, 1}});
}

void build_t5(ClassBuilder& b) {
  b.default_tokens({{"eos_token", "</s>"}, {"unk_token", "<unk>"}, {"pad_token", "<pad>"}});
  const std::int64_t extra_ids = json_int(b.config(), "extra_ids", 0, 10000, 100);
  const auto is_extra = [](const SpecialToken& token) {
    return token.content.find("<extra_id_") != std::string::npos;
  };
  const auto& stated = b.tokens().additional;
  if (!stated || std::none_of(stated->begin(), stated->end(), is_extra)) {
    std::vector<std::string> extra;
    for (std::int64_t i = 0; i < extra_ids; ++i)
      extra.push_back("<extra_id_" + std::to_string(i) + ">");
    b.additional(extra);
  }

  set_model(b, 2);
  if (b.inputs().charsmap) b.normalizer = precompiled(b);
  set_words(b, "always");
  const std::string eos = b.needed("eos_token");
  set_template(b, {{"$A"}, {eos}}, {{"$A"}, {eos}, {"$B"}, {eos}});
}

void build_xlnet(ClassBuilder& b) {
  b.default_tokens({{"bos_token", "<s>"},
                    {"eos_token", "</s>"},
                    {"unk_token", "<unk>"},
                    {"sep_token", "<sep>"},
                    {"pad_token", "<pad>"},
                    {"cls_token", "<cls>"},
                    {"mask_token", "<mask>"}});
  if (!b.tokens().additional) b.additional({"<eop>", "<eod>"});
  b.token_with_flags("mask_token", true);
  set_model(b, b.inputs().unk_id.value_or(json_int(b.config(), "unk_id", 0, 1 << 26, 0)));
  b.config().value("keep_accents");  // stripped in any case
  set_albert_normalizer(b, false, b.flag("do_lower_case", false));
  set_words(b, "always");

  const std::string sep = b.needed("sep_token");
  const std::string cls = b.needed("cls_token");
  set_template(b, {{"$A"}, {sep}, {cls, 2}}, {{"$A"}, {sep}, {"$B", 1}, {sep, 1}, {cls, 2}});
}

void build_camembert(ClassBuilder& b) {
  b.default_fairseq_tokens();
  if (const auto& mask = b.tokens().named["mask_token"].token; mask && mask->plain) {
    b.token_with_flags("mask_token", true);
    b.tokens().named["mask_token"].token->special = true;
  }
  if (!b.tokens().additional) b.additional({"<s>NOTUSED", "</s>NOTUSED", "<unk>NOTUSED"});
  set_model(b, find_piece(b, b.text("unk_token"), false).value_or(0));
  if (b.inputs().charsmap) b.normalizer = precompiled(b);
  set_words(b, scheme_of(b));
  set_bos_and_eos_twice(b);
}

void build_xlm_roberta(ClassBuilder& b) {
  b.default_fairseq_tokens();
  set_model(b, 3);
  if (b.inputs().charsmap) b.normalizer = precompiled(b);
  set_words(b, scheme_of(b));
  set_bos_and_eos_twice(b);
}

void build_mbart(ClassBuilder& b) {
  b.default_fairseq_tokens();
  b.token_with_flags("mask_token", true);

  // The languages come first, then what else was stated.
  const std::vector<SpecialToken> stated =
      b.tokens().additional.value_or(std::vector<SpecialToken>());
  b.tokens().additional.reset();
  b.additional(mbart_languages());
  for (const SpecialToken& token : stated)
    if (std::find(b.tokens().additional->begin(), b.tokens().additional->end(), token) ==
        b.tokens().additional->end())
      b.tokens().additional->push_back(token);

  set_model(b, 3);
  set_words(b, "always");
  const std::string language = json_string(b.config(), "src_lang", "en_XX");
  const std::string eos = b.needed("eos_token");
  set_template(b, {{"$A"}, {eos}, {language}}, {{"$A"}, {"$B"}, {eos}, {language}});
}

void build_mbart50(ClassBuilder& b) {
  b.default_tokens({{"eos_token", "</s>"},
                    {"sep_token", "</s>"},
                    {"cls_token", "<s>"},
                    {"unk_token", "<unk>"},
                    {"pad_token", "<pad>"},
                    {"mask_token", "<mask>"}});
  b.token_with_flags("mask_token", true);
  b.additional(mbart50_languages());
  set_model(b, 3);
  Json list = Json::array();
  if (b.inputs().charsmap) list.push_back(precompiled(b));
  list.push_back(regex_replace(" {2,}", " "));
  b.normalizer = sequence_of("normalizers", list);
  b.pre_tokenizer = metaspace("always");
  b.decoder = metaspace("always");
  const std::string language = json_string(b.config(), "src_lang", "en_XX");
  const std::string eos = b.needed("eos_token");
  set_template(b, {{language}, {"$A"}, {eos}}, {{language}, {"$A"}, {"$B"}, {eos}});
}

void build_deberta_v2(ClassBuilder& b) {
  b.default_tokens({{"bos_token", "[CLS]"},
                    {"eos_token", "[SEP]"},
                    {"unk_token", "[UNK]"},
                    {"sep_token", "[SEP]"},
                    {"pad_token", "[PAD]"},
                    {"cls_token", "[CLS]"},
                    {"mask_token", "[MASK]"}});
  const std::int64_t stated =
      b.inputs().unk_id.value_or(json_int(b.config(), "unk_id", 0, 1 << 26, 1));
  set_model(b, find_piece(b, b.text("unk_token"), true).value_or(stated));

  Json list = Json::array();
  if (b.flag("do_lower_case", false)) list.push_back({{"type", "Lowercase"}});
  list.push_back(regex_replace(R"(\s{2,}|[\n\r\t])", " "));
  list.push_back({{"type", "NFC"}});
  list.push_back({{"type", "Strip"}, {"strip_left", false}, {"strip_right", true}});
  b.normalizer = sequence_of("normalizers", list);

  const std::string scheme = b.flag("add_prefix_space", true) ? "always" : "first";
  Json pre = Json::array();
  if (b.flag("split_by_punct", false))
    pre.push_back({{"type", "Punctuation"}, {"behavior", "Isolated"}});
  pre.push_back(metaspace(scheme));
  b.pre_tokenizer = sequence_of("pretokenizers", pre);
  b.decoder = metaspace(scheme);
  set_cls_and_sep(b);
}

void build_big_bird(ClassBuilder& b) {
  b.default_tokens({{"bos_token", "<s>"},
                    {"eos_token", "</s>"},
                    {"unk_token", "<unk>"},
                    {"sep_token", "[SEP]"},
                    {"pad_token", "<pad>"},
                    {"cls_token", "[CLS]"},
                    {"mask_token", "[MASK]"}});
  for (const char* key :
       {"bos_token", "eos_token", "unk_token", "pad_token", "cls_token", "sep_token"})
    b.token_with_flags(key);
  b.token_with_flags("mask_token", true);
  set_model(b, find_piece(b, b.text("unk_token"), true).value_or(100));
  b.normalizer = regex_replace(" {2,}", "\u2581");
  b.pre_tokenizer = metaspace(scheme_of(b));
  b.decoder = metaspace(scheme_of(b));
  set_cls_and_sep(b);
}

const std::vector<std::string>& mbart_languages() {
  static const std::vector<std::string> kLanguages = {
      "ar_AR", "cs_CZ", "de_DE", "en_XX", "es_XX", "et_EE", "fi_FI", "fr_XX", "gu_IN",
      "hi_IN", "it_IT", "ja_XX", "kk_KZ", "ko_KR", "lt_LT", "lv_LV", "my_MM", "ne_NP",
      "nl_XX", "ro_RO", "ru_RU", "si_LK", "tr_TR", "vi_VN", "zh_CN"};
  return kLanguages;
}

const std::vector<std::string>& mbart50_languages() {
  static const std::vector<std::string> kLanguages = [] {
    std::vector<std::string> all = mbart_languages();
    for (const char* added :
         {"af_ZA", "az_AZ", "bn_IN", "fa_IR", "he_IL", "hr_HR", "id_ID", "ka_GE", "km_KH",
          "mk_MK", "ml_IN", "mn_MN", "mr_IN", "pl_PL", "ps_AF", "pt_XX", "sv_SE", "sw_KE",
          "ta_IN", "te_IN", "th_TH", "tl_XX", "uk_UA", "ur_PK", "xh_ZA", "gl_ES", "sl_SI"})
      all.emplace_back(added);
    return all;
  }();
  return kLanguages;
}

}  // namespace quell
