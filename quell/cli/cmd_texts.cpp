// embed, classify and rerank: commands that answer text by text.
#include <iostream>

#include "quell/base/error.h"
#include "quell/cli/command.h"
#include "quell/job/classify_job.h"
#include "quell/job/embed_job.h"
#include "quell/job/rerank_job.h"

namespace quell::cli {
namespace {

const std::map<std::string, RowFormat> kRowFormats = {{"lines", RowFormat::kLines},
                                                      {"jsonl", RowFormat::kJsonl}};

/// Options of all three. `max_columns`: texts of a row at most.
void add_text_options(CLI::App& app, TextJob& job, const std::string& what, int max_columns) {
  model_option(app, "model", job.model_dir, "Model directory")->required();
  file_option(app, "file", job.input.file,
              what +
                  ": one a line (.txt and other endings), .jsonl (text, or input_ids), tables "
                  "(.tsv, or --text-column), "
                  ".safetensors (input_ids); -, or left out: standard input");
  app.add_option_function<std::string>(
         "--input-format",
         [&job](const std::string& name) { job.input.format = kRowFormats.at(name); },
         "lines or jsonl, where the ending does not say")
      ->check(CLI::IsMember({"lines", "jsonl"}));
  app.add_option("--text-column", job.input.columns,
                 "Text column of a table, by header name or by number from 1, or key of .jsonl")
      ->delimiter(',')
      ->expected(1, max_columns);
  app.add_option("--max-seq-length", job.max_seq_length,
                 "Tokens of a text at most; default the model's own")
      ->transform(whole_number(1, kMostTokens));
  app.add_option("--engine", job.engine,
                 "float, bf16, simulated, simulated-exact or integer; default integer where the "
                 "model is quantized")
      ->check(CLI::IsMember({"float", "bf16", "simulated", "simulated-exact", "integer"}));
}

int finish_output() {
  std::cout.flush();
  require(std::cout.good(), ErrorCode::kIo, "cannot write to standard output");
  return 0;
}

}  // namespace

Command add_embed(CLI::App& app) {
  CLI::App* sub = app.add_subcommand("embed", "Sentence embeddings of texts, one a line");
  const auto job = std::make_shared<EmbedJob>();
  const auto format = std::make_shared<std::string>();
  add_text_options(*sub, job->text, "Texts", 1);
  output_option(*sub, "--output", job->output,
                "File that ends in .jsonl, .npy or .safetensors; default standard output");
  sub->add_option("--format", *format,
                  "jsonl, npy or safetensors; default by the ending of --output, else jsonl")
      ->check(CLI::IsMember({"jsonl", "npy", "safetensors"}));
  sub->add_option("--prompt", job->prompt,
                  "Text in front of every text; \"\": none, whatever the model's default is");
  sub->add_option("--prompt-name", job->prompt_name, "The same: one of the model's own prompts");
  sub->add_flag("--normalize", job->normalize, "Give every embedding the length 1");
  sub->add_option("--truncate-dim", job->truncate_dim, "Keep the first dimensions only")
      ->transform(whole_number(1, kMostTokens));
  return {sub,
          [job, format](const GlobalOptions&, ExecContext& ctx) {
            job->format = embedding_format(job->output, *format);
            std::ios::sync_with_stdio(false);
            run_embed_job(*job, std::cin, std::cout, ctx);
            return 0;
          },
          false};
}

Command add_classify(CLI::App& app) {
  CLI::App* sub =
      app.add_subcommand("classify", "Labels of texts, or of their tokens, with probabilities");
  const auto job = std::make_shared<ClassifyJob>();
  add_text_options(*sub, job->text, "Texts, or pairs (two columns, or text and text_pair)", 2);
  sub->add_option("--top-k", job->top_k, "Labels of each text, best first; 0: all")
      ->transform(whole_number(0, kMostRows))
      ->capture_default_str();
  return {sub,
          [job](const GlobalOptions&, ExecContext& ctx) {
            std::ios::sync_with_stdio(false);
            run_classify_job(*job, std::cin, std::cout, ctx);
            return finish_output();
          },
          false};
}

Command add_rerank(CLI::App& app) {
  CLI::App* sub =
      app.add_subcommand("rerank", "Texts in the order of how well they answer a query");
  const auto job = std::make_shared<RerankJob>();
  add_text_options(*sub, job->text, "Texts", 1);
  sub->add_option("--query", job->query, "What is asked for")->required();
  sub->add_option("--top-k", job->top_k, "Texts to print; 0: all")
      ->transform(whole_number(0, kMostRows))
      ->capture_default_str();
  sub->add_option("--query-prompt", job->query_prompt,
                  "Text in front of the query; default the model's own");
  sub->add_option("--document-prompt", job->document_prompt,
                  "Text in front of every text; default the model's own");
  return {sub,
          [job](const GlobalOptions&, ExecContext& ctx) {
            std::ios::sync_with_stdio(false);
            run_rerank_job(*job, std::cin, std::cout, ctx);
            return finish_output();
          },
          false};
}

}  // namespace quell::cli
