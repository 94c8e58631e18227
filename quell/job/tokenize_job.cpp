#include "quell/job/tokenize_job.h"

#include <charconv>

#include "quell/base/error.h"
#include "quell/io/json.h"
#include "quell/text/data/text_file.h"
#include "quell/text/tokenizer/tokenizer.h"

namespace quell {
namespace {

void append_ids(const std::vector<std::int32_t>& ids, std::string& line) {
  line.push_back('[');
  for (std::size_t i = 0; i < ids.size(); ++i) {
    if (i) line.push_back(',');
    char digits[12];
    line.append(digits, std::to_chars(digits, digits + sizeof digits, ids[i]).ptr);
  }
  line.push_back(']');
}

Json details_of(const Encoding& e) {
  Json offsets = Json::array();
  for (const CharSpan& s : e.offsets) offsets.push_back({s.begin, s.end});
  return {{"ids", e.ids}, {"type_ids", e.type_ids}, {"tokens", e.tokens}, {"offsets", offsets}};
}

void parse_ids(std::string_view line, std::int64_t number, std::vector<std::int32_t>& ids) {
  ids.clear();
  const char *at = line.data(), *end = at + line.size();
  while (true) {
    while (at < end && std::string_view(" \t\r,[]").find(*at) != std::string_view::npos) ++at;
    if (at == end) return;
    std::int32_t id = 0;
    const auto result = std::from_chars(at, end, id);
    require(result.ec == std::errc() && id >= 0, ErrorCode::kInvalidInput, "line ", number,
            ": expected token ids, found \"", std::string(at, std::min(end, at + 20)), "\"");
    ids.push_back(id);
    at = result.ptr;
  }
}

}  // namespace

std::string escape_line(const std::string& text) {
  std::string out;
  for (const char c : text) {
    if (c == '\n' || c == '\\') out.push_back('\\');
    out.push_back(c == '\n' ? 'n' : c);
  }
  return out;
}

void run_tokenize_job(const ModelDirectory& model_dir, const TokenizeOptions& options,
                      std::istream& in, std::ostream& out) {
  const Tokenizer tokenizer = Tokenizer::open(model_dir);
  model_dir.check_accepted();
  const EncodeOptions encode{.max_length = options.max_length,
                             .add_special_tokens = options.add_special_tokens,
                             .details = options.details};
  std::string written;
  LineReader lines(in);
  for (std::string line; lines.next(line);) {
    const Encoding e = tokenizer.encode(line, encode);
    written.clear();
    if (options.details)
      written = details_of(e).dump();
    else
      append_ids(e.ids, written);
    written.push_back('\n');
    out.write(written.data(), static_cast<std::streamsize>(written.size()));
    require(out.good(), ErrorCode::kIo, "cannot write the output; is the disk full?");
  }
}

void run_detokenize_job(const ModelDirectory& model_dir, bool skip_special_tokens, bool escape,
                        std::istream& in, std::ostream& out) {
  const Tokenizer tokenizer = Tokenizer::open(model_dir);
  model_dir.check_accepted();
  std::vector<std::int32_t> ids;
  std::int64_t number = 0;
  LineReader lines(in);
  for (std::string line; lines.next(line);) {
    parse_ids(line, ++number, ids);
    const std::string text = tokenizer.decode(ids, skip_special_tokens);
    out << (escape ? escape_line(text) : text) << '\n';
    require(out.good(), ErrorCode::kIo, "cannot write the output; is the disk full?");
  }
}

}  // namespace quell
