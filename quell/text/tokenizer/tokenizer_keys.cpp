#include "quell/text/tokenizer/tokenizer_keys.h"

namespace quell {
namespace {

using Effect = KeyRule::Effect;

constexpr KeyRule kTokenizerRules[] = {
    {"version"},

    // Written by the library with every component, and without effect in it.
    {"*.trim_offsets"},
    {"*.add_prefix_space"},
    {"*.use_regex"},
    {"*.str_rep"},
    {"*.split"},
    {"model.max_input_chars_per_word"},
    {"model.dropout"},
    {"model.type"},
};

constexpr KeyRule kConfigRules[] = {
    // Where the files come from, and how they are loaded and saved.
    {"tokenizer_class"},
    {"name_or_path"},
    {"_name_or_path"},
    {"_commit_hash"},
    {"special_tokens_map_file"},
    {"tokenizer_file"},
    {"vocab_file"},
    {"merges_file"},
    {"processor_class"},
    {"transformers_version"},
    {"tokenizer_version"},
    {"backend"},
    {"files_loaded"},
    {"is_local"},
    {"local_files_only"},
    {"use_fast"},
    {"from_slow"},
    {"verbose"},
    {"vocab_type"},
    {"device_map"},

    // Of chats, speech and translation, which are none of a tokenizer's business here.
    {"chat_template"},
    {"chat_control_tokens"},
    {"response_template"},
    {"response_schema"},
    {"use_default_system_prompt"},
    {"model_input_names"},
    {"return_token_type_ids"},
    {"src_lang"},
    {"tgt_lang"},
    {"language"},
    {"task"},
    {"predict_timestamps"},

    // Of callers that cut and fill.
    {"max_length"},
    {"stride"},
    {"truncation_strategy"},
    {"truncation"},
    {"padding"},
    {"pad_to_multiple_of"},
    {"pad_token_type_id"},

    // What the classes of today do not look at, and what this class does not.
    {"do_basic_tokenize"},
    {"never_split"},
    {"errors"},
    {"sp_model_kwargs"},
    {"remove_space"},
    {"spaces_between_special_tokens"},
    {"do_lower_case"},
    {"lowercase"},
    {"do_lowercase"},
    {"strip_accents"},
    {"tokenize_chinese_chars"},
    {"handle_chinese_chars"},
    {"clean_text"},
    {"wordpieces_prefix"},
    {"keep_accents"},
    {"add_prefix_space"},
    {"trim_offsets"},
    {"legacy"},
    {"add_bos_token"},
    {"add_eos_token"},
    {"extra_ids"},
    {"unk_id"},
    {"split_by_punct"},
    {"*_token_id"},
    {"additional_special_tokens_ids"},
    {"added_tokens_decoder"},
    {"additional_special_tokens"},
    {"extra_special_tokens"},
    {"*_token", Effect::kNone},

    // The reference does something else.
    {"init_inputs", Effect::kChangesResults, "[null, []]", "arguments for the tokenizer's class"},
    {"fast_tokenizer_files", Effect::kChangesResults, "[null, [], [\"tokenizer.json\"]]",
     "another file than tokenizer.json"},
    {"fix_mistral_regex", Effect::kChangesResults, "[null, false]",
     "another pattern for some models"},
    {"tokenizer_object", Effect::kChangesResults, "[null]", "a tokenizer inside the settings"},
    {"gguf_file", Effect::kChangesResults, "[null]", "a tokenizer inside a GGUF file"},
};

}  // namespace

std::span<const KeyRule> tokenizer_key_rules() { return kTokenizerRules; }
std::span<const KeyRule> tokenizer_config_key_rules() { return kConfigRules; }

}  // namespace quell
