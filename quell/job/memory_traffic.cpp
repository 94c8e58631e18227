#include "quell/job/memory_traffic.h"

#include <algorithm>

#include "quell/engine/traffic.h"
#include "quell/io/json.h"
#include "quell/job/report.h"

namespace quell {

Json describe_memory_traffic(const Model& model, ExecContext& ctx) {
  const std::vector<OperatorTraffic> operators = describe_traffic(model, ctx);
  if (operators.empty()) return nullptr;

  Json rows = Json::array();
  std::int64_t all = 0;
  std::int64_t ideal = 0;
  for (const OperatorTraffic& t : operators) {
    rows.push_back({{"name", t.name},
                    {"what", t.what},
                    {"operands", t.operands},
                    {"converted", t.converted},
                    {"residual", t.residual},
                    {"weights", t.weights},
                    {"output", t.output},
                    {"all", t.all()},
                    {"ideal", t.ideal}});
    all += t.all();
    ideal += t.ideal;
  }
  return {{"operators", rows}, {"all", all}, {"ideal", ideal}};
}

std::string memory_traffic_text(const Json& traffic) {
  std::size_t widest = 8;
  for (const Json& row : traffic["operators"])
    widest = std::max(widest, row["name"].get<std::string>().size());
  const auto padded = [&](std::string name) {
    name.resize(widest, ' ');
    return name;
  };

  std::string out = "\nmemory traffic of one image, bytes\n" + padded("operator");
  out += format_text(" %10s %10s %10s %10s %10s %10s %10s  %5s  %s\n", "operands", "converted",
                     "residual", "weights", "output", "all", "ideal", "times", "what");
  const auto line = [&](const Json& row, const std::string& name, const std::string& what) {
    const double all = row["all"].get<double>();
    const double ideal = row["ideal"].get<double>();
    out += padded(name);
    for (const char* column : {"operands", "converted", "residual", "weights", "output"})
      out += row.contains(column)
                 ? format_text(" %10lld", static_cast<long long>(row[column].get<std::int64_t>()))
                 : format_text(" %10s", "");
    out += format_text(" %10.0f %10.0f  %5.2f  %s\n", all, ideal, all / std::max(ideal, 1.0),
                       what.c_str());
  };
  for (const Json& row : traffic["operators"])
    line(row, row["name"].get<std::string>(), row["what"].get<std::string>());
  line(traffic, "all", "");
  return out;
}

}  // namespace quell
