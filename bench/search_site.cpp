// One OS+ search of a site from a safetensors file, timed: the other half of os_plus_search.py.
// usage: quell_search_bench FILE KIND BITS A_SYMMETRIC W_SYMMETRIC A_GRANULARITY W_GRANULARITY
// GROUP HEADS FLOOR ROUNDS [RACE] FILE holds x [B,N,C] (shifted), mask [B,N] (i32), weight [O,C]
// and bias [O]; KIND is qkv (causal) or fc1, RACE exact (default) or sampled. Prints JSON.
#include <chrono>
#include <cmath>
#include <cstdio>
#include <string>

#include "quell/base/error.h"
#include "quell/compress/os_plus_search.h"
#include "quell/io/json.h"
#include "quell/io/safetensors.h"

namespace {
using namespace quell;

Granularity granularity(const std::string& name) {
  for (const Granularity g : {Granularity::kPerTensor, Granularity::kPerChannel,
                              Granularity::kPerToken, Granularity::kPerGroup})
    if (granularity_name(g) == name) return g;
  throw Error(ErrorCode::kUsage, "granularity " + name);
}

int run(int argc, char** argv) {
  require(argc >= 12, ErrorCode::kUsage, "see the first lines of the source");
  const SafetensorsFile file(argv[1]);
  const std::string kind = argv[2];
  const int bits = std::stoi(argv[3]), rounds = std::stoi(argv[11]);
  const std::int64_t group = std::stoll(argv[8]), heads = std::stoll(argv[9]);
  SiteProblem p;
  Tensor x = to_f32(file.at("x"), "x");
  TokenBatch batch;
  batch.batch = x.shape()[0];
  batch.length = x.shape()[1];
  batch.mask = to_i32(file.at("mask"), "mask");
  batch.ids.assign(batch.mask.size(), 0);
  const std::int64_t columns = x.cols();
  x.reshape({batch.rows(), columns});
  p.x = {&x};
  p.batches = {&batch};
  p.weight = to_f32(file.at("weight"), "weight");
  p.bias = to_f32(file.at("bias"), "bias");
  p.activations = {bits, argv[4][0] == '1', granularity(argv[6]), group,
                   argv[6] != std::string("tensor")};
  p.weights = {bits, argv[5][0] == '1', granularity(argv[7]), group};
  p.rows = {p.weight.rows()};
  if (kind == "qkv") {
    p.kind = SiteKind::kAttention;
    p.rows.assign(3, p.weight.rows() / 3);
    p.attention.num_heads = p.attention.num_kv_heads = heads;
    p.attention.head_dim = columns / heads;
    p.attention.causal = true;
    p.attention.scale = 1.0F / std::sqrt(static_cast<float>(p.attention.head_dim));
  }
  OsPlusOptions o;
  o.floor = std::stod(argv[10]);
  o.include_padding = true;
  if (argc > 12 && argv[12] == std::string("sampled")) o.race.rule = RaceRule::kSampled;
  ExecContext ctx;
  Json seconds = Json::array();
  OsPlusResult result;
  for (int i = 0; i < rounds; ++i) {
    const auto start = std::chrono::steady_clock::now();
    result = search_threshold(p, o, ctx);
    seconds.push_back(
        std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
  }
  const auto best = static_cast<std::size_t>(std::max(result.race.best, 0));
  const double all =
      static_cast<double>(batch.rows()) * static_cast<double>(result.thresholds.size());
  const Json out = {{"candidates", result.thresholds.size()},
                    {"best", result.race.best},
                    {"threshold", result.thresholds.at(best)},
                    {"loss", result.race.losses.at(best)},
                    {"seconds", seconds},
                    {"evaluated", static_cast<double>(result.race.rows) / all},
                    {"isa", isa_name(ctx.isa)},
                    {"threads", ctx.pool.num_threads()}};
  std::printf("%s\n", out.dump().c_str());
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    return run(argc, argv);
  } catch (const std::exception& e) {
    std::fprintf(stderr, "%s\n", e.what());
    return 2;
  }
}
