#include "quell/train/layer_map.h"

#include "quell/base/error.h"
#include "quell/graph/ops.h"
#include "quell/io/method_params.h"

namespace quell::train {
namespace {

std::vector<std::string> split(const std::string& text, char separator) {
  std::vector<std::string> parts = {""};
  for (const char c : text) {
    if (c == separator)
      parts.emplace_back();
    else
      parts.back() += c;
  }
  return parts;
}

std::vector<int> evenly_spread(int layers, int of) {
  require(layers <= of, ErrorCode::kInvalidInput, "layer map: the student has ", layers,
          " layers, the teacher ", of, "; name the teacher's layer of each");
  std::vector<int> map;
  for (int l = 0; l < layers; ++l) map.push_back((l + 1) * of / layers - 1);
  return map;
}

std::vector<int> named_layers(const std::string& text, int layers, int of) {
  std::vector<int> map;
  for (const std::string& number : split(text, ','))
    map.push_back(static_cast<int>(parse_integer(number, "layer map", 0, of - 1)));
  require(std::ssize(map) == layers, ErrorCode::kInvalidInput, "layer map \"", text, "\": names ",
          map.size(), " layers of the teacher, the student has ", layers);
  return map;
}

const StackInfo& stack_of(const Graph& graph, std::size_t stack) {
  const StackInfo& info = graph.stacks[stack];
  require(std::ssize(info.hidden_states) == info.layers + 1, ErrorCode::kUnsupported,
          "layers of student and teacher cannot be paired: the model gives ",
          info.hidden_states.size(), " hidden states of ", info.layers, " layers");
  return info;
}

std::vector<NodeId> attentions_of(const Graph& graph, const Place& place) {
  std::vector<NodeId> out;
  for (const NodeId n : graph.order())
    if (graph.node(n).is(op_attention) && graph.node(n).place == place) out.push_back(n);
  return out;
}

/// A map that could not be spread evenly is empty.
void check_map(const Graph& student, const LayerMap& map) {
  require(map.size() == student.stacks.size(), ErrorCode::kInvalidInput,
          "the student has more layers than the teacher; name the teacher's layer of each with "
          "--layer-map");
}

}  // namespace

LayerMap make_layer_map(const Graph& student, const Graph& teacher, const std::string& named) {
  const std::size_t stacks = student.stacks.size();
  require(stacks == teacher.stacks.size() && stacks > 0, ErrorCode::kInvalidInput,
          "layer map: the student has ", stacks, " stacks of layers, the teacher ",
          teacher.stacks.size(), "; both need the same");

  std::vector<std::string> texts(stacks);
  if (named.find('/') == std::string::npos) {
    texts.back() = named;
  } else {
    texts = split(named, '/');
    require(texts.size() == stacks, ErrorCode::kInvalidInput, "layer map \"", named, "\": names ",
            texts.size(), " stacks, the models have ", stacks);
  }

  LayerMap map;
  for (std::size_t s = 0; s < stacks; ++s) {
    const int layers = student.stacks[s].layers;
    const int of = teacher.stacks[s].layers;
    map.push_back(texts[s].empty() ? evenly_spread(layers, of)
                                   : named_layers(texts[s], layers, of));
  }
  return map;
}

ValuePairs hidden_state_pairs(const Graph& student, const Graph& teacher, const LayerMap& map) {
  check_map(student, map);
  ValuePairs pairs;
  for (std::size_t s = 0; s < map.size(); ++s) {
    const StackInfo& of_student = stack_of(student, s);
    const StackInfo& of_teacher = stack_of(teacher, s);
    pairs.student.insert(pairs.student.end(), of_student.hidden_states.begin(),
                         of_student.hidden_states.end());
    pairs.teacher.push_back(of_teacher.hidden_states.front());
    for (const int layer : map[s])
      pairs.teacher.push_back(of_teacher.hidden_states[static_cast<std::size_t>(layer) + 1]);
  }
  return pairs;
}

NodePairs attention_pairs(const Graph& student, const Graph& teacher, const LayerMap& map) {
  check_map(student, map);
  NodePairs pairs;
  for (std::size_t s = 0; s < map.size(); ++s) {
    for (std::size_t l = 0; l < map[s].size(); ++l) {
      const auto stack = static_cast<int>(s);
      const auto of_student = attentions_of(student, {stack, static_cast<int>(l)});
      const auto of_teacher = attentions_of(teacher, {stack, map[s][l]});
      require(of_student.size() == of_teacher.size(), ErrorCode::kInvalidInput, "layer map: layer ",
              l, " of the student has ", of_student.size(), " attentions, layer ", map[s][l],
              " of the teacher ", of_teacher.size());
      pairs.student.insert(pairs.student.end(), of_student.begin(), of_student.end());
      pairs.teacher.insert(pairs.teacher.end(), of_teacher.begin(), of_teacher.end());
    }
  }
  return pairs;
}

}  // namespace quell::train
