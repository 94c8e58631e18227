// The list of nodes by which config.json describes a network: what each reads, and in which order
// they can be computed.
#pragma once

#include <string>
#include <vector>

#include "quell/io/settings.h"

namespace quell {

inline constexpr const char* kDescribedInput = "x";  ///< what nodes call the image

/// One entry of the list.
struct Described {
  Settings settings;  ///< with a record of its own, of what was asked for
  std::string op;
  std::string out;
  std::vector<std::string> in;
};

/// The text under `key`. Throws Error(kInvalidInput) where there is none.
std::string required_string(const Settings& settings, const char* key);
/// Of messages about the node.
inline std::string node_prefix(const std::string& name) { return "node \"" + name + "\": "; }

/// The entries of "graph". Throws Error(kInvalidInput) naming the entry that is none.
std::vector<Described> read_network_list(const Settings& config);
/// Operands in front of what reads them; as the list has them where it can be. Throws
/// Error(kInvalidInput) naming a node that reads what nobody computes, or what is computed from it.
std::vector<std::size_t> execution_order(const std::vector<Described>& nodes);

}  // namespace quell
