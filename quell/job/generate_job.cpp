#include "quell/job/generate_job.h"

#include <algorithm>

#include "quell/base/error.h"
#include "quell/base/log.h"
#include "quell/io/json.h"
#include "quell/job/engine.h"
#include "quell/job/text_job.h"
#include "quell/job/tokenize_job.h"
#include "quell/text/data/text_file.h"
#include "quell/text/tokenizer/tokenizer.h"

namespace quell {
namespace {

/// What a prompt without tokens stands for.
std::vector<std::int32_t> begin_of_text(const Model& model, const std::string& where) {
  const std::int64_t begin =
      json_int(*model.config, "bos_token_id", -1, model.spec.vocab_size - 1, -1);
  require(begin >= 0, ErrorCode::kInvalidInput, where, ": the prompt is empty, and ",
          model.spec.model_type, " has no begin token (bos_token_id); write some text");
  return {static_cast<std::int32_t>(begin)};
}

}  // namespace

namespace {

constexpr std::int64_t kDefaultCompletion = 64;

void say_how_tokens_are_drawn(const GenerationSettings& settings) {
  if (settings.drawing.empty()) return;
  std::string list;
  for (const std::string& setting : settings.drawing) list += (list.empty() ? "" : ", ") + setting;
  log_once(LogLevel::kWarning, "the model asks for sampling or beams (" + list +
                                   "); each token is the most likely one here, see --temperature");
}

/// New tokens, where the command line does not say how many.
std::int64_t length_limit(const GenerationSettings& settings, const Model& model,
                          std::size_t prompt_length) {
  if (settings.max_new_tokens) return *settings.max_new_tokens;
  if (!settings.max_length) return kDefaultCompletion;
  const std::int64_t begin =
      model.spec.head == Head::kSeq2SeqLm ? 1 : static_cast<std::int64_t>(prompt_length);
  return std::max<std::int64_t>(1, *settings.max_length - begin);
}

}  // namespace

void run_generate_job(const GenerateJob& job, std::istream& in, std::ostream& out,
                      ExecContext& ctx) {
  const Model model = load_model(Checkpoint::open(job.model_dir));
  require_text_model(model);
  const Tokenizer tokenizer = Tokenizer::open(job.model_dir);
  const GenerationSettings settings = read_generation_settings(job.model_dir);
  job.model_dir.check_accepted();
  if (job.options.sampling.temperature <= 0) say_how_tokens_are_drawn(settings);
  const auto engine = make_engine(!job.engine.empty()    ? job.engine
                                  : model.is_quantized() ? "integer"
                                                         : "float",
                                  model, ctx);
  const auto answer = [&](const std::string& prompt, const std::string& where) {
    std::vector<std::int32_t> ids = tokenizer.encode(prompt).ids;
    if (ids.empty()) ids = begin_of_text(model, where);
    const std::vector<TokenSequence> sequence = {{std::move(ids), {}, {}}};
    const std::size_t first = 0;
    const TokenBatch batch = make_batch(sequence, {&first, 1}, model.spec.pad_token_id);
    // Text goes out as it comes; a token may end inside a character, which waits for the next one.
    std::vector<std::int32_t> tokens;
    std::string written;
    const auto write = [&](const std::string& text) {
      if (text.size() <= written.size() || !text.starts_with(written)) return;
      const std::string more = text.substr(written.size());
      out << (job.escape ? escape_line(more) : more) << std::flush;
      written = text;
    };
    GenerateOptions options = job.options;
    options.settings = settings;
    if (job.length_by_model)
      options.max_new_tokens = length_limit(settings, model, sequence.front().ids.size());
    options.on_token = [&](std::size_t, std::int32_t token) {
      tokens.push_back(token);
      if (const std::string text = tokenizer.decode(tokens); !text.ends_with("\uFFFD")) write(text);
    };
    bool full = false;
    options.on_full_context = [&](std::size_t) { full = true; };
    try {
      write(tokenizer.decode(generate(*engine, batch, options, ctx).front()));
    } catch (const Error& e) {
      throw Error(e.code(), str(where, ": ", e.what()));
    }
    out << '\n' << std::flush;
    require(out.good(), ErrorCode::kIo, "cannot write the output; is the disk full?");
    if (full)
      log(LogLevel::kWarning,
          str(where, ": the text stops where the model's context of ",
              model.spec.max_position_embeddings, " tokens, prompt included, is full"));
  };
  if (job.prompt) return answer(*job.prompt, "--prompt");

  LineReader lines(in);
  std::int64_t number = 0;
  for (std::string line; lines.next(line);) answer(line, str("line ", ++number));
  require(!in.bad(), ErrorCode::kIo, "cannot read the prompts");
}

}  // namespace quell
