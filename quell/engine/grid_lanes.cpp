// QuantLaneNet's lanes: the image is a grid of cells. For each lane and row of cells, `cls` scores
// the columns, `vertical` says whether the lane is in that row, and `offset` where it is in each
// cell. Lanes are columns of the outputs.
#include <algorithm>
#include <cmath>

#include "quell/base/error.h"
#include "quell/engine/lane_decoder.h"

namespace quell {
namespace {

constexpr std::string_view kGridOutputs[] = {"cls", "vertical", "offset"};
constexpr float kIsThere = 0.5F;

struct Point {
  double x = 0;
  double y = 0;
};

/// Of an image: rows and columns of cells.
struct Grid {
  const Tensor& scores;
  const Tensor& is_there;
  const Tensor& offset;
  std::int64_t rows = 0;
  std::int64_t columns = 0;
  std::int64_t lanes = 0;
};

Grid read_grid(const LaneOutputs& outputs) {
  Grid g{outputs.values.at("cls"), outputs.values.at("vertical"), outputs.values.at("offset")};
  g.lanes = g.scores.cols();
  g.rows = g.is_there.rows() / outputs.images;
  g.columns = g.scores.rows() / std::max<std::int64_t>(g.is_there.rows(), 1);

  const bool whole = g.rows * outputs.images == g.is_there.rows() && g.rows > 0 &&
                     g.rows * g.columns * outputs.images == g.scores.rows() && g.columns > 0;
  const bool alike = g.offset.rows() == g.scores.rows() && g.offset.cols() == g.lanes &&
                     g.is_there.cols() == g.lanes;
  const bool square = outputs.input.height % std::max<std::int64_t>(g.rows, 1) == 0;
  require(whole && alike && square, ErrorCode::kUnsupported, outputs.source, ": cls is ",
          g.scores.rows(), " x ", g.scores.cols(), ", vertical ", g.is_there.rows(), " x ",
          g.is_there.cols(), ", offset ", g.offset.rows(), " x ", g.offset.cols(),
          "; expected cells of a grid over ", outputs.images, " images, and the same lanes");
  return g;
}

/// The column of a row with the highest score, the first of equal ones.
std::int64_t best_column(const Grid& g, std::int64_t first_cell, std::int64_t lane) {
  std::int64_t best = 0;
  for (std::int64_t c = 1; c < g.columns; ++c)
    if (g.scores.row(first_cell + c)[lane] > g.scores.row(first_cell + best)[lane]) best = c;
  return best;
}

/// From the top, in pixels of the frame.
std::vector<Point> points_of(const Grid& g, std::int64_t image, std::int64_t lane,
                             const LaneOutputs& outputs, ImageSize frame) {
  const std::int64_t cell_height = outputs.input.height / g.rows;
  const double middle = static_cast<double>(cell_height - 1) / 2;
  std::vector<Point> points;
  for (std::int64_t r = 0; r < g.rows; ++r) {
    const std::int64_t row = image * g.rows + r;
    if (!(g.is_there.row(row)[lane] >= kIsThere)) continue;

    const std::int64_t column = best_column(g, row * g.columns, lane);
    const auto inside = static_cast<double>(g.offset.row(row * g.columns + column)[lane]);
    const double x = (static_cast<double>(column) + inside) / static_cast<double>(g.columns);
    const double y =
        (static_cast<double>(r * cell_height) + middle) / static_cast<double>(outputs.input.height);
    points.push_back({x * static_cast<double>(frame.width), y * static_cast<double>(frame.height)});
  }
  return points;
}

/// Straight between neighbours, to whole pixels; nothing above the first point or below the last.
double column_at(const std::vector<Point>& points, double y) {
  if (y < points.front().y || y > points.back().y) return kNoPoint;
  std::size_t i = 1;
  while (points[i].y < y) ++i;
  const Point& above = points[i - 1];
  const Point& below = points[i];
  return std::nearbyint(above.x + (below.x - above.x) * (y - above.y) / (below.y - above.y));
}

std::vector<Lane> decode_grid(const LaneOutputs& outputs, std::int64_t image,
                              const LaneRows& rows) {
  const Grid grid = read_grid(outputs);
  std::vector<Lane> lanes;
  for (std::int64_t l = 0; l < grid.lanes; ++l) {
    const std::vector<Point> points = points_of(grid, image, l, outputs, rows.frame);
    if (points.size() < 2) continue;
    Lane lane;
    for (const double y : rows.y) lane.push_back(column_at(points, y));
    lanes.push_back(std::move(lane));
  }
  return lanes;
}

}  // namespace

const LaneDecoder k_grid_lanes = {
    .network = "QuantLaneNet", .outputs = kGridOutputs, .decode = decode_grid};

}  // namespace quell
