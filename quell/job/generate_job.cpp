#include "quell/job/generate_job.h"

#include "quell/base/error.h"
#include "quell/job/engine.h"
#include "quell/job/tokenize_job.h"
#include "quell/text/data/text_file.h"
#include "quell/text/tokenizer/tokenizer.h"

namespace quell {

void run_generate_job(const GenerateJob& job, std::istream& in, std::ostream& out, ExecContext& ctx) {
  const Model model = load_model(Checkpoint::open(job.model_dir));
  const Tokenizer tokenizer = Tokenizer::open(job.model_dir);
  const auto engine = make_engine(!job.engine.empty() ? job.engine : model.is_quantized() ? "integer" : "float", model, ctx);
  const auto answer = [&](const std::string& prompt) {
    const std::vector<TokenSequence> sequence = {{tokenizer.encode(prompt).ids, {}, {}}};
    const std::size_t first = 0;
    const TokenBatch batch = make_batch(sequence, {&first, 1}, model.spec.pad_token_id);
    // Text goes out as it comes; a token may end inside a character, which waits for the next one.
    std::vector<std::int32_t> tokens;
    std::string written;
    const auto write = [&](const std::string& text) {
      if (text.size() <= written.size() || !text.starts_with(written)) return;
      out << escape_line(text.substr(written.size())) << std::flush;
      written = text;
    };
    GenerateOptions options = job.options;
    options.on_token = [&](std::size_t, std::int32_t token) {
      tokens.push_back(token);
      if (const std::string text = tokenizer.decode(tokens); !text.ends_with("\uFFFD")) write(text);
    };
    write(tokenizer.decode(generate(*engine, batch, options, ctx).front()));
    out << '\n' << std::flush;
    require(out.good(), ErrorCode::kIo, "cannot write the output; is the disk full?");
  };
  if (!job.prompt.empty()) return answer(job.prompt);
  LineReader lines(in);
  for (std::string line; lines.next(line);) answer(line);
}

}  // namespace quell
