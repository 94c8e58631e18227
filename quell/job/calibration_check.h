// Warnings about calibration data that is probably not what was meant: nothing here changes a
// result.
#pragma once

#include <string>
#include <vector>

#include "quell/job/quantize_job.h"

namespace quell {

/// What a .txt file looks like where it is a table or JSON: "columns between tabs", ...; empty:
/// running text.
std::string table_in(const std::string& text);

/// Warns where `data` is a table read as lines, where columns are chosen that it does not have, and
/// where it gives fewer samples than were asked for and a handful at most.
void check_calibration_data(const CalibrationChoice& choice, const Dataset& data,
                            const std::vector<TokenSequence>& samples);

/// How many samples are in the evaluation data: most of their runs of tokens, or as a whole where
/// they are short.
std::int64_t count_shared_samples(const std::vector<TokenSequence>& samples,
                                  const std::vector<TokenSequence>& evaluated);

/// Warns where the model is measured on what it is calibrated on: by content, or the same rows of
/// the same file.
void check_calibration_against(const CalibrationChoice& choice,
                               const std::vector<TokenSequence>& samples,
                               const EvalOptions& options, const DataChoice& eval_data,
                               const EvalSet& set);

}  // namespace quell
