#include "quell/train/training_checkpoint.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cstring>
#include <fstream>

#include "quell/base/error.h"
#include "quell/io/safetensors.h"

namespace quell::train {
namespace {

namespace fs = std::filesystem;

/// Of which a user may say that a difference does not matter.
constexpr std::array<const char*, 3> kDrift = {"threads", "isa", "build"};

struct TypePair {
  DType ours;
  torch::ScalarType torch;
};
constexpr std::array<TypePair, 5> kTypes = {{{DType::kF32, torch::kFloat32},
                                             {DType::kF64, torch::kFloat64},
                                             {DType::kI64, torch::kInt64},
                                             {DType::kI32, torch::kInt32},
                                             {DType::kBool, torch::kBool}}};

[[noreturn]] void fail(const fs::path& file, const std::string& what) {
  throw Error(ErrorCode::kIo, str(file.string(), ": ", what));
}

/// Exactly, as text.
std::string number_text(double value) {
  std::array<char, 64> buffer;
  const auto end = std::to_chars(buffer.data(), buffer.data() + buffer.size(), value).ptr;
  return {buffer.data(), end};
}

}  // namespace

torch::Tensor tensor_of_file(const TensorView& view) {
  std::vector<std::int64_t> dims;
  for (const std::int64_t d : view.shape().dims()) dims.push_back(d);
  for (const TypePair& type : kTypes)
    if (type.ours == view.dtype()) {
      torch::Tensor out = torch::empty(dims, type.torch);
      std::memcpy(out.data_ptr(), view.raw(), view.num_bytes());
      return out;
    }
  throw Error(ErrorCode::kInvalidInput, "a checkpoint of training holds no tensors of this type");
}

TensorView view_of_tensor(const torch::Tensor& t) {
  for (const TypePair& type : kTypes)
    if (type.torch == t.scalar_type()) {
      const std::vector<std::int64_t> dims = t.sizes().vec();
      return TensorView(t.data_ptr(), type.ours, Shape(dims));
    }
  throw Error(ErrorCode::kUnsupported, "checkpoints hold no tensors of this type");
}

RunDirectory::RunDirectory(fs::path path, RunKey key)
    : path_(std::move(path)), key_(std::move(key)) {
  std::error_code error;
  fs::create_directories(path_, error);
  if (error) fail(path_, "cannot be made: " + error.message());
}

std::optional<TrainingState> RunDirectory::read(bool allow_drift) const {
  std::error_code ignored;
  if (!fs::exists(checkpoint_file(), ignored)) return std::nullopt;
  const SafetensorsFile file(checkpoint_file());
  const auto& kept = file.metadata();
  const auto said = [&](const std::string& key) {
    const auto found = kept.find(key);
    return found == kept.end() ? std::string() : found->second;
  };

  for (const auto& [name, value] : key_) {
    if (said("key." + name) == value) continue;
    const bool is_drift = std::find(kDrift.begin(), kDrift.end(), name) != kDrift.end();
    if (is_drift && allow_drift) continue;
    const std::string remedy =
        is_drift ? "; --allow-drift goes on all the same, to bytes that may differ"
                 : "; remove that folder, or write elsewhere";
    throw Error(ErrorCode::kInvalidInput,
                str(path_.string(), " holds a run of another ", name, " (\"", said("key." + name),
                    "\", now \"", value, "\")", remedy));
  }

  TrainingState state;
  try {
    state.step = std::stoll(said("step"));
    state.best_step = std::stoll(said("best_step"));
    state.best_score = std::stod(said("best_score"));
    state.metrics_bytes = std::stoull(said("metrics_bytes"));
  } catch (const std::exception&) {
    throw Error(ErrorCode::kInvalidInput,
                checkpoint_file().string() + ": is no checkpoint of training; remove it");
  }
  for (const auto& [name, view] : file.tensors()) state.tensors[name] = tensor_of_file(view);
  return state;
}

void RunDirectory::write(const TrainingState& state) const {
  std::map<std::string, std::string> metadata = {
      {"step", std::to_string(state.step)},
      {"best_step", std::to_string(state.best_step)},
      {"best_score", number_text(state.best_score)},
      {"metrics_bytes", std::to_string(state.metrics_bytes)}};
  for (const auto& [name, value] : key_) metadata["key." + name] = value;

  std::vector<torch::Tensor> alive;
  std::map<std::string, TensorView> views;
  for (const auto& [name, tensor] : state.tensors) {
    alive.push_back(tensor.detach().contiguous());
    views.emplace(name, view_of_tensor(alive.back()));
  }
  write_safetensors(checkpoint_file(), views, metadata);
}

void RunDirectory::add_metrics(const std::string& line) {
  std::ofstream out(metrics_file(), std::ios::app | std::ios::binary);
  out << line << '\n';
  out.flush();
  if (!out) fail(metrics_file(), "cannot be written");
}

void RunDirectory::cut_metrics(std::uint64_t bytes) {
  std::error_code error;
  if (!fs::exists(metrics_file(), error)) {
    if (bytes > 0) fail(metrics_file(), "is gone, and the checkpoint goes on from it");
    return;
  }
  if (metrics_bytes() < bytes)
    fail(metrics_file(), "is shorter than when the checkpoint was written");
  fs::resize_file(metrics_file(), bytes, error);
  if (error) fail(metrics_file(), error.message());
}

std::uint64_t RunDirectory::metrics_bytes() const {
  std::error_code error;
  const auto size = fs::file_size(metrics_file(), error);
  return error ? 0 : size;
}

}  // namespace quell::train
