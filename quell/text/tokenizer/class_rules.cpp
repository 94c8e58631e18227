#include "quell/text/tokenizer/class_rules.h"

#include <algorithm>
#include <set>

#include "quell/base/error.h"
#include "quell/base/log.h"

namespace quell {
namespace {

using Kind = ClassRule::Kind;

constexpr ClassRule kRules[] = {
    {"BertTokenizer", Kind::kWordPiece, "vocab.txt", build_bert},
    {"DPRContextEncoderTokenizer", Kind::kWordPiece, "vocab.txt", build_dpr},
    {"MPNetTokenizer", Kind::kWordPiece, "vocab.txt", build_mpnet},
    {"FunnelTokenizer", Kind::kWordPiece, "vocab.txt", build_funnel},
    {"BertJapaneseTokenizer", Kind::kWordPiece, "vocab.txt", build_bert_japanese},
    {"GPT2Tokenizer", Kind::kBpe, "vocab.json", build_gpt2},
    {"GPTNeoXTokenizer", Kind::kBpe, "vocab.json", build_gpt_neox},
    {"CodeGenTokenizer", Kind::kBpe, "vocab.json", build_codegen},
    {"RobertaTokenizer", Kind::kBpe, "vocab.json", build_roberta},
    {"DebertaTokenizer", Kind::kBpe, "vocab.json", build_deberta},
    {"BlenderbotTokenizer", Kind::kBpe, "vocab.json", build_blenderbot},
    {"Qwen2Tokenizer", Kind::kBpe, "vocab.json", build_qwen2},
    {"Qwen3_5Tokenizer", Kind::kBpe, "vocab.json", build_qwen3_5},
    {"CLIPTokenizer", Kind::kBpe, "vocab.json", build_clip},
    {"HerbertTokenizer", Kind::kBpe, "vocab.json", build_herbert},
    {"OpenAIGPTTokenizer", Kind::kBpe, "vocab.json", build_openai_gpt},
    {"LlamaTokenizer", Kind::kBpe, "tokenizer.model", build_llama},
    {"CodeLlamaTokenizer", Kind::kBpe, "tokenizer.model", build_code_llama},
    {"GemmaTokenizer", Kind::kBpe, "tokenizer.model", build_gemma},
    {"AlbertTokenizer", Kind::kUnigram, "spiece.model", build_albert},
    {"T5Tokenizer", Kind::kUnigram, "spiece.model", build_t5},
    {"XLNetTokenizer", Kind::kUnigram, "spiece.model", build_xlnet},
    {"CamembertTokenizer", Kind::kUnigram, "sentencepiece.bpe.model", build_camembert},
    {"XLMRobertaTokenizer", Kind::kUnigram, "sentencepiece.bpe.model", build_xlm_roberta},
    {"MBartTokenizer", Kind::kUnigram, "sentencepiece.bpe.model", build_mbart},
    {"MBart50Tokenizer", Kind::kUnigram, "sentencepiece.bpe.model", build_mbart50},
    {"DebertaV2Tokenizer", Kind::kUnigram, "spm.model", build_deberta_v2},
    {"BigBirdTokenizer", Kind::kUnigram, "spiece.model", build_big_bird}};

/// A class that another one stands for.
struct Alias {
  std::string_view name;
  std::string_view stands_for;
  bool of_today;  ///< transformers 5.24 has it; of the others it knows no rules, and takes a
                  ///< tokenizer.json as it is
};

constexpr Alias kAliases[] = {{"DistilBertTokenizer", "BertTokenizer", true},
                              {"ElectraTokenizer", "BertTokenizer", true},
                              {"MobileBertTokenizer", "BertTokenizer", true},
                              {"SqueezeBertTokenizer", "BertTokenizer", true},
                              {"ConvBertTokenizer", "BertTokenizer", true},
                              {"LayoutLMTokenizer", "BertTokenizer", true},
                              {"LxmertTokenizer", "BertTokenizer", true},
                              {"RetriBertTokenizer", "BertTokenizer", false},
                              {"RealmTokenizer", "BertTokenizer", false},
                              {"NomicBertTokenizer", "BertTokenizer", false},
                              {"DPRQuestionEncoderTokenizer", "DPRContextEncoderTokenizer", true},
                              {"DPRReaderTokenizer", "DPRContextEncoderTokenizer", true},
                              {"BartTokenizer", "RobertaTokenizer", true},
                              {"LongformerTokenizer", "RobertaTokenizer", true},
                              {"LEDTokenizer", "RobertaTokenizer", true},
                              {"MvpTokenizer", "RobertaTokenizer", true},
                              {"OPTTokenizer", "GPT2Tokenizer", false},
                              {"MT5Tokenizer", "T5Tokenizer", false}};

const Alias* find_alias(std::string_view name) {
  const auto* alias = std::find_if(std::begin(kAliases), std::end(kAliases),
                                   [&](const Alias& a) { return a.name == name; });
  return alias == std::end(kAliases) ? nullptr : alias;
}

}  // namespace

const ClassRule* find_class_rule(const std::string& name) {
  const Alias* alias = find_alias(name);
  const std::string_view wanted = alias ? alias->stands_for : std::string_view(name);
  const auto* rule = std::find_if(std::begin(kRules), std::end(kRules),
                                  [&](const ClassRule& r) { return wanted == r.name; });
  return rule == std::end(kRules) ? nullptr : rule;
}

bool is_former_class(const std::string& name) {
  const Alias* alias = find_alias(name);
  return alias && !alias->of_today;
}

std::vector<std::string> class_names() {
  std::vector<std::string> names;
  for (const ClassRule& rule : kRules) names.emplace_back(rule.name);
  for (const Alias& alias : kAliases) names.emplace_back(alias.name);
  std::sort(names.begin(), names.end());
  return names;
}

ClassBuilder::ClassBuilder(ClassInputs inputs) : in_(std::move(inputs)) {
  // Beside a tokenizer.json its post processor decides, and these two are not looked at.
  const bool stated = in_.config.contains("add_bos_token") || in_.config.contains("add_eos_token");
  const bool bos = json_bool(in_.config, "add_bos_token", false);
  const bool eos = json_bool(in_.config, "add_eos_token", false);
  if (in_.from_tokenizer_json) return;
  states_bos_and_eos = stated;
  add_bos = bos;
  add_eos = eos;
}

void ClassBuilder::default_token(const std::string& key, const std::string& content) {
  NamedToken& named = in_.tokens.named[key];
  if (named.mentioned) return;
  named.mentioned = true;
  named.token.emplace();
  named.token->content = content;
}

void ClassBuilder::default_tokens(
    std::initializer_list<std::pair<const char*, const char*>> tokens) {
  for (const auto& [key, content] : tokens) default_token(key, content);
}

void ClassBuilder::default_fairseq_tokens() {
  default_tokens({{"bos_token", "<s>"},
                  {"eos_token", "</s>"},
                  {"sep_token", "</s>"},
                  {"cls_token", "<s>"},
                  {"unk_token", "<unk>"},
                  {"pad_token", "<pad>"},
                  {"mask_token", "<mask>"}});
}

void ClassBuilder::token_with_flags(const std::string& key, bool lstrip) {
  std::optional<SpecialToken>& token = in_.tokens.named[key].token;
  if (!token || !token->plain) return;
  token = SpecialToken::with_flags(token->content);
  token->lstrip = lstrip;
  token->rstrip = false;
}

std::string ClassBuilder::text(const std::string& key) const {
  const auto found = in_.tokens.named.find(key);
  return found == in_.tokens.named.end() || !found->second.token ? ""
                                                                 : found->second.token->content;
}

std::string ClassBuilder::needed(const std::string& key) const {
  const std::string content = text(key);
  if (!content.empty()) return content;
  const auto found = in_.tokens.named.find(key);
  const bool has_file = found != in_.tokens.named.end() && !found->second.file.empty();
  throw Error(
      ErrorCode::kUnsupported,
      (has_file ? found->second.file : in_.config.file()) + ": key \"" + key +
          "\" is null or empty; the class cannot do without this token, so state one of the "
          "vocabulary");
}

void ClassBuilder::additional(const std::vector<std::string>& tokens) {
  if (!in_.tokens.additional) in_.tokens.additional.emplace();
  for (const std::string& content : tokens) {
    SpecialToken token;
    token.content = content;
    in_.tokens.additional->push_back(token);
  }
}

AddedVocabulary ClassBuilder::add_tokens() const {
  const TokenSettings& tokens = in_.tokens;
  AddedVocabulary vocabulary(in_.vocab);
  std::vector<SpecialToken> to_add;
  std::set<std::string> known;
  for (const SpecialToken& token : in_.present) {
    vocabulary.add(token);
    known.insert(token.content);
  }
  for (const auto& [id, token] : tokens.added) {
    to_add.push_back(token);
    known.insert(token.content);
  }

  std::set<std::string> names;
  std::vector<SpecialToken> special;
  for (const char* key : kNamedTokens)
    if (const auto named = tokens.named.find(key);
        named != tokens.named.end() && named->second.token)
      special.push_back(*named->second.token);
  for (const auto& [key, token] : tokens.model_specific) special.push_back(token);
  for (const SpecialToken& token : special) names.insert(token.content);

  const std::vector<SpecialToken> none;
  const std::vector<SpecialToken>& extra = tokens.extra        ? *tokens.extra
                                           : tokens.additional ? *tokens.additional
                                                               : none;
  special.insert(special.end(), extra.begin(), extra.end());
  for (const SpecialToken& token : special)
    if (!known.contains(token.content) &&
        std::find(to_add.begin(), to_add.end(), token) == to_add.end())
      to_add.push_back(token);

  const auto add = [&](SpecialToken token) {
    if (token.plain || names.contains(token.content)) token.special = true;
    vocabulary.add(token);
  };
  for (const SpecialToken& token : to_add) add(token);
  if (marks_all_special)
    for (const SpecialToken& token : special) {
      SpecialToken bare;
      bare.content = token.content;
      add(bare);
    }

  for (const auto& [id, token] : tokens.added)
    if (const auto given = vocabulary.id_of(token.content); given && *given != id)
      log_once(LogLevel::kWarning,
               in_.config.file() + ": added token \"" + token.content + "\" is stated as " +
                   std::to_string(id) + "; like transformers, Quell gives it " +
                   std::to_string(*given) + ", the next id behind the vocabulary");
  return vocabulary;
}

Json ClassBuilder::bos_and_eos(const AddedVocabulary& vocabulary) const {
  const std::string bos = text("bos_token");
  const std::string eos = text("eos_token");
  const bool front = add_bos && !bos.empty();
  const bool back = add_eos && !eos.empty();

  std::vector<TemplateItem> single;
  std::vector<TemplateItem> second;
  if (front) single.push_back({bos, 0});
  single.push_back({"$A", 0});
  if (back) single.push_back({eos, 0});
  if (front) second.push_back({bos, 1});
  second.push_back({"$B", 1});
  if (back) second.push_back({eos, 1});

  std::vector<TemplateItem> pair = single;
  pair.insert(pair.end(), second.begin(), second.end());
  return make_template(vocabulary, single, pair);
}

Json ClassBuilder::finish() {
  const AddedVocabulary vocabulary = add_tokens();
  Json post = in_.post_processor.is_null() ? default_post_processor : in_.post_processor;
  if (post_processor)
    post = post_processor(vocabulary);
  else if (post.is_null() || states_bos_and_eos)
    post = bos_and_eos(vocabulary);

  model["vocab"] = std::move(in_.vocab);
  if (model["type"] == "BPE") model["merges"] = std::move(in_.merges);
  return {{"added_tokens", vocabulary.list()},
          {"normalizer", normalizer},
          {"pre_tokenizer", pre_tokenizer},
          {"model", std::move(model)},
          {"post_processor", post},
          {"decoder", decoder}};
}

Json make_template(const AddedVocabulary& ids, const std::vector<TemplateItem>& single,
                   const std::vector<TemplateItem>& pair) {
  Json specials = Json::object();
  const auto pieces = [&](const std::vector<TemplateItem>& items) {
    Json list = Json::array();
    for (const TemplateItem& item : items) {
      if (item.token == "$A" || item.token == "$B") {
        list.push_back({{"Sequence", {{"id", item.token.substr(1)}, {"type_id", item.type_id}}}});
        continue;
      }
      const std::optional<std::int64_t> id = item.id ? item.id : ids.id_of(item.token);
      require(id.has_value(), ErrorCode::kInvalidInput, "special token \"", item.token,
              "\" is not in the vocabulary");
      specials[item.token] = {{"id", item.token}, {"ids", {*id}}, {"tokens", {item.token}}};
      list.push_back({{"SpecialToken", {{"id", item.token}, {"type_id", item.type_id}}}});
    }
    return list;
  };
  const Json first = pieces(single);
  const Json second = pieces(pair);
  return {{"type", "TemplateProcessing"},
          {"single", first},
          {"pair", second},
          {"special_tokens", specials}};
}

Json metaspace(const std::string& scheme, bool split) {
  return {{"type", "Metaspace"},
          {"replacement", "\u2581"},
          {"prepend_scheme", scheme},
          {"split", split}};
}

Json regex_replace(const std::string& pattern, const std::string& content) {
  return {{"type", "Replace"}, {"pattern", {{"Regex", pattern}}}, {"content", content}};
}

Json literal_replace(const std::string& text, const std::string& content) {
  return {{"type", "Replace"}, {"pattern", {{"String", text}}}, {"content", content}};
}

Json sequence_of(const char* key, Json list) {
  return {{"type", "Sequence"}, {key, std::move(list)}};
}

}  // namespace quell
