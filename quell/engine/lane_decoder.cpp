#include "quell/engine/lane_decoder.h"

#include <algorithm>
#include <array>

#include "quell/base/error.h"

namespace quell {
namespace {

constexpr std::array kDecoders = {&k_curve_lanes, &k_grid_lanes};

template <typename Names>
std::string list_of(const Names& names) {
  std::string list;
  for (const auto& name : names) list += (list.empty() ? "" : ", ") + std::string(name);
  return list;
}

}  // namespace

const LaneDecoder& find_lane_decoder(const Model& model) {
  std::vector<std::string> there;
  for (const auto& [name, value] : model.graph.outputs) there.push_back(name);
  const auto has = [&](std::string_view name) {
    return std::find(there.begin(), there.end(), name) != there.end();
  };

  std::string known;
  for (const LaneDecoder* decoder : kDecoders) {
    if (std::all_of(decoder->outputs.begin(), decoder->outputs.end(), has)) return *decoder;
    known += str(known.empty() ? "" : "; ", list_of(decoder->outputs), " (", decoder->network, ')');
  }
  throw Error(ErrorCode::kUnsupported, str(model.dir.string(), ": its outputs ", list_of(there),
                                           " are no lanes that are known, which are ", known));
}

}  // namespace quell
