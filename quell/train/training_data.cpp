#include "quell/train/training_data.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "quell/base/error.h"
#include "quell/base/random.h"
#include "quell/train/losses/logits.h"
#include "quell/train/torch_op.h"

namespace quell::train {
namespace {

/// Streams of random numbers that have nothing to do with each other.
enum class Stream : std::uint64_t { kRows = 1, kBatches = 2, kMasks = 3 };

Random stream(std::uint64_t seed, Stream what, std::int64_t index) {
  Random mixed(seed * 0x2545f4914f6cdd1dULL + static_cast<std::uint64_t>(what));
  return Random(mixed.next() ^ static_cast<std::uint64_t>(index));
}

std::vector<std::size_t> shuffled(std::int64_t count, Random random) {
  std::vector<std::size_t> out(static_cast<std::size_t>(count));
  std::iota(out.begin(), out.end(), std::size_t{0});
  random.shuffle(out);
  return out;
}

}  // namespace

void check_training_set(const TrainingSet& set, std::int64_t classes) {
  require(!set.sequences.empty(), ErrorCode::kInvalidInput, set.source, ": no rows to learn from");
  const bool by_sequence = set.kind == TaskKind::kClasses || set.kind == TaskKind::kValue;
  require(!by_sequence || set.labels.size() == set.sequences.size(), ErrorCode::kInvalidInput,
          set.source, ": ", set.sequences.size(), " rows have ", set.labels.size(), " labels");
  require(set.kind != TaskKind::kSeq2Seq || set.targets.size() == set.sequences.size(),
          ErrorCode::kInvalidInput, set.source, ": ", set.sequences.size(), " rows have ",
          set.targets.size(), " targets");
  if (set.kind == TaskKind::kClasses) check_labels(set.labels, classes, set.source);
}

void check_labels(const std::vector<double>& labels, std::int64_t classes,
                  const std::string& source) {
  for (std::size_t i = 0; i < labels.size(); ++i) {
    const double label = labels[i];
    const bool is_class =
        label >= 0 && label < static_cast<double>(classes) && label == std::floor(label);
    require(is_class, ErrorCode::kInvalidInput, source, ": row ", i + 1, " has label ", label,
            ", and classes go from 0 to ", classes - 1);
  }
}

TrainingData::TrainingData(const TrainingSet& set, const BatchOrder& order)
    : set_(set), order_(order) {
  require(!set.sequences.empty() && order.batch_size > 0, ErrorCode::kUsage,
          "training wants rows and a batch size");
}

std::int64_t TrainingData::batches_per_epoch() const {
  return (std::ssize(set_.sequences) + order_.batch_size - 1) / order_.batch_size;
}

const TrainingData::Epoch& TrainingData::epoch(std::int64_t index) const {
  if (epoch_.index == index) return epoch_;
  const std::int64_t rows_of = order_.fixed_batches ? 0 : index;
  epoch_.rows = shuffled(std::ssize(set_.sequences), stream(order_.seed, Stream::kRows, rows_of));
  epoch_.batches.clear();
  if (order_.fixed_batches)
    epoch_.batches = shuffled(batches_per_epoch(), stream(order_.seed, Stream::kBatches, index));
  epoch_.index = index;
  return epoch_;
}

TrainingData::Drawn TrainingData::rows(std::int64_t i) const {
  const std::int64_t per_epoch = batches_per_epoch();
  const Epoch& order = epoch(i / per_epoch);
  Drawn out;
  out.number = i % per_epoch;
  if (order_.fixed_batches)
    out.number = static_cast<std::int64_t>(order.batches[static_cast<std::size_t>(i % per_epoch)]);

  const std::int64_t begin = out.number * order_.batch_size;
  const std::int64_t end = std::min(begin + order_.batch_size, std::ssize(order.rows));
  out.rows.assign(order.rows.begin() + begin, order.rows.begin() + end);
  return out;
}

TrainingBatch TrainingData::batch(std::int64_t i) const {
  const Drawn drawn = rows(i);
  TrainingBatch out;
  out.kind = set_.kind;
  out.tokens = tokens_of(drawn.rows);

  switch (set_.kind) {
    case TaskKind::kClasses:
    case TaskKind::kValue: {
      std::vector<double> labels;
      for (const std::size_t row : drawn.rows) labels.push_back(set_.labels[row]);
      const bool is_class = set_.kind == TaskKind::kClasses;
      out.labels =
          torch::tensor(labels, torch::kFloat64).to(is_class ? torch::kInt64 : torch::kFloat32);
      break;
    }
    case TaskKind::kMaskedLm: mask_tokens(i, out); break;
    case TaskKind::kCausalLm: {
      const torch::Tensor ids = to_torch(out.tokens.ids);
      const torch::Tensor is_padding = to_torch(out.tokens.mask).eq(0);
      out.labels =
          ids.masked_fill(is_padding, kIgnoredLabel).view({out.tokens.batch, out.tokens.length});
      break;
    }
    case TaskKind::kSeq2Seq: {
      const TokenBatch targets = make_batch(set_.targets, drawn.rows, set_.pad_id);
      const torch::Tensor is_padding = to_torch(targets.mask).eq(0);
      out.labels = to_torch(targets.ids)
                       .masked_fill(is_padding, kIgnoredLabel)
                       .view({targets.batch, targets.length});
      break;
    }
    case TaskKind::kUnlabelled: break;
  }
  return out;
}

/// Of the chosen tokens eight of ten become the mask, one another token, and one stays (BERT). At
/// least one is chosen: short batches would often have nothing to learn from.
void TrainingData::mask_tokens(std::int64_t i, TrainingBatch& batch) const {
  Random random = stream(order_.seed, Stream::kMasks, i);
  TokenBatch& tokens = batch.tokens;
  std::vector<std::int32_t> labels(tokens.ids.size(), static_cast<std::int32_t>(kIgnoredLabel));
  const auto mask = [&](std::size_t t) {
    labels[t] = tokens.ids[t];
    const double how = random.uniform();
    const auto any =
        static_cast<std::int32_t>(random.below(static_cast<std::uint64_t>(set_.vocabulary)));
    if (how < 0.8)
      tokens.ids[t] = set_.mask_id;
    else if (how < 0.9)
      tokens.ids[t] = any;
  };

  std::vector<std::size_t> candidates;
  for (std::size_t t = 0; t < tokens.ids.size(); ++t) {
    const bool is_special = std::find(set_.special_ids.begin(), set_.special_ids.end(),
                                      tokens.ids[t]) != set_.special_ids.end();
    if (tokens.mask[t] && !is_special) candidates.push_back(t);
  }
  bool is_any_masked = false;
  for (const std::size_t t : candidates) {
    if (random.uniform() >= set_.masked_share) continue;
    mask(t);
    is_any_masked = true;
  }
  if (!is_any_masked && !candidates.empty()) mask(candidates[random.below(candidates.size())]);
  batch.labels = to_torch(labels).view({tokens.batch, tokens.length});
}

TokenBatch TrainingData::tokens_of(const std::vector<std::size_t>& rows) const {
  TokenBatch tokens = make_batch(set_.sequences, rows, set_.pad_id);
  if (set_.kind == TaskKind::kSeq2Seq)
    add_decoder(make_batch(set_.targets, rows, set_.pad_id), tokens);
  return tokens;
}

/// A decoder reads its target one token late.
void TrainingData::add_decoder(const TokenBatch& targets, TokenBatch& tokens) const {
  const std::int64_t length = targets.length;
  tokens.decoder_length = length;
  tokens.decoder_ids.resize(targets.ids.size());
  tokens.decoder_mask.resize(targets.ids.size());
  for (std::size_t t = 0; t < targets.ids.size(); ++t) {
    const bool is_first = t % static_cast<std::size_t>(length) == 0;
    tokens.decoder_ids[t] = is_first ? set_.decoder_start_id : targets.ids[t - 1];
    tokens.decoder_mask[t] = is_first ? 1 : targets.mask[t - 1];
  }
}

}  // namespace quell::train
