#include "quell/model/text_encoder.h"

#include <algorithm>

#include "quell/base/error.h"

namespace quell {
namespace {

/// Tokens of the prompt alone, without one that the tokenizer puts behind everything.
std::int32_t count_prompt(const Tokenizer& tokenizer, const std::string& prompt,
                          std::int64_t max_length) {
  const std::vector<std::int32_t> ids = tokenizer.encode(prompt, {.max_length = max_length}).ids;
  const bool ends_special = !ids.empty() && tokenizer.is_special(ids.back());
  return static_cast<std::int32_t>(ids.size()) - (ends_special ? 1 : 0);
}

}  // namespace

Tokenizer open_tokenizer(const Model& model) {
  Tokenizer tokenizer = Tokenizer::open(model.dir);
  if (model.text.lower_case) tokenizer.lower_case_first();
  const auto& truncation = tokenizer.defaults().truncation;
  if (model.text.truncate_left.value_or(truncation && truncation->truncate_left))
    tokenizer.truncate_left_by_default();
  return tokenizer;
}

std::unique_ptr<Tokenizer> open_tokenizer_for(const Dataset& data, const Model& model) {
  return data.holds_ids ? nullptr : std::make_unique<Tokenizer>(open_tokenizer(model));
}

std::int64_t longest_text(const Model& model) {
  const std::int64_t positions = model.spec.max_position_embeddings;
  return model.text.max_length > 0 ? std::min(model.text.max_length, positions) : positions;
}

std::string default_prompt(const Model& model) {
  const auto found = model.sentence.prompts.find(model.sentence.default_prompt);
  return found == model.sentence.prompts.end() ? "" : found->second;
}

void prepend_default_prompt(const Model& model, Dataset& data) {
  const std::string prompt = default_prompt(model);
  if (prompt.empty()) return;
  require(!data.holds_ids, ErrorCode::kInvalidInput, data.source,
          ": holds token ids, in front of which the model's default prompt \"",
          model.sentence.default_prompt, "\" cannot be put; give text");

  for (Example& e : data.examples)
    for (std::string& text : e.texts) text = prompt + text;
}

void note_default_prompt(const Model& model, const Tokenizer* tokenizer,
                         std::vector<TokenSequence>& sequences) {
  const std::string prompt = default_prompt(model);
  if (prompt.empty() || !model.sentence.leaves_out_prompts()) return;

  const std::int32_t length = count_prompt(*tokenizer, prompt, longest_text(model));
  for (TokenSequence& s : sequences) s.prompt_length = length;
}

TextEncoder::TextEncoder(const Model& model, std::int64_t max_length, std::string prompt)
    : model_(model),
      max_length_(max_length > 0 ? std::min(max_length, model.spec.max_position_embeddings)
                                 : longest_text(model)),
      prompt_(std::move(prompt)) {
  try {
    tokenizer_ = std::make_unique<Tokenizer>(open_tokenizer(model));
  } catch (const Error& e) {
    if (e.code() != ErrorCode::kIo) throw;
    why_no_tokenizer_ = e.what();
    return;
  }
  if (!prompt_.empty() && model.sentence.leaves_out_prompts())
    prompt_length_ = count_prompt(*tokenizer_, prompt_, max_length_);
}

TextEncoder::Encoded TextEncoder::encode(const std::string& text) const {
  require(tokenizer_ != nullptr, ErrorCode::kIo, why_no_tokenizer_);
  const std::string whole = prompt_ + text;
  Encoding encoding = tokenizer_->encode(whole);
  const bool cut = std::ssize(encoding.ids) > max_length_;
  if (cut) encoding = tokenizer_->encode(whole, {.max_length = max_length_});
  return {{std::move(encoding.ids), std::move(encoding.type_ids), {}, prompt_length_}, cut};
}

TextEncoder::Encoded TextEncoder::encode_pair(const std::string& first,
                                              const std::string& second) const {
  require(tokenizer_ != nullptr, ErrorCode::kIo, why_no_tokenizer_);
  const std::string whole = prompt_ + first;
  Encoding encoding = tokenizer_->encode_pair(whole, second);
  const bool cut = std::ssize(encoding.ids) > max_length_;
  if (cut) encoding = tokenizer_->encode_pair(whole, second, {.max_length = max_length_});
  return {{std::move(encoding.ids), std::move(encoding.type_ids), {}, prompt_length_}, cut};
}

TextEncoder::Encoded TextEncoder::encode(const Example& row) const {
  if (row.texts.size() == 2) return encode_pair(row.texts[0], row.texts[1]);
  if (row.texts.size() == 1) return encode(row.texts[0]);

  require(prompt_.empty(), ErrorCode::kInvalidInput,
          "a prompt cannot be put in front of token ids; give text");
  Encoded out{row.tokens, std::ssize(row.tokens.ids) > max_length_};
  const auto limit = static_cast<std::size_t>(max_length_);
  for (auto* ids : {&out.tokens.ids, &out.tokens.type_ids})
    if (ids->size() > limit) ids->resize(limit);
  return out;
}

std::vector<TextEncoder::Encoded> TextEncoder::encode(const std::vector<Example>& rows,
                                                      ExecContext& ctx) const {
  std::vector<Encoded> out(rows.size());
  ctx.pool.parallel_for(std::ssize(rows), 16, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i)
      out[static_cast<std::size_t>(i)] = encode(rows[static_cast<std::size_t>(i)]);
  });
  return out;
}

Encoding TextEncoder::encode_with_offsets(const std::string& text) const {
  require(tokenizer_ != nullptr, ErrorCode::kIo, why_no_tokenizer_);
  return tokenizer_->encode(prompt_ + text, {.max_length = max_length_, .details = true});
}

}  // namespace quell
