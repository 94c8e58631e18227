// iPQ: the weight is made of centroids, which are trained; which block has which stays (Fan, Stock
// et al., ICLR 2021).
#include "quell/train/product_quantization.h"
#include "quell/train/quantizer_math.h"

namespace quell::train {
namespace {

class Ipq : public FakeQuantizer {
 public:
  explicit Ipq(const MethodParams& params) {
    params.check_keys({"block_size", "centroids", "iterations", "eps", "seed"});
    settings_.block_size = params.integer("block_size", 1, 1 << 20, 8);
    settings_.centroids = params.integer("centroids", 1, 1 << 16, 256);
    settings_.iterations = static_cast<int>(params.integer("iterations", 1, 1000, 15));
    settings_.eps = params.number("eps", 0, 1, 1e-6);
    seed_ = static_cast<std::uint64_t>(params.integer("seed", 0, 1LL << 40, 0));
  }

  void initialize(const torch::Tensor& x) override {
    const torch::Tensor w = x.detach().reshape({x.size(0), -1});
    const ProductCode code = fit_product(w, settings_, chance_from(seed_, w, settings_));
    centroids_ = learned(code.centroids);
    assignments_ = code.assignments;
  }
  /// Of `x` only the shape counts: the centroids are the weight now.
  torch::Tensor quantize(const torch::Tensor& x) override {
    require_initialized(centroids_, "the centroids of ipq");
    return decode_product(centroids_, assignments_, x.size(0)).reshape_as(x);
  }

  std::vector<NamedTensor> parameters() const override { return {{"centroids", centroids_}}; }
  std::vector<NamedTensor> state() const override { return {{"assignments", assignments_}}; }
  DeployableForm deployable() const override {
    return {std::nullopt, "none: no kernel reads centroids"};
  }

 private:
  ProductSettings settings_;
  std::uint64_t seed_;
  torch::Tensor centroids_;
  torch::Tensor assignments_;
};

}  // namespace

extern const QuantizerFactory k_ipq;
const QuantizerFactory k_ipq = {"ipq", true, false,
                                [](const MethodParams& params) -> std::unique_ptr<FakeQuantizer> {
                                  return std::make_unique<Ipq>(params);
                                }};

}  // namespace quell::train
