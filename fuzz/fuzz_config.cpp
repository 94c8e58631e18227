// Any bytes as config.json: a graph, or quell::Error.
#include "quell/base/error.h"
#include "quell/io/checkpoint.h"
#include "quell/io/json.h"
#include "quell/io/quantization_config.h"
#include "quell/model/model.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  try {
    const quell::Settings config(
        quell::parse_json({reinterpret_cast<const char*>(data), size}, "fuzz"));
    (void)quell::normalize_config(config.json());
    quell::check_quantization_config(config);
    (void)quell::build_architecture(config);
  } catch (const quell::Error&) {
  } catch (const quell::Json::exception&) {  // load_model turns these into Error with the file name
  }
  return 0;
}
