#include "quell/compress/journal.h"

#include <cstring>
#include <map>

#include "quell/base/build_id.h"
#include "quell/base/error.h"
#include "quell/base/log.h"
#include "quell/io/json.h"
#include "quell/io/mapped_file.h"
#include "quell/io/output_file.h"
#include "quell/io/safetensors.h"
#include "quell/io/tensor_hash.h"
#include "quell/kernels/sgemm/sgemm.h"
#include "quell/model/model_hash.h"

namespace quell {
namespace {
namespace fs = std::filesystem;

constexpr const char* kKeyFile = "key";
constexpr const char* kPlanEnding = ".plan.safetensors";
constexpr const char* kNoteEnding = ".note";

std::string text_of(const JournalKey& key) { return key.build + "\n" + key.work; }

void warn_of_damage(const fs::path& path, const std::exception& e) {
  log(LogLevel::kWarning, path.string() + ": damaged, computed again (" + e.what() + ")");
}

Json to_json(const QuantSpec& s) {
  return {s.num_bits,
          s.symmetric,
          static_cast<int>(s.granularity),
          s.group_size,
          s.dynamic,
          static_cast<int>(s.codes),
          static_cast<int>(s.step_rule)};
}
QuantSpec spec_of(const Json& j) {
  return {j.at(0).get<int>(),
          j.at(1).get<bool>(),
          static_cast<Granularity>(j.at(2).get<int>()),
          j.at(3).get<std::int64_t>(),
          j.at(4).get<bool>(),
          static_cast<CodeRange>(j.at(5).get<int>()),
          static_cast<StepRule>(j.at(6).get<int>())};
}

/// The step by its bits, so that nothing is lost in decimals.
Json to_json(const StepAndZero& s) { return {std::bit_cast<std::uint32_t>(s.scale), s.zero_point}; }
StepAndZero step_of(const Json& j) {
  return {std::bit_cast<float>(j.at(0).get<std::uint32_t>()), j.at(1).get<std::int32_t>()};
}

Json to_json(const ActivationQuant& q) {
  Json groups;
  if (q.groups) {
    groups = {{"channels", q.groups->channels}, {"steps", Json::array()}};
    for (const StepAndZero& s : q.groups->steps) groups["steps"].push_back(to_json(s));
  }
  return {to_json(q.spec), to_json(q.qparams), groups};
}
ActivationQuant quant_of(const Json& j) {
  ActivationQuant q{spec_of(j.at(0)), step_of(j.at(1))};
  if (j.at(2).is_null()) return q;
  ChannelGroups groups{j.at(2).at("channels").get<std::vector<std::int32_t>>(), {}};
  for (const Json& s : j.at(2).at("steps")) groups.steps.push_back(step_of(s));
  q.groups = std::make_shared<const ChannelGroups>(std::move(groups));
  return q;
}
Json to_json(const std::optional<ActivationQuant>& q) { return q ? to_json(*q) : Json(); }
std::optional<ActivationQuant> optional_quant_of(const Json& j) {
  return j.is_null() ? std::nullopt : std::optional(quant_of(j));
}

/// Items as JSON, their tensors beside it under "plan.item.name".
class Writer {
 public:
  Json item(const ShiftScale& i) {
    Json values = Json::array();
    for (const ChangedValue& v : i.values)
      values.push_back({v.value, static_cast<int>(v.producer), v.producer_node, v.restore,
                        v.shared.heads, v.shared.dim});
    keep("scale", i.scale);
    if (i.shift.defined()) keep("shift", i.shift);
    return {{"kind", "shift_scale"}, {"values", values}, {"linears", i.linears}};
  }
  Json item(const SplitChannels& i) {
    return {{"kind", "split"},
            {"value", i.value},
            {"producers", i.producers},
            {"linears", i.linears},
            {"sources", i.sources}};
  }
  Json item(const SetInputQuant& i) {
    return {{"kind", "input"}, {"value", i.value}, {"quant", to_json(i.quant)}};
  }
  Json item(const SetAttentionQuant& i) {
    return {{"kind", "attention"},
            {"node", i.node},
            {"quant",
             {to_json(i.quant.query), to_json(i.quant.key), to_json(i.quant.value),
              to_json(i.quant.probs)}}};
  }
  Json item(const ReplaceWeight& i) {
    keep("steps", i.weight.qparams.scale);
    keep("zeros", i.weight.qparams.zero_point);
    keep("codes", i.weight.codes);
    return {{"kind", "weight"}, {"node", i.node}, {"spec", to_json(i.weight.spec)}};
  }
  Json item(const AddToBias& i) {
    keep("delta", i.delta);
    return {{"kind", "bias"}, {"node", i.node}};
  }
  Json item(const SetNormEpsilon& i) { return {{"kind", "norm_epsilon"}, {"epsilon", i.epsilon}}; }

