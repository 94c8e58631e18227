#include "quell/job/bench_job.h"

#include <algorithm>
#include <chrono>

#include "quell/base/cpu_budget.h"
#include "quell/base/cpu_features.h"
#include "quell/base/error.h"
#include "quell/base/random.h"
#include "quell/compress/compress.h"
#include "quell/engine/generate.h"
#include "quell/io/json.h"
#include "quell/job/bench_checks.h"
#include "quell/job/engine.h"
#include "quell/job/model_options.h"
#include "quell/job/random_model.h"
#include "quell/job/report.h"
#include "quell/model/image_input.h"
#include "quell/model/text_encoder.h"
#include "quell/text/data/text_file.h"
#include "quell/text/tokenizer/tokenizer.h"

namespace quell {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

std::vector<std::int32_t> random_ids(std::int64_t count, std::int64_t vocab, std::uint64_t seed) {
  Random rng(seed);
  std::vector<std::int32_t> ids;
  for (std::int64_t i = 0; i < count; ++i)
    ids.push_back(static_cast<std::int32_t>(rng.below(static_cast<std::uint64_t>(vocab))));
  return ids;
}

TokenBatch random_batch(const ModelSpec& spec, std::int64_t batch, std::int64_t length,
                        std::uint64_t seed) {
  std::vector<TokenSequence> sequences;
  std::vector<std::size_t> order;
  for (std::int64_t b = 0; b < batch; ++b) {
    sequences.push_back(
        {random_ids(length, spec.vocab_size, seed + static_cast<std::uint64_t>(b)), {}, {}});
    order.push_back(static_cast<std::size_t>(b));
  }
  return make_batch(sequences, order, spec.pad_token_id);
}

/// One thing to measure: `run` does it once; `units` things of kind `unit` are done by it.
struct Case {
  std::string engine, test, unit;
  int threads = 1;
  double units = 0;
  std::function<double()> run;  ///< seconds
  std::vector<double> seconds;
};

class Bench {
 public:
  explicit Bench(const BenchJob& job) : job_(job) {
    require(job.model_dir.empty() != job.random.empty(), ErrorCode::kUsage,
            "name a model directory or --random, one of both");
    ExecContext ctx;
    model_ = job.random.empty() ? load_model(Checkpoint::open(job.model_dir))
                                : make_random_model(job.random);
    check_bench_job(job, model_);
    job.model_dir.check_accepted();
    const bool quantize = !job.scheme.empty() || !job.recipe.empty() || job.quantize_attention ||
                          job.quantize_lm_head;
    require(!quantize || !model_.is_quantized(), ErrorCode::kUsage, job.model_dir.string(),
            ": is quantized already; leave --scheme and --recipe out");
    if (quantize) {
      const std::string usual = is_convolutional(model_.graph) ? "images" : "minmax";
      Recipe recipe = load_recipe(job.recipe.empty() ? usual : job.recipe);
      if (!job.scheme.empty()) set_scheme(recipe, job.scheme);
      recipe.quantize_attention |= job.quantize_attention;
      recipe.quantize_lm_head |= job.quantize_lm_head;
      if (job.quantize_attention) recipe.residual_after_quant = true;
      warn_of_unused(model_, recipe);
      std::vector<TokenBatch> samples;
      const std::int64_t length = std::min<std::int64_t>(32, model_.spec.max_position_embeddings);
      samples.push_back(batch_of({4, length}, 99));
      compress(model_, samples, recipe, ctx);
      scheme_ = scheme_of(recipe) +
                (recipe.weights.granularity == Granularity::kPerGroup
                     ? str(" g", recipe.weights.group_size)
                     : "") +
                (recipe.quantize_attention ? " + attention" : "") +
                (recipe.quantize_lm_head ? " + head" : "") +
                (recipe.activations.dynamic ? " per token" : "");
    } else {
      scheme_ = model_.is_quantized() ? "as stored" : "f32";
    }
    engines_ = job.engines;
    if (engines_.empty())
      engines_ = model_.is_quantized() ? std::vector<std::string>{"float", "integer"}
                                       : std::vector<std::string>{"float"};
    for (const int t : job.threads.empty() ? std::vector<int>{0} : job.threads)
      contexts_.push_back(std::make_unique<ExecContext>(t));
    for (const std::string& e : engines_)
      models_.push_back(make_engine(e, model_, *contexts_.front()));
    if (!job.text.empty()) read_text();
  }

