// Values that both forms of preprocessing settings hold.
#pragma once

#include <functional>

#include "quell/io/settings.h"
#include "quell/vision/preprocessing.h"

namespace quell {

/// One number for each channel, or one for all; `fallback` where the key is missing or null. Throws
/// Error(kInvalidInput).
std::vector<double> channel_numbers(const Settings& settings, const std::string& key,
                                    std::int64_t channels, std::vector<double> fallback);
/// As above, of what is divided by: numbers above 0.
std::vector<double> channel_divisors(const Settings& settings, const std::string& key,
                                     std::int64_t channels, std::vector<double> fallback);

/// What `read` returns; errors without the name of the file get it in front.
Preprocessing with_file_name(const Settings& settings, const std::function<Preprocessing()>& read);

}  // namespace quell