  std::string prefix;
  std::map<std::string, TensorView> tensors;

 private:
  void keep(const char* name, const Tensor& t) { tensors.emplace(prefix + name, t.view()); }
};

PlanItem read_item(const Json& j, const SafetensorsFile& file, const std::string& prefix) {
  const auto tensor = [&](const char* name) { return Tensor::copy_of(file.at(prefix + name)); };
  const auto kind = j.at("kind").get<std::string>();
  if (kind == "input") return SetInputQuant{j.at("value").get<int>(), quant_of(j.at("quant"))};
  if (kind == "attention") {
    const Json& q = j.at("quant");
    return SetAttentionQuant{j.at("node").get<int>(),
                             {optional_quant_of(q.at(0)), optional_quant_of(q.at(1)),
                              optional_quant_of(q.at(2)), optional_quant_of(q.at(3))}};
  }
  if (kind == "weight")
    return ReplaceWeight{
        j.at("node").get<int>(),
        QTensor{spec_of(j.at("spec")), {tensor("steps"), tensor("zeros")}, tensor("codes")}};
  if (kind == "norm_epsilon") return SetNormEpsilon{j.at("epsilon").get<double>()};
  if (kind == "bias") return AddToBias{j.at("node").get<int>(), tensor("delta")};
  if (kind == "split")
    return SplitChannels{j.at("value").get<int>(), j.at("producers").get<std::vector<int>>(),
                         j.at("linears").get<std::vector<int>>(),
                         j.at("sources").get<std::vector<std::int32_t>>()};
  require(kind == "shift_scale", ErrorCode::kInvalidInput, "unknown item ", kind);
  ShiftScale item;
  for (const Json& v : j.at("values"))
    item.values.push_back({v.at(0).get<int>(), static_cast<ProducerKind>(v.at(1).get<int>()),
                           v.at(2).get<int>(), v.at(3).get<bool>(),
                           SharedHeads{v.at(4).get<std::int64_t>(), v.at(5).get<std::int64_t>()}});
  item.linears = j.at("linears").get<std::vector<int>>();
  item.scale = tensor("scale");
  if (file.has(prefix + "shift")) item.shift = tensor("shift");
  return item;
}

std::string prefix_of(std::size_t plan, std::size_t item) { return str(plan, ".", item, "."); }

}  // namespace

Journal::Journal(fs::path directory, JournalKey key)
    : directory_(std::move(directory)), key_(std::move(key)) {
  std::error_code ec;
  const fs::path file = directory_ / kKeyFile;
  const std::string old = fs::exists(file, ec) ? read_text_file(file, 1 << 12) : std::string();
  if (old != text_of(key_)) {
    require(!fs::exists(directory_, ec) || fs::is_empty(directory_, ec) || fs::exists(file, ec),
            ErrorCode::kUsage, directory_.string(),
            ": is in the way of the journal of this run; remove it or choose another output");
    if (!old.empty()) {
      const bool same_build = old.substr(0, old.find('\n')) == key_.build;
      log(LogLevel::kInfo, directory_.string() + ": its steps are of " +
                               (same_build ? "another run (model, data, recipe or processor)"
                                           : "another build of quell") +
                               " and are computed again");
    }
    if (directory_.has_parent_path()) fs::create_directories(directory_.parent_path(), ec);
    OutputDirectory fresh(directory_,
                          true);  // a process that is killed leaves no journal without a key
    write_text_file(fresh.staging() / kKeyFile, text_of(key_));
    fresh.commit();
  }
  for (const auto& entry : fs::directory_iterator(directory_, ec)) {
    const std::string name = entry.path().string();
    found_ += name.ends_with(kPlanEnding) || name.ends_with(kNoteEnding) ? 1 : 0;
  }
}

std::vector<Plan> Journal::read(const std::string& step) const {
  const fs::path path = directory_ / (step + kPlanEnding);
  std::error_code ec;
  std::vector<Plan> plans;
  if (!fs::exists(path, ec)) return plans;
  try {
    const SafetensorsFile file(path);
    if (file.metadata().at("key") != text_of(key_)) return plans;
    const Json all = Json::parse(file.metadata().at("plans"));
    for (std::size_t p = 0; p < all.size(); ++p) {
      plans.emplace_back();
      for (std::size_t i = 0; i < all[p].size(); ++i)
        plans.back().push_back(read_item(all[p][i], file, prefix_of(p, i)));
    }
  } catch (const std::exception& e) {
    warn_of_damage(path, e);
    plans.clear();
  }
  return plans;
}

void Journal::write(const std::string& step, const std::vector<Plan>& plans) const {
  Writer writer;
  Json all = Json::array();
  for (std::size_t p = 0; p < plans.size(); ++p) {
    Json items = Json::array();
    for (std::size_t i = 0; i < plans[p].size(); ++i) {
      writer.prefix = prefix_of(p, i);
      items.push_back(std::visit([&](const auto& item) { return writer.item(item); }, plans[p][i]));
    }
    all.push_back(std::move(items));
  }
  write_safetensors(directory_ / (step + kPlanEnding), writer.tensors,
                    {{"key", text_of(key_)}, {"plans", all.dump()}});
}

std::optional<std::vector<double>> Journal::read_note(const std::string& step,
                                                      std::size_t i) const {
  const fs::path path = directory_ / str(step, ".", i, kNoteEnding);
  std::error_code ec;
  if (!fs::exists(path, ec)) return std::nullopt;
  try {
    const Json note = read_json_file(path);
    if (note.at("key") != text_of(key_)) return std::nullopt;
    std::vector<double> values;
    for (const Json& bits : note.at("values"))
      values.push_back(std::bit_cast<double>(bits.get<std::uint64_t>()));
    return values;
  } catch (const std::exception& e) {
    warn_of_damage(path, e);
    return std::nullopt;
  }
}

void Journal::write_note(const std::string& step, std::size_t i,
                         const std::vector<double>& values) const {
  Json bits = Json::array();
  for (const double v : values) bits.push_back(std::bit_cast<std::uint64_t>(v));
  write_text_file(directory_ / str(step, ".", i, kNoteEnding),
                  Json({{"key", text_of(key_)}, {"values", bits}}).dump());
}

void Journal::finish() const {
  std::error_code ec;
  // The key last: what a process that is killed here leaves must still be known as a journal.
  std::vector<fs::path> steps;
  for (const auto& entry : fs::directory_iterator(directory_, ec))
    if (entry.path().filename() != kKeyFile) steps.push_back(entry.path());
  for (const fs::path& step : steps) fs::remove_all(step, ec);
  fs::remove_all(directory_, ec);
}

JournalKey journal_key(const Model& model, const std::vector<TokenBatch>& samples,
                       const Recipe& recipe, Isa isa) {
  TensorHash hash;
  hash.add(kernels::sgemm_library());
  hash.add(std::string(isa_name(isa)));
  add_model(model, hash);
  for (const TokenBatch& b : samples) {
    hash.add(str(b.batch, "x", b.length, "x", b.decoder_length));
    for (const auto* v : {&b.ids, &b.mask, &b.type_ids, &b.decoder_ids, &b.decoder_mask})
      hash.add(*v);
    hash.add(b.pixels.data(), b.pixels.size() * sizeof(float));
  }
  hash.add(canonical_text(recipe));
  return {std::string(build_id()), hash.text()};
}

}  // namespace quell
