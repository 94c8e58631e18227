#include "quell/eval/packed_forward.h"

#include <algorithm>
#include <numeric>

#include "quell/base/error.h"

namespace quell {
namespace {

constexpr std::int64_t kBatchTokens = 2048;

std::int64_t length_of(const TokenSequence& s) { return std::ssize(s.ids); }

/// Longest first. `one_length`: all of a group are of the same length.
std::vector<std::vector<std::size_t>> group(const std::vector<TokenSequence>& sequences,
                                            std::int64_t max_tokens, bool one_length) {
  std::vector<std::size_t> order(sequences.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
    return length_of(sequences[a]) > length_of(sequences[b]);
  });

  std::vector<std::vector<std::size_t>> groups;
  std::int64_t tokens = 0;
  for (const std::size_t i : order) {
    const std::int64_t length = length_of(sequences[i]);
    const bool fits = !groups.empty() && tokens + length <= max_tokens &&
                      (!one_length || length == length_of(sequences[groups.back().front()]));
    if (!fits) {
      groups.emplace_back();
      tokens = 0;
    }
    groups.back().push_back(i);
    tokens += length;
  }
  return groups;
}

}  // namespace

void for_each_packed(const ForwardModel& model, const std::vector<TokenSequence>& sequences,
                     bool embedding_only, std::int64_t max_tokens, const PackedSink& sink,
                     ExecContext& ctx) {
  const ModelSpec& spec = model.model().spec;
  const bool packs = takes_packed_batches(model.model());
  for (const std::vector<std::size_t>& indices : group(sequences, max_tokens, !packs)) {
    const TokenBatch batch = packs ? make_concatenated_batch(sequences, indices)
                                   : make_batch(sequences, indices, spec.pad_token_id);
    ForwardOutputs outputs;
    outputs.embedding_only = embedding_only;
    model.forward(batch, outputs, ctx);
    for (std::size_t b = 0; b < indices.size(); ++b)
      sink(indices[b], batch, static_cast<std::int64_t>(b), outputs);
  }
}

std::vector<std::vector<float>> rows_of_sequence(const Tensor& output, const TokenBatch& batch,
                                                 std::int64_t b) {
  const bool one = output.rows() == batch.batch && batch.rows() != batch.batch;
  const std::int64_t begin = one ? b : batch.row_begin(b), count = one ? 1 : batch.row_count(b);

  std::vector<std::vector<float>> rows;
  for (std::int64_t i = begin; i < begin + count; ++i)
    rows.emplace_back(output.row(i), output.row(i) + output.cols());
  return rows;
}

std::vector<std::vector<std::vector<float>>> run_packed(const ForwardModel& model,
                                                        const std::vector<TokenSequence>& sequences,
                                                        const std::string& name, ExecContext& ctx) {
  std::vector<std::vector<std::vector<float>>> out(sequences.size());
  for_each_packed(
      model, sequences, name == "embedding", kBatchTokens,
      [&](std::size_t i, const TokenBatch& batch, std::int64_t b, const ForwardOutputs& outputs) {
        const auto found = outputs.values.find(name);
        require(found != outputs.values.end(), ErrorCode::kUsage, "this model gives no \"", name,
                '"');
        out[i] = rows_of_sequence(found->second, batch, b);
      },
      ctx);
  return out;
}

}  // namespace quell
