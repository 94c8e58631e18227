#include "quell/vision/preprocessor_settings.h"

#include <cmath>

#include "quell/base/error.h"
#include "quell/io/json.h"

namespace quell {

std::vector<double> channel_numbers(const Settings& settings, const std::string& key,
                                    std::int64_t channels, std::vector<double> fallback) {
  if (!settings.has(key)) return fallback;

  const Json& value = settings.value(key);
  const auto count = static_cast<std::size_t>(channels);
  const Json list = value.is_array() ? value : Json(std::vector<Json>(count, value));
  require(list.size() == count, ErrorCode::kInvalidInput, "key \"", key, "\": ", list.size(),
          " numbers for ", channels, " channels");

  std::vector<double> numbers;
  for (const Json& entry : list) {
    require(entry.is_number() && std::abs(entry.get<double>()) < 1e9, ErrorCode::kInvalidInput,
            "key \"", key, "\": expected numbers, one for each channel");
    numbers.push_back(entry.get<double>());
  }
  return numbers;
}

std::vector<double> channel_divisors(const Settings& settings, const std::string& key,
                                     std::int64_t channels, std::vector<double> fallback) {
  std::vector<double> numbers = channel_numbers(settings, key, channels, std::move(fallback));
  for (const double number : numbers)
    require(number > 1e-9, ErrorCode::kInvalidInput, "key \"", key, "\": expected numbers above 0");
  return numbers;
}

Preprocessing with_file_name(const Settings& settings, const std::function<Preprocessing()>& read) {
  try {
    return read();
  } catch (const Error& e) {
    const std::string message = e.what();
    if (settings.file().empty() || message.starts_with(settings.file())) throw;
    throw Error(e.code(), settings.file() + ": " + message);
  }
}

}  // namespace quell
