#include "quell/job/text_job.h"

#include <charconv>

#include "quell/base/error.h"
#include "quell/base/log.h"
#include "quell/io/json.h"

namespace quell {

std::string engine_name(const TextJob& job, const Model& model) {
  if (!job.engine.empty()) return job.engine;
  return model.is_quantized() ? "integer" : "float";
}

void CutCount::add(const std::vector<TextEncoder::Encoded>& encoded) {
  all_ += std::ssize(encoded);
  for (const TextEncoder::Encoded& e : encoded) cut_ += e.cut ? 1 : 0;
}

void CutCount::report() const {
  if (cut_ == 0) return;
  const char* verb = cut_ == 1 ? " was" : " were";
  log(LogLevel::kWarning, str(cut_, " of ", all_, " ", what_, verb, " longer than ", max_length_,
                              " tokens and", verb, " cut"));
}

std::vector<TokenSequence> sequences_of(const Model& model,
                                        std::vector<TextEncoder::Encoded>& encoded,
                                        const std::vector<TextRows::Row>& rows,
                                        const std::string& source) {
  std::vector<TokenSequence> out;
  for (std::size_t i = 0; i < encoded.size(); ++i) {
    TokenSequence& tokens = encoded[i].tokens;
    require(!tokens.ids.empty(), ErrorCode::kInvalidInput, source, ":", rows[i].number,
            ": the tokenizer makes no tokens of this text; remove it");
    for (const std::int32_t id : tokens.ids)
      require(id >= 0 && id < model.spec.vocab_size, ErrorCode::kInvalidInput, source, ":",
              rows[i].number, ": token id ", id, " is outside the model's vocabulary of ",
              model.spec.vocab_size);
    out.push_back(std::move(tokens));
  }
  return out;
}

std::vector<Example> examples_of(const std::vector<TextRows::Row>& rows) {
  std::vector<Example> out;
  for (const TextRows::Row& row : rows) out.push_back(row.example);
  return out;
}

void require_text_model(const Model& model) {
  require(!model.reads_images(), ErrorCode::kUnsupported, model.dir.path().string(),
          ": reads images, not text");
}

void append_number(std::string& text, float value) {
  char digits[32];
  text.append(digits, std::to_chars(digits, digits + sizeof digits, value).ptr);
}

void append_string(std::string& text, const std::string& value) {
  text += Json(value).dump(-1, ' ', false, Json::error_handler_t::replace);
}

ResultStream::ResultStream(const std::filesystem::path& file, std::ostream& standard_output)
    : out_(standard_output) {
  if (!file.empty() && file != "-") file_ = std::make_unique<OutputFile>(file);
}

void ResultStream::write(const void* data, std::size_t size) {
  if (file_) return file_->write(data, size);
  out_.write(static_cast<const char*>(data), static_cast<std::streamsize>(size));
  require(out_.good(), ErrorCode::kIo, "cannot write to standard output");
}

void ResultStream::commit() {
  if (file_) return file_->commit();
  out_.flush();
  require(out_.good(), ErrorCode::kIo, "cannot write to standard output");
}

}  // namespace quell
