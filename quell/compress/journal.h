// What a compression run has decided so far, kept on disk, so that the same command goes on after a crash with the same result.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "quell/compress/recipe.h"
#include "quell/model/model.h"
#include "quell/quant/plan.h"
#include "quell/text/data/token_batch.h"

namespace quell {

/// A directory with one file a step, each written under a temporary name, flushed and renamed. Steps hold plans, not tensors in
/// flight: those are computed again from the plans, which is exact and cheap beside the searches. Errors of the file system throw
/// Error(kIo).
class Journal {
 public:
  /// Opens `directory`, or starts it afresh where it is missing or belongs to another `key` (journal_key).
  Journal(std::filesystem::path directory, const std::string& key);

  /// Steps that an earlier run left.
  std::size_t found() const { return found_; }
  /// The plans of a step in the order of application; empty where there is no such step. A damaged file counts as none.
  std::vector<Plan> read(const std::string& step) const;
  void write(const std::string& step, const std::vector<Plan>& plans) const;
  /// The run is complete: removes the directory.
  void finish() const;

 private:
  std::filesystem::path directory_;
  std::size_t found_ = 0;
};

/// Hash of everything the plans depend on: version, instruction set, weights, samples and recipe.
std::string journal_key(const Model& model, const std::vector<TokenBatch>& samples, const Recipe& recipe, Isa isa);

}  // namespace quell
