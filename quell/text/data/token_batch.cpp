#include "quell/text/data/token_batch.h"

#include <algorithm>
#include <numeric>

#include "quell/base/error.h"

namespace quell {
namespace {

void note_prompts(const std::vector<TokenSequence>& sequences, std::span<const std::size_t> indices,
                  TokenBatch& out) {
  if (std::all_of(indices.begin(), indices.end(),
                  [&](std::size_t i) { return sequences[i].prompt_length == 0; }))
    return;
  for (const std::size_t i : indices) out.prompt_lengths.push_back(sequences[i].prompt_length);
}

}  // namespace

TokenBatch make_batch(const std::vector<TokenSequence>& sequences,
                      std::span<const std::size_t> indices, std::int32_t pad_id) {
  TokenBatch out;
  out.batch = static_cast<std::int64_t>(indices.size());
  bool labelled = false;
  for (const std::size_t i : indices) {
    out.length = std::max(out.length, static_cast<std::int64_t>(sequences[i].ids.size()));
    labelled |= !sequences[i].labels.empty();
  }
  const auto total = static_cast<std::size_t>(out.rows());
  out.ids.assign(total, pad_id);
  out.mask.assign(total, 0);
  out.type_ids.assign(total, 0);
  if (labelled) out.labels.assign(total, -100);
  for (std::size_t r = 0; r < indices.size(); ++r) {
    const TokenSequence& s = sequences[indices[r]];
    const auto at = static_cast<std::ptrdiff_t>(r * static_cast<std::size_t>(out.length));
    std::copy(s.ids.begin(), s.ids.end(), out.ids.begin() + at);
    std::fill_n(out.mask.begin() + at, s.ids.size(), 1);
    std::copy(s.type_ids.begin(), s.type_ids.end(), out.type_ids.begin() + at);
    if (labelled) std::copy(s.labels.begin(), s.labels.end(), out.labels.begin() + at);
  }
  note_prompts(sequences, indices, out);
  return out;
}

TokenBatch make_concatenated_batch(const std::vector<TokenSequence>& sequences,
                                   std::span<const std::size_t> indices) {
  TokenBatch out;
  out.batch = static_cast<std::int64_t>(indices.size());
  out.starts.push_back(0);
  for (const std::size_t i : indices) {
    const TokenSequence& s = sequences[i];
    const auto count = static_cast<std::int64_t>(s.ids.size());
    out.length = std::max(out.length, count);
    out.ids.insert(out.ids.end(), s.ids.begin(), s.ids.end());
    out.mask.insert(out.mask.end(), s.ids.size(), 1);
    if (s.type_ids.empty())
      out.type_ids.insert(out.type_ids.end(), s.ids.size(), 0);
    else
      out.type_ids.insert(out.type_ids.end(), s.type_ids.begin(), s.type_ids.end());
    out.starts.push_back(out.starts.back() + count);
  }
  note_prompts(sequences, indices, out);
  return out;
}

std::vector<TokenBatch> make_batches(const std::vector<TokenSequence>& sequences,
                                     std::size_t batch_size, std::int32_t pad_id) {
  std::vector<TokenBatch> out;
  for (std::size_t begin = 0; begin < sequences.size(); begin += batch_size) {
    std::vector<std::size_t> indices(std::min(batch_size, sequences.size() - begin));
    std::iota(indices.begin(), indices.end(), begin);
    out.push_back(make_batch(sequences, indices, pad_id));
  }
  return out;
}

std::vector<std::vector<std::size_t>> group_by_length(const std::vector<TokenSequence>& sequences,
                                                      std::int64_t max_tokens) {
  std::vector<std::size_t> order(sequences.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
    return sequences[a].ids.size() > sequences[b].ids.size();
  });
  std::vector<std::vector<std::size_t>> groups;
  std::int64_t longest = 0;
  for (const std::size_t i : order) {
    if (groups.empty() ||
        (static_cast<std::int64_t>(groups.back().size()) + 1) * longest > max_tokens) {
      groups.emplace_back();
      longest = std::max<std::int64_t>(1, static_cast<std::int64_t>(sequences[i].ids.size()));
    }
    groups.back().push_back(i);
  }
  return groups;
}

TokenBatch first_sequences(TokenBatch batch, std::int64_t count) {
  require(batch.starts.empty() && batch.past.empty(), ErrorCode::kInvalidInput,
          "sequences can be taken from padded batches only");
  if (count >= batch.batch) return batch;
  const auto cut = [&](auto& values) {
    values.resize(values.size() / static_cast<std::size_t>(batch.batch) *
                  static_cast<std::size_t>(count));
  };
  for (auto* v : {&batch.ids, &batch.mask, &batch.type_ids, &batch.labels, &batch.decoder_ids,
                  &batch.decoder_mask, &batch.prompt_lengths})
    cut(*v);
  cut(batch.pixels);
  batch.batch = count;
  return batch;
}

}  // namespace quell
