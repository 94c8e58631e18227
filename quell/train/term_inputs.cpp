#include "quell/train/term_inputs.h"

#include <algorithm>

#include "quell/base/error.h"
#include "quell/engine/executor.h"
#include "quell/train/losses/diagnostics.h"
#include "quell/train/torch_op.h"

namespace quell::train {
namespace {

bool is_self_attention(const Node& node) {
  return !node.attributes.get<AttentionAttributes>().recipe.cross;
}

/// Rows of a map at a time, so that the comparison of all pairs of columns stays small.
double ranking_loss_of(const torch::Tensor& student, const torch::Tensor& teacher) {
  constexpr std::int64_t kMostPairs = std::int64_t{1} << 24;
  const std::int64_t heads = student.size(0);
  const std::int64_t n = student.size(-1);
  const std::int64_t rows = std::max<std::int64_t>(1, kMostPairs / (heads * n * n));

  double sum = 0;
  for (std::int64_t first = 0; first < n; first += rows) {
    const std::int64_t count = std::min(rows, n - first);
    const torch::Tensor by_head =
        ranking_loss(student.narrow(1, first, count), teacher.narrow(1, first, count));
    sum += by_head.mean().item<double>();
  }
  return sum;
}

}  // namespace

TokenBatch tokens_of(const Model& model, const TokenBatch& batch, int stack) {
  const bool decodes = model.graph.is_encoder_decoder() &&
                       model.graph.stacks[static_cast<std::size_t>(stack)].decoder;
  return decodes ? decoder_batch(model.spec, batch) : batch;
}

torch::Tensor is_token(const TokenBatch& tokens) {
  if (tokens.mask.empty()) return torch::ones({tokens.batch, tokens.length}, torch::kBool);
  return to_torch(tokens.mask).ne(0).view({tokens.batch, tokens.length});
}

std::vector<torch::Tensor> tapped(const TorchOutputs& outputs, const std::vector<ValueId>& values) {
  std::vector<torch::Tensor> out;
  for (const ValueId v : values) out.push_back(outputs.taps.at(v));
  return out;
}

std::vector<torch::Tensor> tapped(const TorchOutputs& outputs, const std::vector<NodeId>& nodes,
                                  AttentionStage stage) {
  std::vector<torch::Tensor> out;
  for (const NodeId n : nodes) out.push_back(outputs.attention.at({n, stage}));
  return out;
}

void want_stage(Taps& taps, const std::vector<NodeId>& nodes, AttentionStage stage) {
  for (const NodeId n : nodes) taps.attention.push_back({n, stage});
}

void check_widths(const std::string& term, const TermSetting& setting, const ValuePairs& pairs) {
  const Graph& student = setting.student.graph();
  const Graph& teacher = setting.teacher->graph();
  for (std::size_t i = 0; i < pairs.student.size(); ++i) {
    const std::int64_t of_student = student.value(pairs.student[i]).type.columns;
    const std::int64_t of_teacher = teacher.value(pairs.teacher[i]).type.columns;
    require(of_student == of_teacher, ErrorCode::kInvalidInput, "term \"", term,
            "\": values of the student are ", of_student, " wide, those of the teacher ",
            of_teacher, "; leave the term out, or take sample_contrastive, which maps them");
  }
}

NodePairs equal_attention_pairs(const std::string& term, const TermSetting& setting) {
  const Graph& student = setting.student.graph();
  const Graph& teacher = setting.teacher->graph();
  NodePairs pairs = attention_pairs(student, teacher, setting.layers);
  require(!pairs.student.empty(), ErrorCode::kInvalidInput, "term \"", term,
          "\": the model has no attention in its layers; leave the term out");

  const auto heads = [](const Node& node) {
    return node.attributes.get<AttentionAttributes>().recipe.num_heads;
  };
  for (std::size_t i = 0; i < pairs.student.size(); ++i) {
    const Node& of_student = student.node(pairs.student[i]);
    const Node& of_teacher = teacher.node(pairs.teacher[i]);
    require(heads(of_student) == heads(of_teacher), ErrorCode::kInvalidInput, "term \"", term,
            "\": ", of_student.label, " has ", heads(of_student), " heads, the teacher's ",
            of_teacher.label, " ", heads(of_teacher), "; leave the term out");
  }
  return pairs;
}

torch::Tensor hidden_from(const Model& model, const TokenBatch& batch, const Node& attention) {
  const AttentionRecipe& recipe = attention.attributes.get<AttentionAttributes>().recipe;
  const int stack = attention.place.stack;
  const TokenBatch queries = tokens_of(model, batch, stack);
  const TokenBatch keys = tokens_of(model, batch, recipe.cross ? 0 : stack);

  torch::Tensor hidden = is_token(keys).logical_not().view({keys.batch, 1, 1, keys.length});
  hidden = hidden.expand({keys.batch, 1, queries.length, keys.length});
  if (!recipe.causal || recipe.cross) return hidden;

  const torch::Tensor places = torch::arange(keys.length);
  const torch::Tensor back = places.unsqueeze(1) - places.unsqueeze(0);
  torch::Tensor unseen = back.lt(0);
  if (recipe.sliding_window > 0) unseen = unseen.logical_or(back.ge(recipe.sliding_window));
  return hidden.logical_or(unseen);
}

std::map<std::string, double> map_diagnostics(const Model& model, const TokenBatch& batch,
                                              const std::vector<NodeId>& nodes,
                                              const std::vector<torch::Tensor>& student,
                                              const std::vector<torch::Tensor>& teacher) {
  constexpr std::int64_t kTop = 5;
  double ranking = 0;
  double cover = 0;
  int maps = 0;
  for (std::size_t i = 0; i < nodes.size(); ++i) {
    const Node& node = model.graph.node(nodes[i]);
    if (!is_self_attention(node)) continue;
    const torch::Tensor lengths = is_token(tokens_of(model, batch, node.place.stack)).sum(1);
    for (std::int64_t b = 0; b < lengths.size(0); ++b) {
      const auto n = lengths[b].item<std::int64_t>();
      if (n < 2) continue;
      const torch::Tensor s = student[i][b].narrow(-2, 0, n).narrow(-1, 0, n);
      const torch::Tensor t = teacher[i][b].narrow(-2, 0, n).narrow(-1, 0, n);
      ranking += ranking_loss_of(s, t);
      cover += cover_length_ratio(s, t, std::min(kTop, n)).mean().item<double>();
      ++maps;
    }
  }
  if (maps == 0) return {};
  return {{"ranking_loss", ranking / maps}, {"cover_length", cover / maps}};
}

std::map<std::string, double> row_diagnostics(const torch::Tensor& rows) {
  constexpr std::int64_t kMostRows = 256;
  const torch::Tensor some = rows.narrow(0, 0, std::min(kMostRows, rows.size(0)));
  if (some.abs().sum(-1).gt(0).sum().item<std::int64_t>() < 2) return {};
  return {{"pairwise_cosine", pairwise_cosine(some)},
          {"singular_value_entropy", singular_value_entropy(some)}};
}

ValueId last_hidden_state(const Graph& graph) { return graph.stacks.back().hidden_states.back(); }

torch::Tensor token_rows(const Model& model, const TokenBatch& batch, const torch::Tensor& rows) {
  const int last = static_cast<int>(model.graph.stacks.size()) - 1;
  return rows.index({is_token(tokens_of(model, batch, last)).flatten()});
}

}  // namespace quell::train
