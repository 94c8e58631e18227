#include "quell/model/network_list.h"

#include <algorithm>
#include <set>

#include "quell/base/error.h"
#include "quell/io/json.h"

namespace quell {

std::string required_string(const Settings& settings, const char* key) {
  const Json& value = settings.value(key);
  require(value.is_string() && !value.get<std::string>().empty(), ErrorCode::kInvalidInput,
          "key \"", key, "\": must be a name");
  return value.get<std::string>();
}

namespace {

Described read_node(const Json& entry) {
  require(entry.is_object(), ErrorCode::kInvalidInput, "is not an object");
  const Settings settings(entry);
  Described node{settings, required_string(settings, "op"), required_string(settings, "out"), {}};
  const Json& in = settings.value("inp");
  require(in.is_array() && !in.empty(), ErrorCode::kInvalidInput,
          "key \"inp\": must be a list of values");
  for (const Json& name : in) {
    require(name.is_string(), ErrorCode::kInvalidInput, "key \"inp\": must be a list of names");
    node.in.push_back(name.get<std::string>());
  }
  return node;
}

}  // namespace

std::vector<Described> read_network_list(const Settings& config) {
  const Json& list = config.value("graph");
  require(list.is_array() && !list.empty(), ErrorCode::kInvalidInput,
          "key \"graph\": holds no nodes");
  std::vector<Described> nodes;
  for (const Json& entry : list) {
    try {
      nodes.push_back(read_node(entry));
    } catch (const Error& e) {
      throw Error(e.code(), "graph[" + std::to_string(nodes.size()) + "]: " + e.what());
    }
  }
  return nodes;
}

namespace {

/// Which node computes each value.
std::map<std::string, std::size_t> producers_of(const std::vector<Described>& nodes) {
  std::map<std::string, std::size_t> producers;
  for (std::size_t i = 0; i < nodes.size(); ++i) {
    const bool is_new =
        nodes[i].out != kDescribedInput && producers.emplace(nodes[i].out, i).second;
    require(is_new, ErrorCode::kInvalidInput, node_prefix(nodes[i].out), "\"", nodes[i].out,
            "\" is computed twice");
  }
  for (const Described& node : nodes)
    for (const std::string& name : node.in)
      require(name == kDescribedInput || producers.contains(name), ErrorCode::kInvalidInput,
              node_prefix(node.out), "reads \"", name, "\", which no node computes");
  return producers;
}

/// Follows what nodes wait for until one comes again.
[[noreturn]] void refuse_cycle(const std::vector<Described>& nodes,
                               const std::map<std::string, std::size_t>& producers,
                               const std::vector<bool>& is_done) {
  std::size_t at = 0;
  while (is_done[at]) ++at;
  std::set<std::size_t> passed;
  while (true) {
    const Described& node = nodes[at];
    const auto waits = std::find_if(node.in.begin(), node.in.end(), [&](const std::string& name) {
      return name != kDescribedInput && !is_done[producers.at(name)];
    });
    const bool comes_again = !passed.insert(at).second;
    require(!comes_again, ErrorCode::kInvalidInput, node_prefix(node.out), "reads \"", *waits,
            "\", which is computed from it: the graph has a cycle");
    at = producers.at(*waits);
  }
}

}  // namespace

std::vector<std::size_t> execution_order(const std::vector<Described>& nodes) {
  const std::map<std::string, std::size_t> producers = producers_of(nodes);
  std::vector<std::size_t> missing(nodes.size());
  std::vector<std::vector<std::size_t>> readers(nodes.size());
  std::set<std::size_t> ready;
  for (std::size_t i = 0; i < nodes.size(); ++i) {
    for (const std::string& name : nodes[i].in) {
      if (name == kDescribedInput) continue;
      readers[producers.at(name)].push_back(i);
      ++missing[i];
    }
    if (missing[i] == 0) ready.insert(i);
  }

  std::vector<std::size_t> order;
  std::vector<bool> is_done(nodes.size());
  while (!ready.empty()) {
    const std::size_t next = *ready.begin();
    ready.erase(ready.begin());
    order.push_back(next);
    is_done[next] = true;
    for (const std::size_t reader : readers[next])
      if (--missing[reader] == 0) ready.insert(reader);
  }
  if (order.size() < nodes.size()) refuse_cycle(nodes, producers, is_done);
  return order;
}

}  // namespace quell
