#include "quell/train/shallow.h"

#include <algorithm>
#include <map>
#include <optional>
#include <tuple>
#include <utility>

#include "quell/base/error.h"
#include "quell/io/json.h"
#include "quell/train/layer_map.h"

namespace quell::train {
namespace {

/// What families call the number of layers of a stack.
constexpr const char* kCountKeys[] = {"num_hidden_layers", "n_layer",        "n_layers",
                                      "num_layers",        "encoder_layers", "decoder_layers",
                                      "num_decoder_layers"};

void check_teacher(const Model& teacher, int layers) {
  const Graph& graph = teacher.graph;
  require(teacher.config->is_object() && !graph.stacks.empty(), ErrorCode::kUnsupported,
          "a student with fewer layers: the model is none that config.json describes layer by "
          "layer");
  require(!teacher.is_quantized(), ErrorCode::kUnsupported,
          "a student with fewer layers: the teacher is quantized; start from the float model");
  require(!teacher.scratch, ErrorCode::kUnsupported,
          "a student with fewer layers: the teacher's matrices lie in scratch");
  for (const StackInfo& stack : graph.stacks)
    require(layers >= 1 && layers <= stack.layers, ErrorCode::kInvalidInput,
            "a student with fewer layers: ", layers, " asked for, the teacher has ", stack.layers);

  for (ParamId p = 0; p < graph.num_params(); ++p)
    for (const NodeId n : graph.users(p)) {
      const Place& first = graph.node(graph.users(p).front()).place;
      const Place& place = graph.node(n).place;
      const bool outside = first.layer < 0 && place.layer < 0;
      require(outside || place == first, ErrorCode::kUnsupported,
              "a student with fewer layers: layers of ", teacher.spec.model_type,
              " share weights (", graph.param(p).module, ")");
    }
}

bool has_layers(const Architecture& architecture, int layers) {
  const std::vector<StackInfo>& stacks = architecture.graph.stacks;
  return std::all_of(stacks.begin(), stacks.end(),
                     [&](const StackInfo& stack) { return stack.layers == layers; });
}

/// [[["global", "local"], 6]] as a list of the twelve.
Json expanded(const Json& attention_types) {
  Json kinds = Json::array();
  for (const Json& entry : attention_types)
    for (std::int64_t i = 0; i < entry.at(1).get<std::int64_t>(); ++i)
      for (const Json& kind : entry.at(0)) kinds.push_back(kind);
  return kinds;
}

Json picked(const Json& list, const std::vector<int>& map) {
  Json out = Json::array();
  for (const int layer : map) out.push_back(list.at(static_cast<std::size_t>(layer)));
  return out;
}

/// Lists that say something of each layer.
void pick_lists(Json& config, const std::vector<int>& map, int layers_of_teacher) {
  const auto count = static_cast<std::size_t>(layers_of_teacher);
  for (const char* key : {"layer_types", "attention_layers"})
    if (config.contains(key) && config[key].is_array() && config[key].size() == count)
      config[key] = picked(config[key], map);

  if (!config.contains("attention_types") || !config["attention_types"].is_array()) return;
  const Json kinds = expanded(config["attention_types"]);
  if (kinds.size() == count)
    config["attention_types"] = Json::array({Json::array({picked(kinds, map), 1})});
}

/// Nothing where the family does not read it so.
std::optional<Architecture> architecture_of(const Json& config, int layers) {
  try {
    Architecture made = build_architecture(Settings(config, "config.json"));
    if (has_layers(made, layers)) return made;
  } catch (const Error&) {
    // A count that does not fit what else the config says.
  }
  return std::nullopt;
}

/// Counts `layers` in `config`: in the keys that are there, and in one more where these leave a
/// default in place.
Architecture with_layers(Json& config, int layers) {
  for (const char* key : kCountKeys)
    if (config.contains(key) && config[key].is_number_integer()) config[key] = layers;
  if (auto made = architecture_of(config, layers)) return std::move(*made);

  for (const char* key : kCountKeys) {
    if (config.contains(key)) continue;
    Json more = config;
    more[key] = layers;
    if (auto made = architecture_of(more, layers)) {
      config = more;
      return std::move(*made);
    }
  }
  throw Error(ErrorCode::kUnsupported,
              "a student with fewer layers: no known key of config.json counts the layers");
}

/// The map of the stack whose layers lists of config.json are about: of all, where these are alike.
LayerMap map_of(const Graph& teacher, int layers, const std::string& named) {
  Graph counted;
  for (const StackInfo& stack : teacher.stacks)
    counted.stacks.push_back({.decoder = stack.decoder, .layers = layers});
  return make_layer_map(counted, teacher, named);
}

/// Where a parameter stands: its layer and its number in it, or its name.
struct ParamPlace {
  Place place;
  int number = 0;
  std::string name;
  auto operator<=>(const ParamPlace& other) const {
    return std::tie(place.stack, place.layer, number, name) <=>
           std::tie(other.place.stack, other.place.layer, other.number, other.name);
  }
};

/// Of every parameter, by id.
std::vector<ParamPlace> places_of(const Graph& graph) {
  std::map<std::pair<int, int>, int> counts;
  std::vector<ParamPlace> out;
  for (ParamId p = 0; p < graph.num_params(); ++p) {
    const std::vector<NodeId>& users = graph.users(p);
    const Place place = users.empty() ? Place() : graph.node(users.front()).place;
    if (place.layer < 0) {
      const ParamDef& def = graph.param(p);
      out.push_back({{}, 0, def.module + "/" + std::to_string(def.packing.part)});
      continue;
    }
    out.push_back({place, counts[{place.stack, place.layer}]++, ""});
  }
  return out;
}

void copy_values(const Param& from, Param& to) {
  const auto same = [&](const Tensor& a, const Tensor& b) {
    return a.defined() == b.defined() && (!a.defined() || a.shape() == b.shape());
  };
  require(same(from.weight, to.weight) && same(from.bias, to.bias) &&
              from.vectors.size() == to.vectors.size(),
          ErrorCode::kUnsupported, "a student with fewer layers: ", to.module,
          " is not shaped as the teacher's ", from.module);
  if (from.weight.defined()) to.weight = from.weight.clone();
  if (from.bias.defined()) to.bias = from.bias.clone();
  for (std::size_t i = 0; i < from.vectors.size(); ++i) to.vectors[i] = from.vectors[i].clone();
}

void copy_parameters(const Model& teacher, const LayerMap& map, Model& student) {
  std::map<ParamPlace, ParamId> of_teacher;
  const std::vector<ParamPlace> teacher_places = places_of(teacher.graph);
  for (std::size_t p = 0; p < teacher_places.size(); ++p)
    of_teacher[teacher_places[p]] = static_cast<ParamId>(p);

  std::size_t outside = 0;
  const std::vector<ParamPlace> student_places = places_of(student.graph);
  for (std::size_t p = 0; p < student_places.size(); ++p) {
    ParamPlace wanted = student_places[p];
    if (wanted.name.empty())
      wanted.place.layer = map[static_cast<std::size_t>(wanted.place.stack)]
                              [static_cast<std::size_t>(wanted.place.layer)];
    else
      ++outside;
    const auto found = of_teacher.find(wanted);
    require(found != of_teacher.end(), ErrorCode::kUnsupported,
            "a student with fewer layers: the teacher has nothing in the place of ",
            student.params[p].module);
    copy_values(teacher.param(found->second), student.params[p]);
  }

  const auto outside_of_teacher =
      std::count_if(teacher_places.begin(), teacher_places.end(),
                    [](const ParamPlace& place) { return !place.name.empty(); });
  require(std::cmp_equal(outside, outside_of_teacher), ErrorCode::kUnsupported,
          "a student with fewer layers: the teacher has tensors outside its layers for which the "
          "student has no place");
}

/// Encoders with windows in some layers only: their layers are not alike.
void check_windows(const Graph& student, const Graph& teacher, const LayerMap& map) {
  const auto recipe = [](const Graph& graph, NodeId n) {
    return graph.node(n).attributes.get<AttentionAttributes>().recipe;
  };
  const NodePairs pairs = attention_pairs(student, teacher, map);
  for (std::size_t i = 0; i < pairs.student.size(); ++i)
    require(recipe(student, pairs.student[i]).sliding_window ==
                recipe(teacher, pairs.teacher[i]).sliding_window,
            ErrorCode::kInvalidInput,
            "a student with fewer layers: ", student.node(pairs.student[i]).label,
            " has another window than the teacher's ", teacher.node(pairs.teacher[i]).label,
            "; map layers of the same kind");
}

/// A head that the teacher's checkpoint did not have is none of the student's.
void leave_out_missing_head(const Model& teacher, Architecture& student) {
  if (student.graph.outputs.size() == teacher.graph.outputs.size()) return;
  require(student.graph.head_begin != kNoNode, ErrorCode::kUnsupported,
          "a student with fewer layers: the teacher has other outputs than its config.json says");
  student.graph.truncate(student.graph.head_begin);
  student.spec.head = teacher.spec.head;
}

}  // namespace

Model make_shallow_student(const Model& teacher, int layers, const std::string& layer_map) {
  check_teacher(teacher, layers);
  const LayerMap map = map_of(teacher.graph, layers, layer_map);
  Json config = *teacher.config;
  pick_lists(config, map.back(), teacher.graph.stacks.back().layers);

  Architecture architecture = with_layers(config, layers);
  leave_out_missing_head(teacher, architecture);
  Model student = make_zero_model(std::move(architecture));
  check_windows(student.graph, teacher.graph, map);
  copy_parameters(teacher, map, student);

  student.config = std::move(config);
  student.dir = teacher.dir;
  if (teacher.sentence.defined())
    student.sentence = read_sentence_files(teacher.dir, student.spec, student.graph).pipeline;
  student.text = teacher.text;
  student.max_seq_length = teacher.max_seq_length;
  return student;
}

}  // namespace quell::train
