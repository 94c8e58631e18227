// Any bytes as config.json: a description that can be unrolled, or quell::Error.
#include "quell/base/error.h"
#include "quell/io/checkpoint.h"
#include "quell/io/json.h"
#include "quell/io/quantization_config.h"
#include "quell/model/family.h"
#include "quell/model/graph.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  try {
    const quell::Settings config(
        quell::parse_json({reinterpret_cast<const char*>(data), size}, "fuzz"));
    (void)quell::normalize_config(config.json());
    quell::check_quantization_config(config);
    const quell::Family& family = quell::find_family(quell::json_string(config, "model_type", ""));
    const quell::ModelSpec spec = family.read_spec(config);
    (void)family.tensors(spec, config);
    (void)quell::build_graph(spec);
  } catch (const quell::Error&) {
  } catch (const quell::Json::exception&) {  // load_model turns these into Error with the file name
  }
  return 0;
}