  Json run() {
    for (const BenchShape& shape : job_.shapes) batches_.push_back(batch_of(shape, 5));
    for (std::size_t e = 0; e < engines_.size(); ++e)
      for (const auto& ctx : contexts_) add_cases(*models_[e], engines_[e], *ctx);
    require(!cases_.empty(), ErrorCode::kUsage,
            "nothing to measure; use --shape, -p, -n or --text");
    for (Case& c : cases_) c.run();  // warm up
    for (int r = 0; r < job_.repeat; ++r)
      for (Case& c : cases_) c.seconds.push_back(c.run());
    Json report = {{"cpu", processor_name()},
                   {"isa", isa_name(contexts_.front()->isa)},
                   {"rows", Json::array()}};
    for (const auto& ctx : contexts_) report["threads"].push_back(ctx->pool.num_threads());
    report["threads_because"] = thread_count_reason(!job_.threads.empty(), cpu_budget());
    for (Case& c : cases_) {
      std::sort(c.seconds.begin(), c.seconds.end());
      const double median = c.seconds[c.seconds.size() / 2];
      report["rows"].push_back({{"model", model_.dir.path().string()},
                                {"scheme", c.engine == "float"  ? "f32"
                                           : c.engine == "bf16" ? "bf16 weights"
                                                                : scheme_},
                                {"engine", c.engine},
                                {"threads", c.threads},
                                {"test", c.test},
                                {"ms_median", 1e3 * median},
                                {"ms_min", 1e3 * c.seconds.front()},
                                {"per_second", c.units / median},
                                {"unit", c.unit}});
    }
    if (job_.profile) add_profiles(report);
    return report;
  }

 private:
  TokenBatch batch_of(const BenchShape& shape, std::uint64_t seed) const {
    if (!model_.reads_images()) return random_batch(model_.spec, shape.batch, shape.length, seed);

    const ImageAttributes image = *image_input_of(model_.graph);
    Random random(seed);
    const std::int64_t values = shape.batch * image.channels * image.size.pixels();
    std::vector<float> pixels(static_cast<std::size_t>(values));
    for (float& v : pixels) v = static_cast<float>(4 * random.uniform() - 2);
    return make_image_batch(model_, std::move(pixels));
  }

  void add_cases(const ForwardModel& engine, const std::string& name, ExecContext& ctx) {
    const auto add = [&](const std::string& test, const std::string& unit, double units,
                         std::function<double()> body) {
      cases_.push_back({name, test, unit, ctx.pool.num_threads(), units, std::move(body), {}});
      case_contexts_.push_back(&ctx);
    };
    for (std::size_t i = 0; i < job_.shapes.size(); ++i) {
      const BenchShape& s = job_.shapes[i];
      const TokenBatch& batch = batches_[i];
      const bool images = model_.reads_images();
      const std::int64_t units = images ? s.batch : s.batch * s.length;
      add(s.to_text(), images ? "images" : "tokens", static_cast<double>(units),
          [&engine, &ctx, &batch] {
            const auto start = Clock::now();
            ForwardOutputs outputs;
            engine.forward(batch, outputs, ctx);
            return seconds_since(start);
          });
    }
    if (job_.prompt > 0)
      add(str("prompt ", job_.prompt), "tokens", static_cast<double>(job_.prompt),
          [this, &engine, &ctx] {
            BatchDecoder decoder(engine, 1, job_.prompt + 1, format());
            decoder.add(random_ids(job_.prompt, model_.spec.vocab_size, 7));
            const auto start = Clock::now();
            decoder.step(ctx);
            return seconds_since(start);
          });
    if (job_.generate > 0)
      add(str("generate ", job_.generate, job_.sequences > 1 ? str(" x ", job_.sequences) : ""),
          "tokens", static_cast<double>(job_.generate * job_.sequences), [this, &engine, &ctx] {
            BatchDecoder decoder(engine, job_.sequences, job_.generate + 2, format());
            for (std::int64_t s = 0; s < job_.sequences; ++s)
              decoder.add(random_ids(1, model_.spec.vocab_size, 7 + static_cast<std::uint64_t>(s)));
            decoder.step(ctx);
            const auto start = Clock::now();
            for (std::int64_t i = 0; i < job_.generate; ++i) decoder.step(ctx);
            return seconds_since(start);
          });
    if (!lines_.empty())
      add(job_.text.filename().string(), "lines", static_cast<double>(lines_.size()),
          [this, &engine, &ctx] {
            const auto start = Clock::now();
            embed_lines(engine, ctx);
            return seconds_since(start);
          });
  }

  KvFormat format() const { return job_.kv_int8 ? KvFormat::kInt8 : KvFormat::kF32; }

