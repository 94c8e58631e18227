#include "quell/train/training_checkpoint.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <fstream>

#include "quell/base/error.h"
#include "quell/base/exact_text.h"
#include "quell/io/json.h"
#include "quell/io/mapped_file.h"
#include "quell/io/safetensors.h"
#include "quell/io/tensor_hash.h"

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

/// "before, now" of two texts without what both begin and end with.
std::string difference_text(const std::string& before, const std::string& now) {
  constexpr std::size_t kLongest = 60;
  const std::size_t shorter = std::min(before.size(), now.size());
  std::size_t begin = 0;
  while (begin < shorter && before[begin] == now[begin]) ++begin;
  std::size_t end = 0;
  while (end < shorter - begin && before[before.size() - 1 - end] == now[now.size() - 1 - end])
    ++end;
  while (begin > 0 && before[begin - 1] != ';' && before[begin - 1] != ',') --begin;

  const auto part = [&](const std::string& text) {
    const std::string whole = text.substr(begin, text.size() - end - begin);
    return "\"" + (whole.size() > kLongest ? whole.substr(0, kLongest) + "..." : whole) + "\"";
  };
  return part(before) + ", now " + part(now);
}

/// Of all that a checkpoint goes on from.
template <typename Views>
std::string hash_of(const TrainingState& state, const Views& tensors) {
  TensorHash hash;
  hash.add(str(state.step, " ", state.best_step, " ", exact_text(state.best_score), " ",
               state.metrics_bytes));
  for (const auto& [name, view] : tensors) {
    hash.add(name);
    hash.add(view.raw(), view.num_bytes());
  }
  return hash.text();
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
  check_owned();

  const std::string text = Json(key_).dump(2) + "\n";
  const bool is_known = fs::exists(key_file(), error);
  const bool goes_on = fs::exists(checkpoint_file(), error);
  if (is_known && !goes_on && read_text_file(key_file()) != text) {
    fs::remove_all(teacher_directory(), error);
    fs::remove_all(model_directory(), error);
  }
  if (!is_known || !goes_on) write_text_file(key_file(), text);
}

void RunDirectory::check_owned() const {
  std::error_code error;
  if (fs::exists(key_file(), error)) return;
  for (const fs::directory_entry& entry : fs::directory_iterator(path_, error)) {
    const std::string name = entry.path().filename().string();
    require(name.starts_with("."), ErrorCode::kInvalidInput, path_.string(),
            ": is where this run would be kept, and holds something else (", name,
            "); move it away, or choose another output");
  }
}

void RunDirectory::remove() const {
  std::error_code ignored;
  for (const fs::path& own :
       {teacher_directory(), model_directory(), checkpoint_file(), metrics_file(), key_file()})
    fs::remove_all(own, ignored);
  fs::remove(path_, ignored);  // nothing happens where a user has put something there
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
                str(path_.string(), " holds a run with another value of \"", name, "\" (",
                    difference_text(said("key." + name), value), ")", remedy));
  }

  TrainingState state;
  const bool is_complete = parse_whole(said("step"), state.step) &&
                           parse_whole(said("best_step"), state.best_step) &&
                           parse_whole(said("best_score"), state.best_score) &&
                           parse_whole(said("metrics_bytes"), state.metrics_bytes);
  require(is_complete && said("hash") == hash_of(state, file.tensors()), ErrorCode::kInvalidInput,
          checkpoint_file().string(), ": is damaged, or no checkpoint of training; remove ",
          path_.string(), " to start again");
  for (const auto& [name, view] : file.tensors()) state.tensors[name] = tensor_of_file(view);
  return state;
}

void RunDirectory::write(const TrainingState& state) const {
  std::map<std::string, std::string> metadata = {
      {"step", std::to_string(state.step)},
      {"best_step", std::to_string(state.best_step)},
      {"best_score", exact_text(state.best_score)},
      {"metrics_bytes", std::to_string(state.metrics_bytes)}};
  for (const auto& [name, value] : key_) metadata["key." + name] = value;

  std::vector<torch::Tensor> alive;
  std::map<std::string, TensorView> views;
  for (const auto& [name, tensor] : state.tensors) {
    alive.push_back(tensor.detach().contiguous());
    views.emplace(name, view_of_tensor(alive.back()));
  }
  metadata["hash"] = hash_of(state, views);
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
