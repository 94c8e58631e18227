// A run of training on the disk: what it is, how far it got, and all it needs to go on to the same
// bytes.
#pragma once

#include <torch/torch.h>

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>

#include "quell/tensor/tensor.h"

namespace quell::train {

/// What the bytes of a run depend on, by name ("recipe", "data", "threads", "isa", "build").
using RunKey = std::map<std::string, std::string>;

struct TrainingState {
  std::int64_t step = 0;  ///< steps that are done
  /// Parameters, optimizer, quantizers, memory banks, the best model: by name.
  std::map<std::string, torch::Tensor> tensors;
  std::int64_t best_step = -1;  ///< -1: nothing was evaluated
  double best_score = 0;
  std::uint64_t metrics_bytes = 0;  ///< of metrics.jsonl at that step
};

/// A directory with run_key.json, checkpoint.safetensors and metrics.jsonl. The checkpoint is
/// written under another name, flushed and renamed, so that a run which is killed, or meets a full
/// disk, keeps the one before. All errors of the file system are Error(kIo).
class RunDirectory {
 public:
  /// Makes the directory where it is missing. What a run of another key left there before its first
  /// checkpoint is removed. Throws Error(kInvalidInput) where other files lie there.
  RunDirectory(std::filesystem::path path, RunKey key);

  const std::filesystem::path& path() const { return path_; }
  /// Where what is made anew without loss may be kept meanwhile.
  std::filesystem::path teacher_directory() const { return path_ / "teacher"; }
  std::filesystem::path model_directory() const { return path_ / "model"; }
  /// All that the run has written; the directory too, where nothing else lies in it.
  void remove() const;

  /// Of the run with this key; nothing where there is no checkpoint. With `allow_drift` a run of
  /// other threads, ISA or build goes on too. Throws Error(kInvalidInput) naming what differs, and
  /// what to do, where a run of another key lies there.
  std::optional<TrainingState> read(bool allow_drift) const;
  void write(const TrainingState& state) const;

  /// Appends a line to metrics.jsonl.
  void add_metrics(const std::string& line);
  /// Takes back what was appended behind a checkpoint.
  void cut_metrics(std::uint64_t bytes);
  std::uint64_t metrics_bytes() const;
  std::filesystem::path metrics_file() const { return path_ / "metrics.jsonl"; }

 private:
  std::filesystem::path key_file() const { return path_ / "run_key.json"; }
  std::filesystem::path checkpoint_file() const { return path_ / "checkpoint.safetensors"; }
  void check_owned() const;

  std::filesystem::path path_;
  RunKey key_;
};

/// A tensor of a file, copied; and a view of a contiguous one on a CPU, which must outlive it.
/// f32, f64, i64, i32 and bool. Throw Error where it is of another type.
torch::Tensor tensor_of_file(const TensorView& view);
TensorView view_of_tensor(const torch::Tensor& t);

}  // namespace quell::train
