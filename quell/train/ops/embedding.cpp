// Rows of a table by ids (of tokens, token types or positions).
#include "quell/base/error.h"
#include "quell/train/torch_op.h"

namespace quell::train {
namespace {

/// The row of which look-ups have no gradient: the padding token's, and of RoBERTa's positions the
/// one that padding gets; -1: there is none.
std::int64_t padding_row(const TorchCall& call) {
  const ValueId ids = call.node().in[0];
  if (call.attributes<EmbeddingAttributes>().learns_padding) return -1;

  const bool reads_tokens = call.graph().value(ids).input == InputKind::kTokenIds;
  if (reads_tokens) return call.spec().has_pad_token ? call.spec().pad_token_id : -1;
  if (!call.graph().is_from(ids, op_position_ids)) return -1;

  const Node& positions = call.graph().producer_of(ids);
  const auto& rule = positions.attributes.get<PositionAttributes>();
  return rule.rule == PositionRule::kNonPadCount ? rule.pad_token_id : -1;
}

void check_ids(const TorchCall& call, const torch::Tensor& ids, std::int64_t rows) {
  const auto [low, high] = torch::aminmax(ids);
  for (const std::int64_t id : {low.item<std::int64_t>(), high.item<std::int64_t>()})
    require(id >= 0 && id < rows, ErrorCode::kInvalidInput,
            call.attributes<EmbeddingAttributes>().what, " ", id, " is outside the table of ", rows,
            " rows; does the data belong to this model?");
}

}  // namespace

extern const TorchOp k_embedding;
const TorchOp k_embedding = {&op_embedding, [](TorchCall& call) -> torch::Tensor {
                               const torch::Tensor ids = call.in(0);
                               const torch::Tensor table = call.weight();
                               check_ids(call, ids, table.size(0));
                               return torch::embedding(table, ids, padding_row(call));
                             }};

}  // namespace quell::train
