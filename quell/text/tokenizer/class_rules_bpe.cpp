// Classes with a BPE vocabulary: of bytes (vocab.json with merges.txt), or of characters
// (SentencePiece).
#include <algorithm>

#include "quell/base/error.h"
#include "quell/text/tokenizer/class_rules.h"

namespace quell {
namespace {

void set_byte_level(ClassBuilder& b, bool add_prefix_space) {
  b.pre_tokenizer = {{"type", "ByteLevel"}, {"add_prefix_space", add_prefix_space}};
  b.model = {{"type", "BPE"}};
  b.decoder = {{"type", "ByteLevel"}};
}

void set_roberta_processing(ClassBuilder& b, const std::string& sep, const std::string& cls,
                            bool trim, bool prefix) {
  b.post_processor = [=](const AddedVocabulary& ids) -> Json {
    const auto id = [&](const std::string& token) {
      const auto found = ids.id_of(token);
      require(found.has_value(), ErrorCode::kInvalidInput, "special token \"", token,
              "\" is not in the vocabulary");
      return *found;
    };
    return {{"type", "RobertaProcessing"},
            {"sep", {sep, id(sep)}},
            {"cls", {cls, id(cls)}},
            {"trim_offsets", trim},
            {"add_prefix_space", prefix}};
  };
}

void set_split(ClassBuilder& b, const std::string& pattern) {
  set_byte_level(b, false);
  b.normalizer = {{"type", "NFC"}};
  const Json split = {{"type", "Split"},
                      {"pattern", {{"Regex", pattern}}},
                      {"behavior", "Isolated"},
                      {"invert", false}};
  const Json bytes = {{"type", "ByteLevel"},
                      {"add_prefix_space", b.flag("add_prefix_space", false)},
                      {"use_regex", false}};
  b.pre_tokenizer = sequence_of("pretokenizers", {split, bytes});
}

void default_qwen_tokens(ClassBuilder& b) {
  b.default_tokens({{"unk_token", "<|endoftext|>"},
                    {"eos_token", "<|endoftext|>"},
                    {"pad_token", "<|endoftext|>"}});
}

Json byte_fallback_decoder(bool strip) {
  Json list = {literal_replace("\u2581", " "), {{"type", "ByteFallback"}}, {{"type", "Fuse"}}};
  if (strip) list.push_back({{"type", "Strip"}, {"content", " "}, {"start", 1}, {"stop", 0}});
  return sequence_of("decoders", list);
}

}  // namespace

void build_gpt2(ClassBuilder& b) {
  b.default_tokens({{"unk_token", "<|endoftext|>"},
                    {"bos_token", "<|endoftext|>"},
                    {"eos_token", "<|endoftext|>"}});
  set_byte_level(b, b.flag("add_prefix_space", false));
}

void build_gpt_neox(ClassBuilder& b) {
  build_gpt2(b);
  b.default_token("pad_token", "<|padding|>");
  b.normalizer = {{"type", "NFC"}};
  b.states_bos_and_eos = true;
}

void build_codegen(ClassBuilder& b) {
  build_gpt2(b);
  b.default_post_processor = {
      {"type", "ByteLevel"}, {"add_prefix_space", true}, {"trim_offsets", false}};
}

void build_roberta(ClassBuilder& b) {
  b.default_fairseq_tokens();
  const bool prefix = b.flag("add_prefix_space", false);
  set_byte_level(b, prefix);
  set_roberta_processing(b, b.text("sep_token"), b.text("cls_token"), b.flag("trim_offsets", true),
                         prefix);
}

void build_deberta(ClassBuilder& b) {
  b.default_tokens({{"bos_token", "[CLS]"},
                    {"eos_token", "[SEP]"},
                    {"sep_token", "[SEP]"},
                    {"cls_token", "[CLS]"},
                    {"unk_token", "[UNK]"},
                    {"pad_token", "[PAD]"},
                    {"mask_token", "[MASK]"}});
  set_byte_level(b, b.flag("add_prefix_space", false));
  const std::string cls = b.text("cls_token");
  const std::string sep = b.text("sep_token");
  b.post_processor = [=](const AddedVocabulary& ids) {
    return make_template(ids, {{cls}, {"$A"}, {sep}}, {{cls}, {"$A"}, {sep}, {sep}, {"$B"}, {sep}});
  };
}

void build_blenderbot(ClassBuilder& b) {
  b.default_fairseq_tokens();
  b.token_with_flags("mask_token", true);
  set_byte_level(b, b.flag("add_prefix_space", true));
}

void build_qwen2(ClassBuilder& b) {
  default_qwen_tokens(b);
  set_split(
      b,
      R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)");
  b.marks_all_special = true;
}

void build_qwen3_5(ClassBuilder& b) {
  default_qwen_tokens(b);
  set_split(
      b,
      R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)");
}

void build_clip(ClassBuilder& b) {
  b.default_tokens({{"unk_token", "<|endoftext|>"},
                    {"bos_token", "<|startoftext|>"},
                    {"eos_token", "<|endoftext|>"},
                    {"pad_token", "<|endoftext|>"}});
  b.normalizer = sequence_of(
      "normalizers", {{{"type", "NFC"}}, regex_replace(R"(\s+)", " "), {{"type", "Lowercase"}}});
  const char* pattern =
      R"(<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+)";
  const Json split = {{"type", "Split"},
                      {"pattern", {{"Regex", pattern}}},
                      {"behavior", "Removed"},
                      {"invert", true}};
  b.pre_tokenizer =
      sequence_of("pretokenizers", {split, {{"type", "ByteLevel"}, {"add_prefix_space", false}}});
  b.model = {{"type", "BPE"}, {"end_of_word_suffix", "</w>"}, {"unk_token", b.text("unk_token")}};
  b.decoder = {{"type", "ByteLevel"}};
  set_roberta_processing(b, b.text("eos_token"), b.text("bos_token"), false, false);
}

void build_herbert(ClassBuilder& b) {
  b.default_tokens({{"cls_token", "<s>"},
                    {"unk_token", "<unk>"},
                    {"pad_token", "<pad>"},
                    {"mask_token", "<mask>"},
                    {"sep_token", "</s>"}});
  b.normalizer = {{"type", "BertNormalizer"}, {"lowercase", false}, {"strip_accents", false}};
  b.pre_tokenizer = {{"type", "BertPreTokenizer"}};
  b.model = {{"type", "BPE"}, {"end_of_word_suffix", "</w>"}, {"unk_token", b.text("unk_token")}};
  b.decoder = {{"type", "BPEDecoder"}, {"suffix", "</w>"}};
  const Json processing = {{"type", "BertProcessing"},
                           {"sep", {b.text("sep_token"), 2}},
                           {"cls", {b.text("cls_token"), 0}}};
  b.post_processor = [=](const AddedVocabulary&) { return processing; };
}

void build_openai_gpt(ClassBuilder& b) {
  b.default_token("unk_token", "<unk>");
  b.normalizer = {{"type", "BertNormalizer"}, {"lowercase", true}};
  b.pre_tokenizer = {{"type", "BertPreTokenizer"}};
  b.model = {{"type", "BPE"}, {"end_of_word_suffix", "</w>"}, {"unk_token", b.text("unk_token")}};
  b.decoder = {{"type", "BPEDecoder"}, {"suffix", "</w>"}};
}

void build_llama(ClassBuilder& b) {
  b.default_tokens({{"unk_token", "<unk>"}, {"bos_token", "<s>"}, {"eos_token", "</s>"}});
  const bool prefix = b.flag("add_prefix_space", true);
  const char* scheme = b.flag("legacy", false) ? "always" : "first";
  b.pre_tokenizer = metaspace(prefix ? scheme : "never", false);
  b.model = {{"type", "BPE"}, {"fuse_unk", true}, {"byte_fallback", true}};
  b.decoder = byte_fallback_decoder(prefix);
}

void build_code_llama(ClassBuilder& b) {
  b.default_tokens({{"unk_token", "<unk>"}, {"bos_token", "<s>"}, {"eos_token", "</s>"}});
  constexpr std::pair<const char*, const char*> kInfilling[] = {{"prefix_token", "\u2581<PRE>"},
                                                                {"middle_token", "\u2581<MID>"},
                                                                {"suffix_token", "\u2581<SUF>"},
                                                                {"eot_token", "\u2581<EOT>"},
                                                                {"fill_token", "<FILL_ME>"}};
  std::vector<std::pair<std::string, SpecialToken>> specific;
  for (const auto& [key, content] : kInfilling) {
    b.additional({content});
    SpecialToken token;
    token.content = content;
    specific.emplace_back(key, token);
  }
  for (const auto& [key, token] : b.tokens().model_specific) {
    const auto same = std::find_if(specific.begin(), specific.end(),
                                   [&, k = key](const auto& entry) { return entry.first == k; });
    if (same == specific.end())
      specific.emplace_back(key, token);
    else
      same->second = token;
  }
  b.tokens().model_specific = std::move(specific);

  b.pre_tokenizer = metaspace(b.flag("add_prefix_space", true) ? "first" : "never", false);
  b.model = {{"type", "BPE"},
             {"fuse_unk", true},
             {"byte_fallback", true},
             {"unk_token", b.text("unk_token")}};
  b.decoder = byte_fallback_decoder(true);
  const bool stated = b.config().contains("add_bos_token") && !b.inputs().from_tokenizer_json;
  if (!stated) b.add_bos = true;
  b.states_bos_and_eos = true;
}

void build_gemma(ClassBuilder& b) {
  b.default_tokens({{"unk_token", "<unk>"},
                    {"bos_token", "<bos>"},
                    {"eos_token", "<eos>"},
                    {"pad_token", "<pad>"},
                    {"mask_token", "<mask>"}});
  b.normalizer = literal_replace(" ", "\u2581");
  b.pre_tokenizer = {{"type", "Split"},
                     {"pattern", {{"String", " "}}},
                     {"behavior", "MergedWithPrevious"},
                     {"invert", false}};
  b.model = {{"type", "BPE"},
             {"fuse_unk", true},
             {"byte_fallback", true},
             {"unk_token", b.text("unk_token")}};
  b.decoder = byte_fallback_decoder(false);
}

}  // namespace quell
