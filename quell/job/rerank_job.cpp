#include "quell/job/rerank_job.h"

#include <algorithm>

#include "quell/base/error.h"
#include "quell/eval/packed_forward.h"
#include "quell/io/json.h"
#include "quell/job/embed_job.h"
#include "quell/job/engine.h"

namespace quell {
namespace {

/// torch's name of what stands behind the score: of config_sentence_transformers.json, else of
/// config.json, else the sigmoid.
std::string score_activation(const Model& model) {
  if (!model.sentence.score_activation.empty()) return model.sentence.score_activation;

  std::string full;
  const Json& config = *model.config;
  if (config.contains("sentence_transformers") && config["sentence_transformers"].is_object())
    full = json_string(config["sentence_transformers"], "activation_fn", "");
  if (full.empty()) full = json_string(config, "sbert_ce_default_activation_function", "");
  if (full.empty()) return "Sigmoid";

  const std::string name = full.substr(full.rfind('.') + 1);
  require(full.starts_with("torch.nn.") && element_function(name), ErrorCode::kUnsupported,
          model.dir.path().string(), "/config.json: the score's activation function ", full,
          " is not supported");
  return name;
}

/// The first of the model's prompts that `names` names, else its default prompt: as encode_query
/// and encode_document choose.
std::string prompt_for(const Model& model, const std::optional<std::string>& chosen,
                       std::initializer_list<const char*> names) {
  if (chosen) return *chosen;
  for (const char* name : names)
    if (const auto found = model.sentence.prompts.find(name); found != model.sentence.prompts.end())
      return found->second;
  return default_prompt(model);
}

/// Whether the model reads query and text together: it has a classifier, and no modules that make
/// embeddings.
bool is_cross_encoder(const Model& model) {
  return model.spec.head == Head::kSequenceClassification && !model.sentence.defined();
}

class Ranker {
 public:
  Ranker(const RerankJob& job, const Model& model, bool cross, ExecContext& ctx)
      : job_(job),
        model_(model),
        cross_(cross),
        ctx_(ctx),
        engine_(make_engine(engine_name(job.text, model), model, ctx)) {}

  std::vector<RankedText> run(std::istream& in) {
    TextRows rows(job_.text.input, in);
    std::vector<RankedText> out = cross_ ? score_pairs(rows) : score_embeddings(rows);
    std::stable_sort(out.begin(), out.end(),
                     [](const RankedText& a, const RankedText& b) { return a.score > b.score; });
    if (job_.top_k > 0 && std::ssize(out) > job_.top_k)
      out.resize(static_cast<std::size_t>(job_.top_k));
    return out;
  }

 private:
  /// Calls `scores(rows)` with some rows at a time; it returns a score for each.
  template <typename Scores>
  static std::vector<RankedText> collect(TextRows& rows, Scores scores) {
    std::vector<RankedText> out;
    for (std::vector<TextRows::Row> read; !(read = rows.next(kRowsAtOnce)).empty();) {
      const std::vector<float> values = scores(read);
      for (std::size_t i = 0; i < read.size(); ++i) {
        const std::vector<std::string>& texts = read[i].example.texts;
        out.push_back({out.size(), values[i], texts.empty() ? "" : texts.front()});
      }
    }
    return out;
  }

  std::vector<RankedText> score_pairs(TextRows& rows) {
    const ElementFunction activation = element_function(score_activation(model_));
    const TextEncoder encoder(model_, job_.text.max_seq_length,
                              job_.query_prompt.value_or(default_prompt(model_)));
    CutCount cut(encoder, "pairs");
    std::vector<RankedText> out = collect(rows, [&](const std::vector<TextRows::Row>& read) {
      std::vector<Example> pairs;
      for (const TextRows::Row& row : read) {
        require(row.example.texts.size() == 1, ErrorCode::kInvalidInput, rows.source(), ":",
                row.number,
                ": a cross encoder reads query and text together, so that token ids will not do; "
                "give text");
        pairs.push_back({{job_.query, row.example.texts.front()}, {}, std::nullopt});
      }
      std::vector<TextEncoder::Encoded> encoded = encoder.encode(pairs, ctx_);
      cut.add(encoded);

      std::vector<float> scores;
      for (const auto& logits : run_packed(
               *engine_, sequences_of(model_, encoded, read, rows.source()), "logits", ctx_)) {
        require(logits.front().size() == 1, ErrorCode::kUnsupported, model_.dir.path().string(),
                ": a classifier of ", logits.front().size(),
                " labels does not rank; rerank needs one label, or an embedding model");
        scores.push_back(
            static_cast<float>(activation(static_cast<double>(logits.front().front()))));
      }
      return scores;
    });
    cut.report();
    return out;
  }

  std::vector<RankedText> score_embeddings(TextRows& rows) {
    const std::vector<float> query = embed_query();
    const TextEncoder encoder(
        model_, job_.text.max_seq_length,
        prompt_for(model_, job_.document_prompt, {"document", "passage", "corpus"}));
    CutCount cut(encoder, "texts");
    std::vector<RankedText> out = collect(rows, [&](const std::vector<TextRows::Row>& read) {
      std::vector<TextEncoder::Encoded> encoded = encoder.encode(examples_of(read), ctx_);
      cut.add(encoded);
      std::vector<float> scores;
      for (const auto& embedding : run_packed(
               *engine_, sequences_of(model_, encoded, read, rows.source()), "embedding", ctx_))
        scores.push_back(
            static_cast<float>(similarity(model_.sentence.similarity, query, embedding.front())));
      return scores;
    });
    cut.report();
    return out;
  }

  std::vector<float> embed_query() {
    const TextEncoder encoder(model_, job_.text.max_seq_length,
                              prompt_for(model_, job_.query_prompt, {"query"}));
    std::vector<TextEncoder::Encoded> encoded = {encoder.encode(job_.query)};
    CutCount cut(encoder, "queries");
    cut.add(encoded);
    cut.report();
    const std::vector<TextRows::Row> row = {{{{job_.query}, {}, std::nullopt}, 1}};
    return run_packed(*engine_, sequences_of(model_, encoded, row, "--query"), "embedding", ctx_)
        .front()
        .front();
  }

  const RerankJob& job_;
  const Model& model_;
  bool cross_;
  ExecContext& ctx_;
  std::unique_ptr<ForwardModel> engine_;
};

}  // namespace

std::vector<RankedText> rerank(const RerankJob& job, std::istream& in, ExecContext& ctx) {
  Model model = load_model(Checkpoint::open(job.text.model_dir));
  const bool cross = is_cross_encoder(model);
  if (cross)
    require(!job.document_prompt, ErrorCode::kUsage,
            "--document-prompt: this model reads query and text together");
  else
    require_sentence_pipeline(model);
  Ranker ranker(job, model, cross, ctx);
  job.text.model_dir.check_accepted();
  return ranker.run(in);
}

void run_rerank_job(const RerankJob& job, std::istream& in, std::ostream& out, ExecContext& ctx) {
  std::string line;
  for (const RankedText& ranked : rerank(job, in, ctx)) {
    line = str("{\"index\": ", ranked.index, ", \"score\": ");
    append_number(line, ranked.score);
    line += ", \"text\": ";
    append_string(line, ranked.text);
    line += "}\n";
    out << line;
    require(out.good(), ErrorCode::kIo, "cannot write to standard output");
  }
}

}  // namespace quell
