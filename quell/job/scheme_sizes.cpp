#include "quell/job/scheme_sizes.h"

#include <cmath>

#include "quell/base/error.h"
#include "quell/graph/ops.h"
#include "quell/io/json.h"
#include "quell/job/report.h"

namespace quell {
namespace {

constexpr double kMegabyte = 1 << 20;

/// Ternary weights: five trits a byte, without a code that looks at how often a value occurs.
constexpr double kTernaryBits = 1.6;

/// That a code takes.
double stored_bits(const SchemeBits& side) { return side.is_ternary ? kTernaryBits : side.bits; }

/// How a parameter's matrix counts.
enum class Counts { kFloat, kMatrix, kTable };

Counts counts_as(const Graph& graph, ParamId id) {
  const ParamDef& def = graph.param(id);
  if (def.shape.rank() != 2) return Counts::kFloat;
  // A head of its own is a table of words, as its tied form is.
  if (def.role == Role::kTokenTable || def.role == Role::kLmHead) return Counts::kTable;
  if (def.role == Role::kClassifier) return Counts::kFloat;

  for (const NodeId n : graph.users(id)) {
    if (!graph.node(n).op->product) continue;
    const bool in_head = graph.head_begin != kNoNode && n >= graph.head_begin;
    if (!in_head || def.role == Role::kPooler) return Counts::kMatrix;
  }
  return Counts::kFloat;
}

std::uint64_t code_bytes(std::uint64_t elements, double bits) {
  constexpr double kBitsOfByte = 8;
  return static_cast<std::uint64_t>(std::ceil(static_cast<double>(elements) * bits / kBitsOfByte));
}

/// Elements that are f32 in every scheme: biases and further vectors. A bias that checkpoints may
/// leave out (BART's final_logits_bias) is a buffer, and no parameter.
std::uint64_t vector_elements(const ParamDef& def) {
  const bool has_bias = def.has_bias && !def.zero_bias_if_missing;
  return static_cast<std::uint64_t>(def.shape[0]) * (def.vectors.size() + (has_bias ? 1 : 0));
}

double times_smaller(std::uint64_t whole, std::uint64_t part) {
  return static_cast<double>(whole) / static_cast<double>(part);
}

}  // namespace

SchemeSizes sizes_by_scheme(const Graph& graph, const Scheme& scheme) {
  SchemeSizes sizes;
  for (ParamId id = 0; id < graph.num_params(); ++id) {
    const ParamDef& def = graph.param(id);
    const std::uint64_t vectors = sizeof(float) * vector_elements(def);
    sizes.float_model += vectors;
    sizes.without_steps += vectors;
    if (!def.has_weight || def.tied_to != kNoParam) continue;

    const auto elements = static_cast<std::uint64_t>(def.shape.numel());
    sizes.float_model += sizeof(float) * elements;

    const Counts counts = counts_as(graph, id);
    const bool table = counts == Counts::kTable;
    const SchemeBits& side = table ? scheme.of_embeddings() : scheme.weights;
    if (counts == Counts::kFloat || side.is_float()) {
      sizes.without_steps += sizeof(float) * elements;
      continue;
    }
    sizes.without_steps += code_bytes(elements, stored_bits(side));
    sizes.matrix_steps += sizeof(float);
    if (table)
      sizes.table_row_steps += sizeof(float) * (static_cast<std::uint64_t>(def.shape[0]) - 1);
  }
  return sizes;
}

Json describe_scheme_sizes(const Graph& graph, const std::string& text) {
  const Scheme scheme = parse_scheme(text);
  const SchemeSizes sizes = sizes_by_scheme(graph, scheme);
  const auto row = [&](std::uint64_t bytes) {
    return Json{{"bytes", bytes},
                {"megabytes", static_cast<double>(bytes) / kMegabyte},
                {"times_smaller", times_smaller(sizes.float_model, bytes)}};
  };
  const bool ternary = scheme.weights.is_ternary || scheme.of_embeddings().is_ternary;
  return {{"scheme", text},
          {"ternary", ternary},
          {"float", row(sizes.float_model)},
          {"without_steps", row(sizes.without_steps)},
          {"step_per_matrix", row(sizes.with_matrix_steps())},
          {"step_per_row_of_words", row(sizes.with_row_steps())}};
}

std::string scheme_sizes_text(const Json& sizes) {
  std::string out = "\nsize by " + sizes.at("scheme").get<std::string>() + ", in MB of 2^20 bytes";
  if (sizes.at("ternary") == true) out += "; ternary codes: five a byte, 1.6 bits each";
  out += "\n";
  for (const auto& [key, title] :
       {std::pair("float", "floats"),
        {"without_steps", "codes, without steps"},
        {"step_per_matrix", "with a step for each matrix"},
        {"step_per_row_of_words", "and one for each row of the word table"}}) {
    const Json& row = sizes.at(key);
    out += format_text("  %-40s %10.2f  %6.1fx\n", title, row.at("megabytes").get<double>(),
                       row.at("times_smaller").get<double>());
  }
  return out;
}

}  // namespace quell
