// A written model beside what was trained: the outputs of both on some of training's rows.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "quell/engine/forward.h"
#include "quell/train/logit_rows.h"
#include "quell/train/training_data.h"

namespace quell::train {

/// Some rows, in batches as training pads them: few, since exact products have a slow reference.
std::vector<TokenBatch> compared_batches(const TrainingSet& set);

/// How often two models give the same label, and how far their outputs are apart.
struct Agreement {
  std::int64_t labels = 0;  ///< 0: the models give numbers, which are no labels
  std::int64_t same = 0;
  double distance = 0;   ///< largest difference of two outputs; NaN where one is
  double magnitude = 0;  ///< of the largest output

  void add(const float* row, const float* other, std::int64_t columns);
  double percent() const { return 100 * static_cast<double>(same) / static_cast<double>(labels); }
  std::string text() const;
};

struct EngineComparison {
  Agreement agreement;        ///< of training and the engine, where a row is no padding
  bool engines_agree = true;  ///< engine and exact simulation, to the byte
};

/// `exact`: null, or the exact simulation of the file. `rows`: which rows of the logits count.
EngineComparison compare_engines(const ForwardModel& trained, const ForwardModel& engine,
                                 const ForwardModel* exact, const LogitRows& rows,
                                 const std::vector<TokenBatch>& batches, ExecContext& ctx);

}  // namespace quell::train
