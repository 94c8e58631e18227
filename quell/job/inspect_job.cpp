#include "quell/job/inspect_job.h"
#include "quell/job/calibration_samples.h"

#include <algorithm>
#include <cmath>
#include <set>

#include "quell/base/cpu_budget.h"
#include "quell/base/error.h"
#include "quell/compress/channel_stats.h"
#include "quell/engine/lower.h"
#include "quell/io/json.h"
#include "quell/job/memory_traffic.h"
#include "quell/job/scheme_sizes.h"
#include "quell/model/family.h"
#include "quell/model/generation_settings.h"
#include "quell/model/image_input.h"
#include "quell/text/tokenizer/tokenizer.h"
#include "quell/vision/preprocessing_words.h"
#include "quell/vision/preprocessor_config.h"

namespace quell {
namespace {

constexpr double kOutlierSigmas = 6;

Json describe_nodes(const Graph& graph, NodeRange range) {
  Json out = Json::array();
  for (NodeId n = range.begin; n < range.end; ++n)
    if (!graph.is_inserted(n)) out.push_back(describe_node(graph, n));
  return out;
}

Json describe_attention(const AttentionSpec& a) {
  Json out = {{"num_attention_heads", a.num_heads},
              {"num_key_value_heads", a.num_kv_heads},
              {"head_dim", a.head_dim},
              {"causal", a.causal}};
  if (!a.rotary_inv_freq.empty()) out["rotary_dim"] = 2 * a.rotary_inv_freq.size();
  if (!a.alibi_slopes.empty()) out["alibi"] = true;
  if (a.soft_cap > 0) out["soft_cap"] = a.soft_cap;
  if (a.disentangled.span > 0) out["relative_span"] = a.disentangled.span;
  return out;
}

/// Nodes [begin, end) of the stack that stand in no layer, in front of them or behind.
NodeRange around_layers(const Graph& graph, NodeId begin, NodeId end) {
  const NodeId head = graph.head_begin == kNoNode ? graph.num_nodes() : graph.head_begin;
  return {begin, std::min(end, head)};
}

/// Its layers are those of `blocks` from `first_block` on.
Json describe_stack(const Graph& graph, std::size_t stack, std::size_t first_block) {
  const auto layers = static_cast<std::size_t>(graph.stacks[stack].layers);
  const NodeRange first = graph.blocks[first_block];
  const NodeRange last = graph.blocks[first_block + layers - 1];
  const NodeId begin = first_block == 0 ? 0 : graph.blocks[first_block - 1].end;
  const bool last_stack = stack + 1 == graph.stacks.size();
  const NodeId end = last_stack ? graph.num_nodes() : graph.blocks[first_block + layers].begin;

  Json windows = Json::array();
  std::set<ParamId> weights;  // of the layers' first parameters
  bool windowed = false;
  Json attention;
  for (std::size_t l = first_block; l < first_block + layers; ++l) {
    bool first_param = true;
    for (NodeId n = graph.blocks[l].begin; n < graph.blocks[l].end; ++n) {
      const Node& node = graph.node(n);
      if (node.param != kNoParam && std::exchange(first_param, false)) weights.insert(node.param);
      if (!node.is(op_attention) || attention_of(node).cross) continue;
      const AttentionSpec& a = attention_of(node);
      if (attention.is_null()) attention = describe_attention(a);
      windows.push_back(a.sliding_window);
      windowed |= a.sliding_window > 0;
    }
  }

  // What lies between two stacks belongs to the second one, as far as its nodes say so.
  NodeId own_begin = begin;
  while (graph.node(own_begin).place.stack != static_cast<int>(stack)) ++own_begin;
  NodeId own_end = last.end;
  while (own_end < end && graph.node(own_end).place.stack == static_cast<int>(stack)) ++own_end;
  Json out = {{"layers", layers},
              {"sets_of_weights", weights.size()},
              {"attention", attention},
              {"prologue", describe_nodes(graph, {own_begin, first.begin})},
              {"block", describe_nodes(graph, first)},
              {"epilogue", describe_nodes(graph, around_layers(graph, last.end, own_end))}};
  if (windowed) out["sliding_windows"] = windows;
  return out;
}

Json describe_stacks(const Graph& graph) {
  Json stacks = Json::array();
  std::size_t first_block = 0;
  for (std::size_t s = 0; s < graph.stacks.size(); ++s) {
    if (graph.stacks[s].layers == 0) continue;
    stacks.push_back(describe_stack(graph, s, first_block));
    first_block += static_cast<std::size_t>(graph.stacks[s].layers);
  }
  return stacks;
}

Json describe_model(const Model& model, const Checkpoint& checkpoint) {
  std::map<std::string, std::uint64_t> bytes;
  std::int64_t parameters = 0;
  for (const auto& [name, view] : checkpoint.tensors())
    bytes[std::string(dtype_name(view.dtype()))] += view.num_bytes();
  for (const Param& p : model.params)
    parameters += (p.tied_to < 0 ? p.weight.numel() : 0) + p.bias.numel();
  std::vector<std::string> tied;
  for (const Param& p : model.params)
    if (p.tied_to >= 0)
      tied.push_back(p.module + " = " + model.params[static_cast<std::size_t>(p.tied_to)].module);
  const Graph& graph = model.graph;
  const NodeId head = graph.head_begin == kNoNode ? graph.num_nodes() : graph.head_begin;
  const bool unlimited = model.spec.max_position_embeddings >= kUnlimitedPositions;
  Json report = {
      {"model_type", model.spec.model_type},
      {"architecture", architecture_of(Settings(*model.config))},
      {"head", head_name(model.spec.head)},
      {"parameters", parameters},
      {"bytes_per_dtype", bytes},
      {"layers", model.graph.blocks.size()},
      {"hidden_size", model.spec.hidden_size},
      {"intermediate_size", model.spec.intermediate_size},
      {"vocab_size", model.spec.vocab_size},
      {"norm", first_norm(graph).kind == NormKind::kRmsNorm ? "RMSNorm" : "LayerNorm"},
      {"context", unlimited ? Json("no limit") : Json(model.spec.max_position_embeddings)},
      {"quantized", model.is_quantized()},
      {"tied", tied},
      {"stacks", describe_stacks(graph)},
      {"head_steps", describe_nodes(graph, {head, graph.num_nodes()})},
      {"missing_tensors", model.missing_tensors},
      {"unused_tensors", model.unused_tensors}};
  if (const std::optional<ImageAttributes> image = image_input_of(graph)) {
    report["image"] = {image->channels, image->size.height, image->size.width};
    for (const auto& [name, value] : graph.outputs) report["outputs"].push_back(name);
  }
  return report;
}

/// Channels whose largest magnitude lies more than six standard deviations above the mean of all
/// channels' magnitudes.
std::int64_t count_outlier_channels(const ChannelStats& stats) {
  double mean = 0, square = 0;
  std::vector<double> magnitude;
  for (std::size_t j = 0; j < stats.max.size(); ++j)
    magnitude.push_back(static_cast<double>(std::max(stats.max[j], -stats.min[j])));
  for (const double m : magnitude) mean += m / static_cast<double>(magnitude.size());
  for (const double m : magnitude)
    square += (m - mean) * (m - mean) / static_cast<double>(magnitude.size());
  const double limit = mean + kOutlierSigmas * std::sqrt(square);
  return std::count_if(magnitude.begin(), magnitude.end(), [&](double m) { return m > limit; });
}

Json describe_ranges(const Model& model, const CalibrationChoice& choice, ExecContext& ctx) {
  const std::vector<TokenBatch> samples =
      load_calibration(choice, model, ctx.pool).batches(model, 16);
  const std::vector<Site> sites = derive_sites(model, {true, false});
  Json rows = Json::array();
  for_each_site_input(
      model, sites, samples, ctx, [&](std::size_t s, const SiteActivations& inputs) {
        const Site& site = sites[s];
        const ChannelStats stats = channel_stats(inputs, false, site.name);
        const auto largest = std::max_element(stats.max.begin(), stats.max.end());
        const auto smallest = std::min_element(stats.min.begin(), stats.min.end());
        rows.push_back({{"site", site.name},
                        {"min", *smallest},
                        {"max", *largest},
                        {"largest_channel", *largest > -*smallest ? largest - stats.max.begin()
                                                                  : smallest - stats.min.begin()},
                        {"outlier_channels", count_outlier_channels(stats)},
                        {"channels", stats.max.size()},
                        {"migration", site.refusal.empty() ? "possible" : site.refusal}});
      });
  return rows;
}

/// What was read from which file, and what became of the rest.
Json describe_files(const ModelDirectory& directory) {
  using Fate = FileReport::Fate;
  Json files = Json::array();
  for (const FileReport& report : directory.reports()) {
    if (report.read.empty() && report.left.empty()) continue;  // there is no such file
    Json file = {
        {"file", std::filesystem::path(report.file).lexically_relative(directory.path()).string()},
        {"read", report.read}};
    for (const auto& [name, fate] : {std::pair("without_effect", Fate::kNoEffect),
                                     {"not_known", Fate::kWarned},
                                     {"accepted", Fate::kAccepted}}) {
      file[name] = Json::array();
      for (const FileReport::Left& left : report.left)
        if (left.fate == fate) file[name].push_back(left.key);
    }
    files.push_back(std::move(file));
  }
  return files;
}

/// What other commands would refuse is a line of the report here.
template <typename Read>
void try_to_read(const char* what, Json& refused, Read read) {
  try {
    read();
  } catch (const Error& e) {
    refused[what] = e.what();
  }
}

bool has_tokenizer(const ModelDirectory& directory) {
  for (const char* file :
       {"tokenizer.json", "tokenizer_config.json", "vocab.txt", "vocab.json", "tokenizer.model",
        "spm.model", "spiece.model", "sentencepiece.bpe.model"})
    if (directory.has(file)) return true;
  return false;
}

/// Opens what other commands open beside the model, so that the report says what they would read.
void open_other_files(const Model& model, const ModelDirectory& directory, Json& report) {
  Json& refused = report["refused"] = Json::object();
  const bool generates = model.spec.head == Head::kCausalLm || model.spec.head == Head::kSeq2SeqLm;
  if (generates) try_to_read("generation", refused, [&] { read_generation_settings(directory); });
  if (model.reads_images())
    try_to_read("images", refused, [&] {
      report["preprocessing"] = describe_preprocessing(read_preprocessing(directory));
    });
  if (has_tokenizer(directory))
    try_to_read("tokenizer", refused, [&] { Tokenizer::open(directory); });
}

bool has_weights(const ModelDirectory& directory) {
  return directory.has("model.safetensors") || directory.has("model.safetensors.index.json");
}

/// What config.json says on its own.
Json describe_shapes(const InspectJob& job) {
  const Settings config = job.model_dir.read("config.json");
  const Architecture architecture = build_architecture(config);
  return {{"model_type", architecture.spec.model_type},
          {"architecture", architecture_of(config)},
          {"layers", architecture.graph.blocks.size()},
          {"hidden_size", architecture.spec.hidden_size},
          {"vocab_size", architecture.spec.vocab_size},
          {"weights", "none; sizes are those that config.json says"},
          {"scheme_sizes", describe_scheme_sizes(architecture.graph, job.scheme)}};
}

}  // namespace

Json run_inspect_job(const InspectJob& job, ExecContext& ctx) {
  // A misspelt scheme should not cost the time to read a model.
  if (!job.scheme.empty()) parse_scheme(job.scheme);
  const bool shapes_alone = !job.scheme.empty() && !job.calibration && !job.kernels;
  if (shapes_alone && job.model_dir.has("config.json") && !has_weights(job.model_dir))
    return describe_shapes(job);

  const Checkpoint checkpoint = Checkpoint::open(job.model_dir);
  const Model model = load_model(checkpoint, {.allow_missing = true});
  Json report = describe_model(model, checkpoint);
  report["isa"] = isa_name(ctx.isa);
  report["threads"] = ctx.pool.num_threads();
  report["threads_because"] = thread_count_reason(job.threads_asked, cpu_budget());
  for (const LoweredNode& node : describe_lowering(model, ctx)) {
    if (node.rows > 0)
      report["linears"].push_back({{"name", node.name},
                                   {"rows", node.rows},
                                   {"columns", node.columns},
                                   {"kernel", node.kernel},
                                   {"bytes", node.bytes},
                                   {"fused", node.fused}});
    else if (job.kernels)
      report["other_operators"].push_back({{"name", node.name}, {"fused", node.fused}});
  }
  if (job.kernels)
    if (Json traffic = describe_memory_traffic(model, ctx); !traffic.is_null())
      report["memory_traffic"] = std::move(traffic);
  require(!job.calibration || model.missing_tensors.empty(), ErrorCode::kInvalidInput,
          job.model_dir.string(), ": tensor \"",
          model.missing_tensors.empty() ? "" : model.missing_tensors.front(),
          "\" is missing, so there are no ranges to measure");
  if (!job.scheme.empty()) report["scheme_sizes"] = describe_scheme_sizes(model.graph, job.scheme);
  if (job.calibration) report["sites"] = describe_ranges(model, *job.calibration, ctx);
  open_other_files(model, job.model_dir, report);
  report["files"] = describe_files(job.model_dir);
  job.model_dir.check_accepted();
  return report;
}

namespace {

constexpr const char* kOrder[] = {"model_type",
                                  "architecture",
                                  "head",
                                  "image",
                                  "preprocessing",
                                  "outputs",
                                  "parameters",
                                  "bytes_per_dtype",
                                  "layers",
                                  "hidden_size",
                                  "intermediate_size",
                                  "vocab_size",
                                  "norm",
                                  "context",
                                  "quantized",
                                  "tied",
                                  "missing_tensors",
                                  "unused_tensors",
                                  "weights",
                                  "isa",
                                  "threads",
                                  "threads_because"};

/// Whether a line would say something of the model: networks of images have no vocabulary, and
/// those without blocks no layers, no hidden size and no norm between them.
bool says_something(const Json& report, const std::string& key) {
  const bool of_images = report.contains("image");
  const bool has_blocks = report.at("layers") > 0;
  if (of_images && (key == "vocab_size" || key == "context")) return false;
  for (const char* of_blocks : {"layers", "hidden_size", "intermediate_size", "norm"})
    if (of_images && !has_blocks && key == of_blocks) return false;
  return report.contains(key) && !report.at(key).empty() && report.at(key) != "";
}

/// A column as wide as the longest name in it.
std::size_t name_width(const Json& rows, const char* key, std::size_t least) {
  for (const Json& row : rows) least = std::max(least, row[key].get<std::string>().size());
  return least;
}

}  // namespace

std::string inspect_text(const Json& report) {
  std::string out;
  for (const char* key : kOrder) {
    if (!says_something(report, key)) continue;
    const Json& value = report.at(key);
    out += std::string(key) + ": " + (value.is_string() ? value.get<std::string>() : value.dump());
    if (value == "graph") out += " (described op by op in config.json)";
    out += "\n";
  }
  if (report.contains("scheme_sizes")) out += scheme_sizes_text(report["scheme_sizes"]);
  if (report.contains("weights")) return out;
  for (const auto& [what, line] : report.at("refused").items())
    out += "refused, " + what + ": " + line.get<std::string>() + "\n";
  for (const Json& file : report.at("files")) {
    out += "\nfile " + file.at("file").get<std::string>() + "\n";
    for (const auto& [key, title] : {std::pair("read", "read"),
                                     {"without_effect", "without effect"},
                                     {"not_known", "not known, not used"},
                                     {"accepted", "accepted"}}) {
      std::string names;
      for (const Json& name : file.at(key))
        names += (names.empty() ? "" : ", ") + name.get<std::string>();
      if (!names.empty()) out += "  " + std::string(title) + ": " + names + "\n";
    }
  }
  const auto print_steps = [&](const std::string& title, const Json& steps) {
    if (steps.empty()) return;
    out += "  " + title + ":\n";
    for (const Json& step : steps) out += "    " + step.get<std::string>() + "\n";
  };
  for (const Json& stack : report["stacks"]) {
    out += "\nstack: " + stack["layers"].dump() + " layers, " + stack["sets_of_weights"].dump() +
           " sets of weights, attention " + stack["attention"].dump() + "\n";
    if (stack.contains("sliding_windows"))
      out += "  sliding windows by layer: " + stack["sliding_windows"].dump() + "\n";
    for (const char* part : {"prologue", "block", "epilogue"}) print_steps(part, stack[part]);
  }
  print_steps("head", report["head_steps"]);
  if (report.contains("linears")) {
    const auto width = static_cast<int>(name_width(report["linears"], "name", 26));
    out += format_text("\n%-*s %8s %8s  kernel\n", width,
                       report.contains("image") ? "layer" : "linear", "rows", "columns");
    for (const Json& l : report["linears"]) {
      const std::string fused = l["fused"].get<std::string>();
      out += format_text("%-*s %8lld %8lld  %s%s%s\n", width, l["name"].get<std::string>().c_str(),
                         static_cast<long long>(l["rows"].get<std::int64_t>()),
                         static_cast<long long>(l["columns"].get<std::int64_t>()),
                         l["kernel"].get<std::string>().c_str(), fused.empty() ? "" : "; ",
                         fused.c_str());
    }
  }
  if (report.contains("other_operators")) {
    out += "\nother operators that differ from plain f32 steps\n";
    for (const Json& o : report["other_operators"])
      out += "  " + o["name"].get<std::string>() + ": " + o["fused"].get<std::string>() + "\n";
  }
  if (report.contains("memory_traffic")) out += memory_traffic_text(report["memory_traffic"]);
  if (report.contains("sites")) {
    out +=
        "\nsite                                 min        max  beyond 6 sigma  largest  "
        "migration\n";
    for (const Json& s : report["sites"]) {
      out += format_text("%-30s %9.4f  %9.4f  %6lld of %5lld  %7lld  %s\n",
                         s["site"].get<std::string>().c_str(), s["min"].get<double>(),
                         s["max"].get<double>(),
                         static_cast<long long>(s["outlier_channels"].get<std::int64_t>()),
                         static_cast<long long>(s["channels"].get<std::int64_t>()),
                         static_cast<long long>(s["largest_channel"].get<std::int64_t>()),
                         s["migration"].get<std::string>().c_str());
    }
  }
  return out;
}

}  // namespace quell
