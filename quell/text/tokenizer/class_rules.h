// What the tokenizer classes of transformers (5.24) make of a vocabulary and the settings beside
// it: each builds the tokenizer.json object that it stands for.
#pragma once

#include <functional>
#include <initializer_list>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "quell/io/json.h"
#include "quell/text/tokenizer/special_tokens.h"

namespace quell {

/// A vocabulary with everything that lies beside it.
struct ClassInputs {
  Settings config;  ///< tokenizer_config.json
  TokenSettings tokens;
  Json vocab;   ///< token -> id, or a list of [piece, score] of a Unigram model
  Json merges;  ///< of a BPE model
  std::optional<std::string> charsmap;  ///< SentencePiece's rules, in base64
  std::optional<std::int64_t> unk_id;   ///< as a SentencePiece model states it
  std::vector<SpecialToken>
      present;  ///< added tokens that the tokenizer already has, in their order
  bool from_tokenizer_json = false;
  Json post_processor;  ///< of tokenizer.json
};

/// The tokenizer.json object under construction, and what a class still may decide.
class ClassBuilder {
 public:
  explicit ClassBuilder(ClassInputs inputs);

  const Settings& config() const { return in_.config; }
  const ClassInputs& inputs() const { return in_; }
  TokenSettings& tokens() { return in_.tokens; }
  bool flag(const char* key, bool fallback) const { return json_bool(in_.config, key, fallback); }

  /// What the class takes for a named token that no file mentions.
  void default_token(const std::string& key, const std::string& content);
  void default_tokens(std::initializer_list<std::pair<const char*, const char*>> tokens);
  /// Those of RoBERTa, and of the models that fairseq made after it.
  void default_fairseq_tokens();
  /// A token stated as a string becomes one with this flag; the others get their usual values.
  void token_with_flags(const std::string& key, bool lstrip = false);
  /// Text of a named token; "" where it is null.
  std::string text(const std::string& key) const;
  /// The same of a token that the class cannot do without. Throws Error(kUnsupported) naming file
  /// and key where it is null.
  std::string needed(const std::string& key) const;
  /// Tokens of the class itself beside the named ones; they count where no file states
  /// extra_special_tokens.
  void additional(const std::vector<std::string>& tokens);

  Json normalizer, pre_tokenizer, model, decoder;
  /// Called with the ids of all tokens; empty: transformers' own template of bos and eos.
  std::function<Json(const AddedVocabulary&)> post_processor;
  Json default_post_processor;  ///< counts where tokenizer.json has none
  bool add_bos = false, add_eos = false;
  bool states_bos_and_eos =
      false;  ///< add_bos and add_eos count even beside a post processor of tokenizer.json
  bool marks_all_special =
      false;  ///< all special tokens lose the flags that files give them (Qwen 2)

  /// The vocabulary with all tokens beside it. Warns of a token that gets another id than a file
  /// states.
  AddedVocabulary add_tokens() const;
  /// The whole object.
  Json finish();
  Json take_vocab() { return std::move(in_.vocab); }

 private:
  Json bos_and_eos(const AddedVocabulary& vocabulary) const;

  ClassInputs in_;
};

struct ClassRule {
  enum class Kind { kWordPiece, kBpe, kUnigram };

  const char* name;
  Kind kind;
  const char* file;  ///< of the vocabulary: vocab.txt, vocab.json (with merges.txt) or a
                     ///< SentencePiece model
  void (*build)(ClassBuilder&);
};
/// Null for a class without rules here. `name` without "Fast".
const ClassRule* find_class_rule(const std::string& name);
/// Whether transformers of today has no class of this name, though it has rules here: they serve
/// where there is no tokenizer.json.
bool is_former_class(const std::string& name);
/// Names of all classes with rules, older names included.
std::vector<std::string> class_names();

// Parts of tokenizer.json objects.
struct TemplateItem {
  std::string token;  ///< "$A" and "$B" are the sequences
  int type_id = 0;
  std::optional<std::int64_t> id = std::nullopt;  ///< in the stead of the vocabulary's
};
Json make_template(const AddedVocabulary& ids, const std::vector<TemplateItem>& single,
                   const std::vector<TemplateItem>& pair);
Json metaspace(const std::string& scheme, bool split = true);
Json regex_replace(const std::string& pattern, const std::string& content);
Json literal_replace(const std::string& text, const std::string& content);
Json sequence_of(const char* key, Json list);  ///< {"type": "Sequence", key: list}

// The classes, by the kind of their vocabulary.
void build_bert(ClassBuilder& b);
void build_dpr(ClassBuilder& b);
void build_mpnet(ClassBuilder& b);
void build_funnel(ClassBuilder& b);
void build_bert_japanese(ClassBuilder& b);

void build_gpt2(ClassBuilder& b);
void build_gpt_neox(ClassBuilder& b);
void build_codegen(ClassBuilder& b);
void build_roberta(ClassBuilder& b);
void build_deberta(ClassBuilder& b);
void build_blenderbot(ClassBuilder& b);
void build_qwen2(ClassBuilder& b);
void build_qwen3_5(ClassBuilder& b);
void build_clip(ClassBuilder& b);
void build_herbert(ClassBuilder& b);
void build_openai_gpt(ClassBuilder& b);
void build_llama(ClassBuilder& b);
void build_code_llama(ClassBuilder& b);
void build_gemma(ClassBuilder& b);

void build_albert(ClassBuilder& b);
void build_t5(ClassBuilder& b);
void build_xlnet(ClassBuilder& b);
void build_camembert(ClassBuilder& b);
void build_xlm_roberta(ClassBuilder& b);
void build_mbart(ClassBuilder& b);
void build_mbart50(ClassBuilder& b);
void build_deberta_v2(ClassBuilder& b);
void build_big_bird(ClassBuilder& b);
const std::vector<std::string>& mbart_languages();
const std::vector<std::string>& mbart50_languages();

}  // namespace quell
