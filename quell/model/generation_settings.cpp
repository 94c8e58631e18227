#include "quell/model/generation_settings.h"

#include <algorithm>

#include "quell/base/error.h"
#include "quell/io/json.h"
#include "quell/model/family.h"

namespace quell {
namespace {

using Effect = KeyRule::Effect;

/// Of drawing tokens: settings that greedy decoding without beams has no use for, and the value
/// that means the same.
constexpr std::pair<const char*, const char*> kDrawing[] = {
    {"do_sample", "false"},    {"temperature", "1.0"},      {"top_k", "50"},
    {"top_p", "1.0"},          {"min_p", "null"},           {"top_h", "null"},
    {"typical_p", "1.0"},      {"epsilon_cutoff", "0.0"},   {"eta_cutoff", "0.0"},
    {"num_beams", "1"},        {"num_beam_groups", "1"},    {"diversity_penalty", "0.0"},
    {"length_penalty", "1.0"}, {"early_stopping", "false"}, {"num_return_sequences", "1"},
};

/// With which the reference chooses other tokens, and the values with which it does not.
constexpr KeyRule kUnsupported[] = {
    {"sequence_bias", Effect::kChangesResults, "[null]", "a bias of sequences"},
    {"guidance_scale", Effect::kChangesResults, "[null, 1, 1.0]", "classifier-free guidance"},
    {"encoder_repetition_penalty", Effect::kChangesResults, "[null, 1, 1.0]",
     "a penalty for tokens of the input"},
    {"encoder_no_repeat_ngram_size", Effect::kChangesResults, "[null, 0]",
     "a ban on what the input says"},
    {"exponential_decay_length_penalty", Effect::kChangesResults, "[null]",
     "a penalty that grows with the length"},
    {"forced_decoder_ids", Effect::kChangesResults, "[null, []]",
     "tokens that are forced at their places"},
    {"stop_strings", Effect::kChangesResults, "[null, []]", "strings that end the text"},
    {"watermarking_config", Effect::kChangesResults, "[null]", "a watermark"},
    {"token_healing", Effect::kChangesResults, "[null, false]",
     "healing of the prompt's last token"},
    {"penalty_alpha", Effect::kChangesResults, "[null, 0, 0.0]", "contrastive search"},
    {"dola_layers", Effect::kChangesResults, "[null]", "contrast between layers"},
    {"constraints", Effect::kChangesResults, "[null, []]", "constraints"},
    {"force_words_ids", Effect::kChangesResults, "[null, []]", "words that must come"},
};

constexpr KeyRule kHarmless[] = {
    {"transformers_version"},
    {"_from_model_config"},
    {"_commit_hash"},
    {"bos_token_id"},
    {"pad_token_id"},
    {"sep_token_id"},
    // How it is computed, and what is handed back beside the text.
    {"use_cache"},
    {"cache_*"},
    {"max_cache_len"},
    {"output_*"},
    {"return_dict_in_generate"},
    {"renormalize_logits"},
    {"remove_invalid_values"},
    {"low_memory"},
    {"compile_config"},
    {"disable_compile"},
    {"prefill_chunk_size"},
    {"continuous_batching_config"},
    // A second model that only makes it faster.
    {"is_assistant"},
    {"num_assistant_tokens*"},
    {"assistant_*"},
    {"target_lookbehind"},
    {"prompt_lookup_num_tokens"},
    {"max_matching_ngram_size"},
    {"speculation_type"},
    {"use_mtp"},
};

std::optional<std::int32_t> read_id(const Settings& settings, const char* key) {
  const std::optional<std::int64_t> id = read_optional_int(settings, key, 0, kMaxDim);
  if (!id) return std::nullopt;
  return static_cast<std::int32_t>(*id);
}

std::vector<std::vector<std::int32_t>> read_bad_words(const Settings& settings,
                                                      const std::vector<std::int32_t>& eos) {
  const Json& words = settings.value("bad_words_ids");
  require(words.is_null() || words.is_array(), ErrorCode::kInvalidInput,
          "key \"bad_words_ids\": must be a list of lists");

  std::vector<std::vector<std::int32_t>> out;
  for (const Json& word : words.is_array() ? words : Json::array()) {
    const Settings one(Json{{"bad_words_ids", word}});
    std::vector<std::int32_t> ids = read_token_ids(one, "bad_words_ids");
    const bool is_end = ids.size() == 1 && std::find(eos.begin(), eos.end(), ids[0]) != eos.end();
    if (!ids.empty() && !is_end) out.push_back(std::move(ids));
  }
  return out;
}

std::vector<std::string> read_drawing(const Settings& settings) {
  std::vector<std::string> out;
  for (const auto& [key, plain] : kDrawing)
    if (const Json& value = settings.value(key); !value.is_null() && value != Json::parse(plain))
      out.push_back(std::string(key) + ": " + value.dump());

  // The others have no effect without one of these.
  const bool sampled = json_bool(settings, "do_sample", false),
             beams = json_int(settings, "num_beams", 1, 1 << 20, 1) > 1;
  const bool several = json_int(settings, "num_return_sequences", 1, 1 << 20, 1) > 1;
  if (!sampled && !beams && !several) out.clear();
  return out;
}

void refuse_what_is_unsupported(const Settings& settings) {
  for (const KeyRule& rule : kUnsupported) {
    const std::string key(rule.key);
    const Json neutral = Json::parse(rule.neutral);
    if (std::find(neutral.begin(), neutral.end(), settings.value(key)) == neutral.end())
      settings.refuse(key, std::string(rule.what) + " is not supported in generation");
  }
}

GenerationSettings read_from(const Settings& s) {
  refuse_what_is_unsupported(s);

  GenerationSettings out;
  out.eos_token_ids = read_token_ids(s, "eos_token_id");
  out.decoder_start_token_id = read_id(s, "decoder_start_token_id");
  const std::optional<std::int32_t> bos = read_id(s, "bos_token_id");
  if (!out.decoder_start_token_id) out.decoder_start_token_id = bos;

  out.forced_bos_token_id = read_id(s, "forced_bos_token_id");
  if (json_bool(s, "force_bos_token_to_be_generated", false)) out.forced_bos_token_id = bos;
  out.forced_eos_token_ids = read_token_ids(s, "forced_eos_token_id");

  out.repetition_penalty = json_number(s, "repetition_penalty", 1);
  require(out.repetition_penalty > 0, ErrorCode::kInvalidInput,
          "key \"repetition_penalty\": must be positive");
  constexpr std::int64_t kLongest = std::int64_t{1} << 31;
  out.no_repeat_ngram_size = json_int(s, "no_repeat_ngram_size", 0, kLongest, 0);
  out.min_length = json_int(s, "min_length", 0, kLongest, 0);
  out.min_new_tokens = json_int(s, "min_new_tokens", 0, kLongest, 0);
  out.max_length = read_optional_int(s, "max_length", 1, kLongest);
  out.max_new_tokens = read_optional_int(s, "max_new_tokens", 1, kLongest);
  out.suppress_tokens = read_token_ids(s, "suppress_tokens");
  out.begin_suppress_tokens = read_token_ids(s, "begin_suppress_tokens");
  out.bad_words = read_bad_words(s, out.eos_token_ids);
  out.drawing = read_drawing(s);
  return out;
}

}  // namespace

GenerationSettings read_generation_settings(const ModelDirectory& directory) {
  constexpr const char* kFile = "generation_config.json";

  const bool own_file = directory.has(kFile);
  const Settings settings =
      own_file ? directory.read(kFile) : directory.read_if_there("config.json");
  try {
    GenerationSettings out = read_from(settings);
    if (own_file) directory.finish(settings, kHarmless);
    return out;
  } catch (const Error& e) {
    const std::string message = e.what();
    throw Error(e.code(),
                message.starts_with(settings.file()) ? message : settings.file() + ": " + message);
  }
}

}  // namespace quell
