// Where the logits of a model stand, and which of their rows a loss counts.
#pragma once

#include <string>

#include "quell/train/objective.h"

namespace quell::train {

class LogitRows {
 public:
  /// Throws Error(kInvalidInput) naming the term where the model has no logits, or others than the
  /// task needs, or where the teacher has another number of them.
  LogitRows(const std::string& term, const TermSetting& setting);

  /// One row a sequence; else a token.
  bool of_sequences() const { return place_ == Place::kSequences; }
  bool of_next_tokens() const { return place_ == Place::kNextTokens; }
  std::int64_t columns() const { return columns_; }

  struct Counted {
    torch::Tensor at;      ///< i64 [n]: rows of the logits
    torch::Tensor labels;  ///< [n]; not defined(): the batch has none
  };
  /// Sequences all count. Of tokens those that have a label, where there are labels, and are no
  /// padding; where logits predict the token behind theirs, both are that one's. Throws
  /// Error(kInvalidInput) where none counts.
  Counted counted(const TrainingBatch& batch) const;

 private:
  enum class Place { kSequences, kTokens, kNextTokens };

  std::string term_;
  const Model& model_;
  Place place_ = Place::kSequences;
  int stack_ = 0;
  std::int64_t columns_ = 0;
};

/// The logits of a pass at those rows.
torch::Tensor logits_at(const TorchOutputs& outputs, const torch::Tensor& rows);

}  // namespace quell::train
