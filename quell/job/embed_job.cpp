#include "quell/job/embed_job.h"

#include "quell/base/error.h"
#include "quell/base/log.h"
#include "quell/eval/packed_forward.h"
#include "quell/job/embedding_writer.h"
#include "quell/job/engine.h"

namespace quell {
namespace {

std::string chosen_prompt(const EmbedJob& job, const Model& model) {
  require(!job.prompt || !job.prompt_name, ErrorCode::kUsage,
          "--prompt and --prompt-name exclude each other");
  if (job.prompt) return *job.prompt;
  return job.prompt_name ? prompt_by_name(model, *job.prompt_name) : default_prompt(model);
}

void set_dimensions(const EmbedJob& job, Model& model) {
  if (job.truncate_dim == 0) return;

  model.sentence.truncate_dim = 0;
  const std::int64_t all = model.sentence.dimension(model.spec.hidden_size);
  require(job.truncate_dim <= all, ErrorCode::kUsage, "--truncate-dim ", job.truncate_dim,
          ": the model's embeddings have ", all, " dimensions");
  model.sentence.truncate_dim = job.truncate_dim;
}

void normalize(std::vector<float>& embedding, ExecContext& ctx) {
  const Tensor x = Tensor::from<float>(embedding, {1, std::ssize(embedding)});
  const Tensor y = run_module(NormalizeModule{}, x, {}, ctx);
  embedding.assign(y.f32().begin(), y.f32().end());
}

}  // namespace

void require_sentence_pipeline(Model& model) {
  require_text_model(model);
  if (model.sentence.defined()) return;

  require(!model.dir.has_modules(), ErrorCode::kUnsupported,
          (model.dir.root() / "modules.json").string(),
          ": holds no modules that make sentence embeddings");
  const bool encoder_of_two = model.graph.is_encoder_decoder() && model.graph.has(op_relative_bias);
  require(!encoder_of_two, ErrorCode::kUnsupported, model.dir.root().string(),
          ": embeddings over the encoder of an encoder-decoder model are not supported");
  SentencePipeline made = default_pipeline(*model.config);
  const PoolingMode mode = std::get<PoolingModule>(made.modules.front()).modes.front();
  log_once(LogLevel::kWarning,
           str(model.dir.root().string(), ": no modules.json, so embeddings are the ",
               mode == PoolingMode::kMean ? "mean over tokens" : "last token",
               " of the last hidden state, as in sentence-transformers"));
  model.sentence = std::move(made);
}

std::string prompt_by_name(const Model& model, const std::string& name) {
  const auto found = model.sentence.prompts.find(name);
  if (found != model.sentence.prompts.end()) return found->second;

  std::string names;
  for (const auto& [known, prompt] : model.sentence.prompts)
    names += (names.empty() ? "" : ", ") + known;
  throw Error(ErrorCode::kUsage, "there is no prompt \"" + name + "\"; the model has " +
                                     (names.empty() ? "none" : names));
}

void run_embed_job(const EmbedJob& job, std::istream& in, std::ostream& out, ExecContext& ctx) {
  Model model = load_model(Checkpoint::open(job.text.model_dir));
  require_sentence_pipeline(model);
  set_dimensions(job, model);
  const TextEncoder encoder(model, job.text.max_seq_length, chosen_prompt(job, model));
  job.text.model_dir.check_accepted();
  TextRows rows(job.text.input, in);
  const auto writer = make_embedding_writer(
      job.format, model.sentence.dimension(model.spec.hidden_size), job.output, out);
  const auto engine = make_engine(engine_name(job.text, model), model, ctx);

  CutCount cut(encoder, "texts");
  for (std::vector<TextRows::Row> read; !(read = rows.next(kRowsAtOnce)).empty();) {
    std::vector<TextEncoder::Encoded> encoded = encoder.encode(examples_of(read), ctx);
    cut.add(encoded);
    const std::vector<TokenSequence> sequences = sequences_of(model, encoded, read, rows.source());
    for (auto& embedding : run_packed(*engine, sequences, "embedding", ctx)) {
      if (job.normalize) normalize(embedding.front(), ctx);
      writer->add(embedding.front());
    }
  }
  writer->finish();
  cut.report();
}

}  // namespace quell
