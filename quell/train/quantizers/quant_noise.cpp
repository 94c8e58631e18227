// Quant-Noise in its paper form (Fan, Stock et al., ICLR 2021).
#include "quell/train/quant_noise.h"

#include "quell/base/error.h"
#include "quell/train/product_quantization.h"
#include "quell/train/quantizer_math.h"

namespace quell::train {
namespace {

class QuantNoise : public FakeQuantizer {
 public:
  explicit QuantNoise(const MethodParams& params) : groups_(params, {"tensor", "row", "group"}) {
    params.check_keys({"granularity", "group_size", "noise", "bits", "p", "rescale", "block_size",
                       "centroids", "iterations", "seed"});
    noise_ = params.choice("noise", {"int", "pq", "zero"}, "int");
    bits_ = static_cast<int>(params.integer("bits", 2, 8, 8));
    p_ = params.number("p", 0, 1, noise_ == "int" ? 0.5 : 0.1);
    rescale_ = params.flag("rescale", false);
    require(!rescale_ || (noise_ == "zero" && p_ < 1), ErrorCode::kInvalidInput,
            "quantizer quant_noise: rescale needs noise zero and p below 1");
    product_.block_size = params.integer("block_size", 1, 1 << 20, noise_ == "int" ? 1 : 8);
    product_.centroids = params.integer("centroids", 1, 1 << 16, 256);
    product_.iterations = static_cast<int>(params.integer("iterations", 1, 1000, 15));
    seed_ = static_cast<std::uint64_t>(params.integer("seed", 0, 1LL << 40, 0));
  }

  /// Centroids are those of the weight that it is called with; to follow the weight, call it again.
  void initialize(const torch::Tensor& x) override {
    if (noise_ != "pq") return;
    const torch::Tensor w = matrix(x.detach());
    centroids_ = fit_product(w, product_, chance_from(seed_, w, product_)).centroids;
  }
  void begin_step(const TrainingStep& step) override { step_ = step; }
  torch::Tensor quantize(const torch::Tensor& x) override {
    // Proxy noise stands for a later quantization: evaluated is the weight.
    if (!step_.training && noise_ == "zero") return x;
    const torch::Tensor values = quantized(x.detach());
    if (!step_.training) return straight_through(x, values);

    const torch::Tensor w = matrix(x);
    require(w.size(1) % product_.block_size == 0, ErrorCode::kInvalidInput,
            "quantizer quant_noise: block_size ", product_.block_size, " does not divide ",
            w.size(1), " columns");
    const torch::Tensor blocks = random_mask({w.size(0), w.size(1) / product_.block_size}, p_,
                                             step_.seed, x.options().requires_grad(false));
    const torch::Tensor mask = entries_of_blocks(blocks, product_.block_size).reshape_as(x);
    return with_noise(x, values, mask, rescale_ ? 1 - p_ : 1);
  }

  std::vector<NamedTensor> state() const override {
    if (noise_ != "pq") return {};
    return {{"centroids", centroids_}};
  }
  DeployableForm deployable() const override {
    if (noise_ == "zero")
      return {std::nullopt, "none: blocks are left out in training only; quantize what comes out"};
    if (noise_ == "pq") return {std::nullopt, "none: no kernel reads centroids"};
    return {groups_.weight_spec(bits_, false),
            std::to_string(bits_) + " bits with a zero point, " + groups_.text()};
  }
  WeightCodes codes(const torch::Tensor& weight) const override {
    if (noise_ != "int") return FakeQuantizer::codes(weight);
    const IntegerCodes c = integer_codes(groups_.split(weight.detach()), bits_);
    return {c.codes.to(torch::kInt16), c.step, c.zero.to(torch::kInt16)};
  }

 private:
  static torch::Tensor matrix(const torch::Tensor& x) { return x.reshape({x.size(0), -1}); }

  torch::Tensor quantized(const torch::Tensor& x) const {
    if (noise_ == "zero") return torch::zeros_like(x);
    if (noise_ == "int") return integer_codes(groups_.split(x), bits_).values().reshape_as(x);
    require_initialized(centroids_, "the centroids of quant_noise");
    const torch::Tensor w = matrix(x);
    return decode_product(centroids_, assign_blocks(w, centroids_), w.size(0)).reshape_as(x);
  }

  StepGroups groups_;
  std::string noise_;
  int bits_;
  double p_;
  bool rescale_;
  ProductSettings product_;
  std::uint64_t seed_;
  TrainingStep step_;
  torch::Tensor centroids_;
};

}  // namespace

extern const QuantizerFactory k_quant_noise;
const QuantizerFactory k_quant_noise = {
    "quant_noise", true, false, [](const MethodParams& params) -> std::unique_ptr<FakeQuantizer> {
      return std::make_unique<QuantNoise>(params);
    }};

}  // namespace quell::train