  void read_text() {
    lines_ = split_lines(read_data_text(job_.text));
    std::erase(lines_, "");
    require(!lines_.empty(), ErrorCode::kInvalidInput, job_.text.string(), ": holds no lines");
    tokenizer_.emplace(open_tokenizer(model_));
  }

  /// Text to embeddings, in batches without padding.
  void embed_lines(const ForwardModel& engine, ExecContext& ctx) const {
    constexpr std::size_t kTokens = 1024;
    std::vector<TokenSequence> sequences(lines_.size());
    ctx.pool.parallel_for(static_cast<std::int64_t>(lines_.size()), 64,
                          [&](std::int64_t begin, std::int64_t end) {
                            for (std::int64_t i = begin; i < end; ++i)
                              sequences[static_cast<std::size_t>(i)].ids =
                                  tokenizer_
                                      ->encode(lines_[static_cast<std::size_t>(i)],
                                               {.max_length = longest_text(model_)})
                                      .ids;
                          });
    std::vector<std::size_t> batch;
    std::size_t tokens = 0;
    const auto flush = [&] {
      ForwardOutputs outputs;
      engine.forward(make_concatenated_batch(sequences, batch), outputs, ctx);
      batch.clear();
      tokens = 0;
    };
    for (std::size_t i = 0; i < sequences.size(); ++i) {
      if (!batch.empty() && tokens + sequences[i].ids.size() > kTokens) flush();
      batch.push_back(i);
      tokens += sequences[i].ids.size();
    }
    flush();
  }

  void add_profiles(Json& report) {
    for (std::size_t i = 0; i < cases_.size(); ++i) {
      OperatorTimes times;
      case_contexts_[i]->operator_times = &times;
      const double total = cases_[i].run();
      case_contexts_[i]->operator_times = nullptr;
      Json shares = Json::array();
      std::vector<std::pair<double, std::string>> sorted;
      double known = 0;
      for (const auto& [name, seconds] : times) {
        sorted.emplace_back(seconds, name);
        known += seconds;
      }
      std::sort(sorted.rbegin(), sorted.rend());
      sorted.emplace_back(std::max(0.0, total - known), "outside the operators");
      for (const auto& [seconds, name] : sorted)
        shares.push_back({{"operator", name}, {"percent", 100 * seconds / total}});
      report["profile"].push_back({{"engine", cases_[i].engine},
                                   {"threads", cases_[i].threads},
                                   {"test", cases_[i].test},
                                   {"shares", shares}});
    }
  }

  const BenchJob& job_;
  Model model_;
  std::string scheme_;
  std::vector<std::string> engines_;
  std::vector<std::unique_ptr<ExecContext>> contexts_;
  std::vector<std::unique_ptr<ForwardModel>> models_;
  std::vector<TokenBatch> batches_;  ///< by shape
  std::vector<std::string> lines_;
  std::optional<Tokenizer> tokenizer_;
  std::vector<Case> cases_;
  std::vector<ExecContext*> case_contexts_;
};

}  // namespace

Json run_bench_job(const BenchJob& job) { return Bench(job).run(); }

std::string bench_text(const Json& report) {
  std::string out =
      report["cpu"].get<std::string>() + ", " + report["isa"].get<std::string>() + "\nthreads:";
  for (const Json& count : report["threads"]) out += " " + count.dump();
  out += " (" + report["threads_because"].get<std::string>() + ")\n\n";
  out +=
      "| model | scheme | engine | threads | test | ms (median / min) | per second "
      "|\n|---|---|---|---:|---|---:|---:|\n";
  for (const Json& r : report["rows"])
    out +=
        format_text("| %s | %s | %s | %d | %s | %.2f / %.2f | %.1f %s |\n",
                    r["model"].get<std::string>().c_str(), r["scheme"].get<std::string>().c_str(),
                    r["engine"].get<std::string>().c_str(), r["threads"].get<int>(),
                    r["test"].get<std::string>().c_str(), r["ms_median"].get<double>(),
                    r["ms_min"].get<double>(), r["per_second"].get<double>(),
                    r["unit"].get<std::string>().c_str());
  if (!report.contains("profile")) return out;
  for (const Json& p : report["profile"]) {
    out += "\n" + p["engine"].get<std::string>() + ", " + p["test"].get<std::string>() +
           ", threads " + p["threads"].dump() + ":\n";
    for (const Json& s : p["shares"])
      out += format_text("  %5.1f %%  %s\n", s["percent"].get<double>(),
                         s["operator"].get<std::string>().c_str());
  }
  return out;
}

}  // namespace quell
