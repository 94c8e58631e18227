#include "quell/train/fake_quantizer.h"

#include "quell/base/error.h"

namespace quell::train {

WeightCodes FakeQuantizer::codes(const torch::Tensor& /*weight*/) const {
  throw Error(ErrorCode::kUnsupported, "no codes: " + deployable().text);
}

const QuantizerFactory& quantizer_factory(const std::string& name) {
  std::vector<std::string> known;
  for (const QuantizerFactory* factory : all_of(static_cast<const QuantizerFactory*>(nullptr))) {
    if (factory->name == name) return *factory;
    known.emplace_back(factory->name);
  }
  throw Error(ErrorCode::kInvalidInput,
              "training quantizer \"" + name + "\" is unknown; known are " + comma_list(known));
}

std::unique_ptr<FakeQuantizer> make_quantizer(const std::string& name,
                                              std::map<std::string, std::string> settings) {
  return quantizer_factory(name).make(MethodParams(name, std::move(settings), "quantizer"));
}

}  // namespace quell::train
