#include <nlohmann/json.hpp>

#include "quell/base/error.h"
#include "quell/cli/command.h"
#include "quell/job/bench_job.h"
#include "quell/job/random_model.h"

namespace quell::cli {
namespace {

constexpr std::int64_t kMostGenerated = 1 << 20;

BenchShape parse_shape(const std::string& text) {
  const std::size_t by = text.find('x');
  const bool of_images = by == std::string::npos;
  std::string batch = text.substr(0, by);
  std::string length = of_images ? "1" : text.substr(by + 1);
  for (std::string* side : {&batch, &length})
    require(whole_number(1, kMostTokens)(*side).empty(), ErrorCode::kUsage, "--shape ", text,
            ": write BATCHxLENGTH, such as 8x128, or of images BATCH");
  const BenchShape shape{std::stoll(batch), of_images ? 0 : std::stoll(length)};
  require(shape.batch * shape.length <= kMostTokens, ErrorCode::kUsage, "--shape ", text,
          ": more than ", kMostTokens, " tokens together");
  return shape;
}

}  // namespace

Command add_bench(CLI::App& app) {
  CLI::App* sub = app.add_subcommand(
      "bench", "Measure speed: batches, prompts, generation or text, engines interleaved");
  const auto job = std::make_shared<BenchJob>();
  const auto shapes = std::make_shared<std::vector<std::string>>();
  const auto format = std::make_shared<std::string>("md");
  model_option(*sub, "model", job->model_dir, "Model directory");
  sub->add_option("--random", job->random, "Random weights in a well-known shape instead")
      ->check(CLI::IsMember(random_model_names()));
  sub->add_option("--shape", *shapes,
                  "Batches of BATCHxLENGTH tokens, or of BATCH images, separated by commas")
      ->delimiter(',');
  sub->add_option("-p,--prompt", job->prompt, "Tokens of a prompt to read")
      ->transform(whole_number(0, kMostGenerated));
  sub->add_option("-n,--generate", job->generate, "Tokens to generate")
      ->transform(whole_number(0, kMostGenerated));
  sub->add_option("--sequences", job->sequences, "Generated together")
      ->transform(whole_number(1, 1024));
  sub->add_flag("--kv-int8", job->kv_int8, "Keep keys and values as 8-bit codes");
  file_option(*sub, "--text", job->text, "Lines to embed, tokenizer included");
  sub->add_option(
      "--scheme", job->scheme,
      "Quantize a float model first, on random tokens (for speed only): W8A8, W4A8, ...");
  sub->add_option("--recipe", job->recipe, "The same with this recipe; default minmax");
  sub->add_flag("--quantize-attention", job->quantize_attention,
                "The same: q, k, v and probabilities too, residual branches behind the quantizer");
  sub->add_flag("--quantize-lm-head", job->quantize_lm_head,
                "The same: the language-model head too");
  sub->add_option("--engine", job->engines,
                  "Engines, separated by commas; default float, and integer where quantized")
      ->delimiter(',')
      ->check(CLI::IsMember({"float", "bf16", "simulated", "simulated-exact", "integer"}));
  sub->add_option("-t,--threads", job->threads,
                  "Thread counts, separated by commas; default as everywhere")
      ->delimiter(',')
      ->transform(whole_number(1, 1024));
  sub->add_option("-r,--repeat", job->repeat, "Repetitions")
      ->transform(whole_number(1, 100000))
      ->capture_default_str();
  sub->add_flag("--profile", job->profile, "Share of time by operator");
  sub->add_option("-o,--output", *format, "md or json")
      ->check(CLI::IsMember({"md", "json"}))
      ->capture_default_str();
  return {sub, [job, shapes, format](const GlobalOptions& globals, ExecContext&) {
            if (job->threads.empty() && globals.threads > 0) job->threads = {globals.threads};
            for (const std::string& s : *shapes) job->shapes.push_back(parse_shape(s));
            require(job->generate * job->sequences <= kMostTokens, ErrorCode::kUsage, "--generate ",
                    job->generate, " for --sequences ", job->sequences, ": more than ", kMostTokens,
                    " tokens together");
            Results results(globals);
            const Json report = run_bench_job(*job);
            results.print(report, *format == "json" ? report.dump(2) + "\n" : bench_text(report));
            return 0;
          }};
}

}  // namespace quell::cli
