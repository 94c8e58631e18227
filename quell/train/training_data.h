// Rows to learn from, and the order in which they come: a function of the seed alone, so that a run
// is taken up at any step.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "quell/text/data/token_batch.h"
#include "quell/train/training_batch.h"

namespace quell::train {

struct TrainingSet {
  TaskKind kind = TaskKind::kUnlabelled;
  std::string source;  ///< for messages
  std::vector<TokenSequence> sequences;
  std::vector<double> labels;          ///< classes and values: one a sequence
  std::vector<TokenSequence> targets;  ///< seq2seq: one a sequence
  std::int32_t pad_id = 0;
  std::int32_t decoder_start_id = 0;  ///< seq2seq
  /// Masked language models: which id stands for a masked token, how many there are in all, and
  /// which are never masked.
  std::int32_t mask_id = 0;
  std::int32_t vocabulary = 0;
  std::vector<std::int32_t> special_ids = {};
  double masked_share = 0.15;
};

/// Throws Error(kInvalidInput) naming source and row where there are no rows, or labels do not fit
/// `classes` (kClasses).
void check_training_set(const TrainingSet& set, std::int64_t classes);
/// The same of labels alone.
void check_labels(const std::vector<double>& labels, std::int64_t classes,
                  const std::string& source);

struct BatchOrder {
  std::int64_t batch_size = 32;
  std::uint64_t seed = 0;
  /// The same rows form a batch in every epoch, and only the order of batches changes: what a
  /// teacher gives can then be kept.
  bool fixed_batches = false;
};

class TrainingData {
 public:
  /// Refers to `set`.
  TrainingData(const TrainingSet& set, const BatchOrder& order);

  std::int64_t batches_per_epoch() const;
  /// Rows of batch `i` of the run, from 0, over all epochs; the last one of an epoch may have
  /// fewer. `number` is which of its epoch's batches it is, before their order was drawn.
  struct Drawn {
    std::int64_t number = 0;
    std::vector<std::size_t> rows;
  };
  Drawn rows(std::int64_t i) const;
  /// Padded; masks of masked language models are drawn from seed, batch and row.
  TrainingBatch batch(std::int64_t i) const;
  /// Rows of the set, padded, with what a decoder reads; nothing is masked.
  TokenBatch tokens_of(const std::vector<std::size_t>& rows) const;

 private:
  /// Of an epoch: the order of rows, and of batches.
  struct Epoch {
    std::int64_t index = -1;
    std::vector<std::size_t> rows;
    std::vector<std::size_t> batches;
  };
  const Epoch& epoch(std::int64_t index) const;
  void mask_tokens(std::int64_t i, TrainingBatch& batch) const;
  /// What a decoder reads of its targets.
  void add_decoder(const TokenBatch& targets, TokenBatch& tokens) const;

  const TrainingSet& set_;
  BatchOrder order_;
  mutable Epoch epoch_;  ///< the one that was asked for last
};

}  // namespace quell::train
