// What a compression run has decided so far, kept on disk, so that the same command goes on after a
// crash with the same result.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "quell/compress/recipe.h"
#include "quell/model/model.h"
#include "quell/quant/plan.h"
#include "quell/text/data/token_batch.h"

namespace quell {

/// What plans depend on.
struct JournalKey {
  std::string build;  ///< of the library (build_id)
  std::string work;   ///< hash of the rest
  bool operator==(const JournalKey&) const = default;
};

/// A directory with one file a step, each written under a temporary name, flushed and renamed.
/// Steps hold plans, not tensors in flight: those are computed again from the plans, which is exact
/// and cheap beside the searches. Every file holds the key, so that none of another run is ever
/// taken, whatever else writes there. Errors of the file system throw Error(kIo).
class Journal {
 public:
  /// Opens `directory`, or starts it afresh where it is missing, or, which it says, belongs to
  /// another `key` (journal_key).
  Journal(std::filesystem::path directory, JournalKey key);

  /// Steps that an earlier run left.
  std::size_t found() const { return found_; }
  /// The plans of a step in the order of application; empty where there is no such step. A damaged
  /// file counts as none.
  std::vector<Plan> read(const std::string& step) const;
  void write(const std::string& step, const std::vector<Plan>& plans) const;
  /// Record `i` of the numbers that a long step notes down as they come; none where there is no
  /// such record.
  std::optional<std::vector<double>> read_note(const std::string& step, std::size_t i) const;
  void write_note(const std::string& step, std::size_t i, const std::vector<double>& values) const;
  /// The run is complete: removes the directory.
  void finish() const;

 private:
  std::filesystem::path directory_;
  JournalKey key_;
  std::size_t found_ = 0;
};

/// The records of one long step, in the order in which they are asked for. Without a journal none
/// is kept.
class Notes {
 public:
  Notes() = default;
  Notes(const Journal* journal, std::string step) : journal_(journal), step_(std::move(step)) {}

  /// The next record: as an earlier run left it, or what `make` gives.
  template <typename Make>
  std::vector<double> next(Make make) const {
    const std::size_t i = count_++;
    if (!journal_) return make();
    if (auto found = journal_->read_note(step_, i)) return *std::move(found);
    const std::vector<double> values = make();
    journal_->write_note(step_, i, values);
    return values;
  }

 private:
  const Journal* journal_ = nullptr;
  std::string step_;
  mutable std::size_t count_ = 0;
};

/// Everything the plans depend on: the library's build and that of its products, instruction set,
/// weights, samples and recipe.
JournalKey journal_key(const Model& model, const std::vector<TokenBatch>& samples,
                       const Recipe& recipe, Isa isa);

}  // namespace quell
