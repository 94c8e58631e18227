// Ops of images on their own: against sums written out in double, and numbers worked out by hand.
#include "quell/graph/image_ops.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "quell/base/error.h"
#include "quell/base/random.h"
#include "quell/graph/batch_norm.h"
#include "quell/graph/builder.h"

namespace quell {
namespace {

/// One node with operands and parameters that the test gives.
class ImageCall final : public OpCall {
 public:
  ImageCall(const OpDef& op, Attributes attributes) {
    node_.op = &op;
    node_.attributes = std::move(attributes);
    node_.label = op.name;
  }
  ImageCall& operand(Tensor x, ImageSize size) {
    node_.in.push_back(static_cast<ValueId>(operands_.size()));
    operands_.push_back(std::move(x));
    RowSpace rows{RowSpace::Kind::kImage};
    rows.height = size.height;
    rows.width = size.width;
    rows_.push_back(rows);
    return *this;
  }
  const Node& node() const override { return node_; }
  ExecContext& ctx() const override { return ctx_; }
  TensorView in(std::size_t i) override { return operands_[i]; }
  const Tensor& weight() const override { return weight_; }
  const Tensor& bias() const override { return bias_; }
  const Tensor& vector(std::size_t i) const override { return vectors_[i]; }
  RowSpace rows(std::size_t i) const override { return rows_[i]; }
  const TokenBatch& tokens() const override { return batch_; }
  const TokenBatch& first_tokens() const override { return batch_; }
  Tensor run() { return node_.op->reference(*this); }

  Tensor weight_;
  Tensor bias_;
  std::vector<Tensor> vectors_;
  TokenBatch batch_;

 private:
  Node node_;
  std::vector<Tensor> operands_;
  std::vector<RowSpace> rows_;
  mutable ExecContext ctx_ = ExecContext(2);
};

Tensor random_image(Shape shape, std::uint64_t seed) {
  Random random(seed);
  Tensor t = Tensor::f32(std::move(shape));
  for (float& v : t.f32()) v = static_cast<float>(2 * random.uniform() - 1);
  return t;
}

Tensor of(std::vector<float> values, Shape shape) {
  return Tensor::from<float>(values, std::move(shape));
}

std::vector<float> values_of(const Tensor& t) { return {t.f32().begin(), t.f32().end()}; }

void expect_near(const Tensor& got, const std::vector<double>& want, const std::string& what) {
  ASSERT_EQ(static_cast<std::size_t>(got.numel()), want.size()) << what;
  for (std::size_t i = 0; i < want.size(); ++i)
    EXPECT_NEAR(static_cast<double>(got.f32()[i]), want[i], 1e-5) << what << " element " << i;
}

struct ConvCase {
  const char* what;
  ImageSize image;
  std::int64_t channels;
  std::int64_t out;
  ConvAttributes conv;
};

double element(const Tensor& t, std::int64_t row, std::int64_t column) {
  return static_cast<double>(t.row(row)[column]);
}

/// Sums over all that lies under each window.
std::vector<double> convolved(const ConvCase& c, const Tensor& x, const Tensor& w,
                              const Tensor& bias, std::int64_t batch) {
  const Window& k = c.conv.window;
  const ImageSize size = windows_over(c.image, k);
  const std::int64_t in = c.channels / c.conv.groups;
  std::vector<double> out;
  for (std::int64_t b = 0; b < batch; ++b)
    for (std::int64_t y = 0; y < size.height; ++y)
      for (std::int64_t xx = 0; xx < size.width; ++xx)
        for (std::int64_t o = 0; o < c.out; ++o) {
          const std::int64_t first = o / (c.out / c.conv.groups) * in;
          double sum = static_cast<double>(bias.f32()[static_cast<std::size_t>(o)]);
          for (std::int64_t ky = 0; ky < k.kernel_height; ++ky)
            for (std::int64_t kx = 0; kx < k.kernel_width; ++kx)
              for (std::int64_t i = 0; i < in; ++i) {
                const std::int64_t row =
                    y * k.stride_height - k.padding.top + ky * k.dilation_height;
                const std::int64_t column =
                    xx * k.stride_width - k.padding.left + kx * k.dilation_width;
                const bool inside =
                    row >= 0 && row < c.image.height && column >= 0 && column < c.image.width;
                double seen = 0;
                if (inside)
                  seen = element(x, (b * c.image.height + row) * c.image.width + column, first + i);
                else if (!c.conv.padding_value.empty())
                  seen = c.conv.padding_value[static_cast<std::size_t>(first + i)];
                sum += seen * element(w, o, (ky * k.kernel_width + kx) * in + i);
              }
          out.push_back(sum);
        }
  return out;
}

Window window(std::int64_t height, std::int64_t width, std::int64_t stride, std::int64_t dilation,
              ImagePadding padding) {
  return {height, width, stride, stride, dilation, dilation, padding};
}

TEST(ImageOps, ConvolutionsAreSumsUnderTheirWindows) {
  const ConvCase cases[] = {
      {"1 x 1", {4, 5}, 3, 6, {.window = {}}},
      {"1 x 1 with stride", {5, 5}, 3, 2, {.window = window(1, 1, 2, 1, {})}},
      {"3 x 3", {6, 5}, 3, 4, {.window = window(3, 3, 1, 1, {1, 1, 1, 1})}},
      {"padding on one side", {6, 6}, 2, 3, {.window = window(3, 3, 2, 1, {0, 1, 0, 1})}},
      {"dilation", {9, 8}, 2, 3, {.window = window(3, 3, 1, 2, {2, 2, 2, 2})}},
      {"3 x 1", {5, 6}, 2, 3, {.window = {3, 1, 1, 2, 1, 1, {1, 1, 0, 0}}}},
      {"two groups", {5, 5}, 4, 6, {.window = window(3, 3, 1, 1, {1, 1, 1, 1}), .groups = 2}},
      {"depthwise", {5, 6}, 4, 4, {.window = window(3, 3, 2, 1, {1, 1, 1, 1}), .groups = 4}},
      {"two outputs a channel",
       {5, 5},
       3,
       6,
       {.window = window(5, 5, 1, 1, {2, 2, 2, 2}), .groups = 3}},
      {"a value of padding",
       {4, 4},
       2,
       3,
       {.window = window(3, 3, 1, 1, {1, 1, 1, 1}), .padding_value = {0.5, -2}}},
      {"depthwise with a value of padding",
       {4, 4},
       2,
       2,
       {.window = window(3, 3, 1, 1, {1, 1, 1, 1}), .groups = 2, .padding_value = {0.5, -2}}},
  };
  constexpr std::int64_t kBatch = 2;
  for (const ConvCase& c : cases) {
    const Tensor x = random_image({kBatch * c.image.pixels(), c.channels}, 1);
    ImageCall call(op_conv2d, Attributes::of(c.conv));
    call.operand(x.clone(), c.image);
    call.weight_ = random_image({c.out, c.conv.window.taps() * c.channels / c.conv.groups}, 2);
    call.bias_ = random_image({c.out}, 3);
    expect_near(call.run(), convolved(c, x, call.weight_, call.bias_, kBatch), c.what);
  }
}

/// Seen from the operand: each pixel adds its window to the output.
TEST(ImageOps, TransposedConvolutionsSpreadPixels) {
  struct {
    ImageSize image;
    ConvAttributes conv;
  } cases[] = {{{3, 4}, {.window = window(2, 2, 2, 1, {})}},
               {{3, 3}, {.window = window(3, 3, 2, 1, {1, 1, 1, 1}), .more = {1, 1}}},
               {{4, 3}, {.window = window(4, 4, 2, 1, {1, 1, 1, 1})}},
               {{3, 3}, {.window = window(3, 3, 1, 2, {})}}};
  constexpr std::int64_t kIn = 3, kOut = 2, kBatch = 2;
  for (const auto& c : cases) {
    const Window& k = c.conv.window;
    const ImageSize size = image_under(c.image, k, c.conv.more);
    const Tensor x = random_image({kBatch * c.image.pixels(), kIn}, 4);
    ImageCall call(op_conv_transpose2d, Attributes::of(c.conv));
    call.operand(x.clone(), c.image);
    call.weight_ = random_image({kOut, k.taps() * kIn}, 5);

    std::vector<double> want(static_cast<std::size_t>(kBatch * size.pixels() * kOut));
    for (std::int64_t p = 0; p < x.rows(); ++p)
      for (std::int64_t t = 0; t < k.taps(); ++t) {
        const std::int64_t at = p % c.image.pixels();
        const std::int64_t row = at / c.image.width * k.stride_height - k.padding.top +
                                 t / k.kernel_width * k.dilation_height;
        const std::int64_t column = at % c.image.width * k.stride_width - k.padding.left +
                                    t % k.kernel_width * k.dilation_width;
        if (row < 0 || row >= size.height || column < 0 || column >= size.width) continue;
        const std::int64_t to = (p / c.image.pixels() * size.height + row) * size.width + column;
        for (std::int64_t o = 0; o < kOut; ++o)
          for (std::int64_t i = 0; i < kIn; ++i)
            want[static_cast<std::size_t>(to * kOut + o)] +=
                element(x, p, i) * element(call.weight_, o, t * kIn + i);
      }
    expect_near(call.run(), want, "transposed");
  }
}

TEST(ImageOps, PixelsBecomeRows) {
  ImageCall call(op_image, Attributes::of(ImageAttributes{.channels = 2, .size = {1, 2}}));
  call.operand(of({1, 2, 3, 4, 5, 6, 7, 8}, {8}), {1, 1});
  call.batch_.batch = 2;
  EXPECT_EQ(values_of(call.run()), (std::vector<float>{1, 3, 2, 4, 5, 7, 6, 8}));

  call.batch_.batch = 3;
  EXPECT_THROW(call.run(), Error);
}

TEST(ImageOps, BatchNormIsAnAffineOfItsStatistics) {
  ImageCall call(op_batch_norm, Attributes::of(0.25));
  call.operand(of({1, 2, 3, 4}, {2, 2}), {1, 2});
  call.weight_ = of({2, 3}, {2});
  call.bias_ = of({10, 20}, {2});
  call.vectors_.push_back(of({1, 4}, {2}));
  call.vectors_.push_back(of({0.75F, 2}, {2}));  // deviations 1 and 1.5
  EXPECT_EQ(values_of(call.run()), (std::vector<float>{10, 16, 14, 20}));
}

/// A row of four pixels 1, 2, 4, 8.
std::vector<float> pooled(PoolAttributes pool, std::int64_t kernel, std::int64_t stride,
                          std::int64_t left, std::int64_t right) {
  pool.window.kernel_width = kernel;
  pool.window.stride_width = stride;
  pool.window.padding = {0, 0, left, right};
  ImageCall call(op_pool, Attributes::of(pool));
  call.operand(of({1, 2, 4, 8}, {4, 1}), {1, 4});
  return values_of(call.run());
}

TEST(ImageOps, PoolsAndTheirDivisors) {
  using Floats = std::vector<float>;
  const PoolAttributes max{.kind = PoolKind::kMax};
  EXPECT_EQ(pooled(max, 2, 2, 0, 0), (Floats{2, 8}));
  EXPECT_EQ(pooled(max, 3, 2, 1, 0), (Floats{2, 8}));
  EXPECT_EQ(pooled(max, 3, 3, 0, 0), (Floats{4}));
  EXPECT_EQ(pooled({.kind = PoolKind::kMax, .ceil = true}, 3, 3, 0, 0), (Floats{4, 8}));

  const PoolAttributes mean{.kind = PoolKind::kAverage};
  EXPECT_EQ(pooled(mean, 2, 2, 0, 0), (Floats{1.5F, 6}));
  EXPECT_EQ(pooled(mean, 2, 2, 1, 1), (Floats{0.5F, 3, 4})) << "padding counts";
  EXPECT_EQ(pooled({.kind = PoolKind::kAverage, .counts_padding = false}, 2, 2, 1, 1),
            (Floats{1, 3, 8}));
  EXPECT_EQ(pooled({.kind = PoolKind::kAverage, .divisor = 4}, 2, 2, 1, 1), (Floats{0.25, 1.5, 2}));
  // The last window lies outside but for one pixel, and only pixels and padding count.
  EXPECT_EQ(pooled({.kind = PoolKind::kAverage, .ceil = true}, 3, 3, 0, 0), (Floats{7.0F / 3, 8}));
}

TEST(ImageOps, GlobalMeanLeavesOneRowAnImage) {
  ImageCall call(op_global_mean, {});
  call.operand(of({1, 10, 3, 20, 5, 30, 7, 50}, {4, 2}), {1, 2});
  const Tensor out = call.run();
  EXPECT_EQ(out.shape(), (Shape{2, 2}));
  EXPECT_EQ(values_of(out), (std::vector<float>{2, 15, 6, 40}));
}

/// A row of pixels in another width.
std::vector<float> resized(ResizeAttributes resize, std::vector<float> row, std::int64_t width) {
  const auto from = static_cast<std::int64_t>(row.size());
  resize.size = {1, width};
  ImageCall call(op_resize, Attributes::of(resize));
  call.operand(of(std::move(row), {from, 1}), {1, from});
  return values_of(call.run());
}

TEST(ImageOps, Resizes) {
  using Floats = std::vector<float>;
  EXPECT_EQ(resized({}, {1, 2}, 4), (Floats{1, 1, 2, 2}));
  EXPECT_EQ(resized({}, {1, 2, 3, 4, 5}, 2), (Floats{1, 3}));

  const ResizeAttributes half{.kind = ResizeKind::kBilinear};
  EXPECT_EQ(resized(half, {0, 4}, 4), (Floats{0, 1, 3, 4}));
  EXPECT_EQ(resized(half, {0, 2, 4, 6}, 2), (Floats{1, 5}));
  const ResizeAttributes corners{.kind = ResizeKind::kBilinear, .align_corners = true};
  EXPECT_EQ(resized(corners, {0, 4}, 5), (Floats{0, 1, 2, 3, 4}));
  EXPECT_EQ(resized(corners, {3, 4}, 1), (Floats{3}));

  ImageCall call(op_resize,
                 Attributes::of(ResizeAttributes{.kind = ResizeKind::kBilinear, .size = {4, 1}}));
  call.operand(of({0, 4}, {2, 1}), {2, 1});
  EXPECT_EQ(values_of(call.run()), (Floats{0, 1, 3, 4})) << "along the height";
}

TEST(ImageOps, ConcatenateAndPad) {
  ImageCall both(op_concatenate, {});
  both.operand(of({1, 2}, {2, 1}), {1, 2}).operand(of({3, 4, 5, 6}, {2, 2}), {1, 2});
  EXPECT_EQ(values_of(both.run()), (std::vector<float>{1, 3, 4, 2, 5, 6}));

  ImageCall pad(
      op_pad,
      Attributes::of(PadAttributes{
          .padding = {0, 0, 1, 0}, .channels_before = 0, .channels_behind = 1, .value = 9}));
  pad.operand(of({1, 2}, {2, 1}), {1, 2});
  EXPECT_EQ(values_of(pad.run()), (std::vector<float>{9, 9, 1, 9, 2, 9}));
}

TEST(ImageOps, PreluHasASlopeAChannelOrOneForAll) {
  ImageCall call(op_prelu, {});
  call.operand(of({-1, -1, 2, -3}, {2, 2}), {1, 2});
  call.weight_ = of({0.5F, 2}, {2});
  EXPECT_EQ(values_of(call.run()), (std::vector<float>{-0.5F, -2, 2, -6}));
  call.weight_ = of({0.25F}, {1});
  EXPECT_EQ(values_of(call.run()), (std::vector<float>{-0.25F, -0.25F, 2, -0.75F}));
}

TEST(ImageOps, PositionAttentionMixesPixels) {
  constexpr std::int64_t kPixels = 6, kBatch = 2;
  const ImageSize size{2, 3};
  const Tensor x = random_image({kBatch * kPixels, 4}, 6);
  const Tensor q = random_image({kBatch * kPixels, 2}, 7);
  const Tensor k = random_image({kBatch * kPixels, 2}, 8);
  const Tensor v = random_image({kBatch * kPixels, 4}, 9);
  ImageCall call(op_position_attention, {});
  call.operand(x.clone(), size).operand(q.clone(), size);
  call.operand(k.clone(), size).operand(v.clone(), size);
  call.weight_ = of({0.5F}, {1});

  std::vector<double> want;
  for (std::int64_t r = 0; r < x.rows(); ++r) {
    const std::int64_t first = r / kPixels * kPixels;
    std::vector<double> map;
    double sum = 0;
    for (std::int64_t j = first; j < first + kPixels; ++j) {
      const double score =
          element(q, r, 0) * element(k, j, 0) + element(q, r, 1) * element(k, j, 1);
      map.push_back(std::exp(score));
      sum += map.back();
    }
    for (std::int64_t c = 0; c < 4; ++c) {
      double context = 0;
      for (std::int64_t j = 0; j < kPixels; ++j)
        context += map[static_cast<std::size_t>(j)] / sum * element(v, first + j, c);
      want.push_back(0.5 * context + element(x, r, c));
    }
  }
  expect_near(call.run(), want, "position attention");
}

TEST(ImageOps, ChannelAttentionPrefersWhatIsUnlike) {
  // One pixel: E = x x^T of (1, 2) is ((1, 2), (2, 4)); rows of softmax(max - E) are those of (1,
  // 0) and (2, 0).
  ImageCall call(op_channel_attention, {});
  call.operand(of({1, 2}, {1, 2}), {1, 1});
  call.weight_ = of({3}, {1});
  const double a = std::exp(1) / (std::exp(1) + 1);
  const double b = std::exp(2) / (std::exp(2) + 1);
  expect_near(call.run(), {3 * (a + 2 * (1 - a)) + 1, 3 * (b + 2 * (1 - b)) + 2},
              "channel attention");
}

TEST(ImageOps, SinePositionsOfRowsAndColumns) {
  ImageCall call(op_sine_positions, Attributes::of(std::int64_t{8}));
  call.operand(Tensor::f32({2 * 6, 3}), {2, 3});
  const Tensor out = call.run();
  ASSERT_EQ(out.shape(), (Shape{12, 8}));
  // Pixel (1, 0): the last row is at 2 pi, the first of three columns at a third of it; the second
  // pair of waves is a hundred times as long.
  const double full = 2 * std::acos(-1.0);
  const double want[] = {std::sin(full),       std::cos(full),      std::sin(full / 100),
                         std::cos(full / 100), std::sin(full / 3),  std::cos(full / 3),
                         std::sin(full / 300), std::cos(full / 300)};
  for (std::int64_t j = 0; j < 8; ++j) {
    EXPECT_NEAR(element(out, 3, j), want[j], 1e-5) << j;
    EXPECT_EQ(element(out, 9, j), element(out, 3, j)) << "the second image";
  }
}

TEST(ImageOps, QueriesAndMeansOfSequences) {
  ImageCall queries(op_learned_queries, {});
  queries.weight_ = of({1, 2, 3, 4}, {2, 2});
  queries.batch_.batch = 2;
  queries.batch_.length = 2;
  EXPECT_EQ(values_of(queries.run()), (std::vector<float>{1, 2, 3, 4, 1, 2, 3, 4}));
  queries.batch_.length = 3;
  EXPECT_THROW(queries.run(), Error);

  ImageCall mean(op_sequence_mean, {});
  mean.operand(of({1, 3, 100, 5, 7, 9}, {6, 1}), {1, 1});
  mean.batch_.batch = 2;
  mean.batch_.length = 3;
  mean.batch_.mask = {1, 1, 0, 1, 1, 1};
  EXPECT_EQ(values_of(mean.run()), (std::vector<float>{2, 2, 2, 7, 7, 7}));
}

TEST(ImageOps, PixelsAsTokens) {
  ImageCall call(op_pixel_tokens, {});
  call.operand(of({1, 2, 3, 4}, {4, 1}), {2, 2});
  call.batch_.batch = 1;
  call.batch_.length = 4;
  EXPECT_EQ(values_of(call.run()), (std::vector<float>{1, 2, 3, 4}));
  call.batch_.length = 5;
  EXPECT_THROW(call.run(), Error) << "another number of tokens than pixels";
}

TEST(ImageOps, ActivationsOfImages) {
  const auto at = [](ActivationKind kind, float x) {
    ImageCall call(op_activation, Attributes::of(kind));
    call.operand(of({x}, {1, 1}), {1, 1});
    return call.run().f32()[0];
  };
  EXPECT_EQ(at(ActivationKind::kRelu6, -1), 0);
  EXPECT_EQ(at(ActivationKind::kRelu6, 5), 5);
  EXPECT_EQ(at(ActivationKind::kRelu6, 7), 6);
  EXPECT_EQ(at(ActivationKind::kHardTanh, -3), -1);
  EXPECT_EQ(at(ActivationKind::kHardTanh, 0.5F), 0.5F);
  EXPECT_EQ(at(ActivationKind::kHardSwish, -4), 0);
  EXPECT_EQ(at(ActivationKind::kHardSwish, 1.5F), 1.125F);
  EXPECT_EQ(at(ActivationKind::kHardSwish, 4), 4);
  EXPECT_EQ(at(ActivationKind::kSign, -0.1F), -1);
  EXPECT_EQ(at(ActivationKind::kSign, 0), 0);
  EXPECT_EQ(at(ActivationKind::kSign, 2), 1);
  EXPECT_EQ(at(ActivationKind::kRelu2, -3), 0);
  EXPECT_EQ(at(ActivationKind::kRelu2, 1.5F), 2.25F);
  EXPECT_NEAR(at(ActivationKind::kSigmoid, 1), 1 / (1 + std::exp(-1.0)), 1e-7);
}

// What is known before there is a batch.

TEST(ImageTypes, FollowFromTheOps) {
  GraphBuilder g;
  const ValueId x = g.image({.channels = 3, .size = {224, 200}});
  const auto expect = [&](ValueId v, std::int64_t channels, ImageSize size) {
    const ValueType& type = g.graph().value(v).type;
    EXPECT_EQ(type.columns, channels);
    EXPECT_EQ(image_size(type.rows, "test"), size);
  };
  const ValueId conv =
      g.conv2d("stem", "conv1", x, 8, {.window = window(7, 7, 2, 1, {3, 3, 3, 3})});
  expect(conv, 8, {112, 100});
  expect(g.conv_transpose2d("up", "deconv", conv, 4, {.window = window(2, 2, 2, 1, {})}), 4,
         {224, 200});
  PoolAttributes pool;
  pool.window = window(3, 3, 2, 1, {1, 1, 1, 1});
  expect(g.node(op_pool, {conv}, Attributes::of(pool)), 8, {56, 50});
  expect(g.node(op_concatenate, {conv, conv}), 16, {112, 100});
  expect(g.node(op_resize, {conv}, Attributes::of(ResizeAttributes{.size = {10, 20}})), 8,
         {10, 20});
  expect(g.batch_norm("norm", "bn1", conv, 1e-5), 8, {112, 100});

  const ValueId mean = g.node(op_global_mean, {conv});
  EXPECT_EQ(g.graph().value(mean).type.rows.kind, RowSpace::Kind::kSequences);
  EXPECT_THROW(g.node(op_pool, {mean}, Attributes::of(pool)), Error) << "no pixels any more";
}

TEST(ImageTypes, WhatDoesNotFitIsRefused) {
  GraphBuilder g;
  const ValueId x = g.image({.channels = 3, .size = {4, 4}});
  const ValueId other = g.image({.channels = 3, .size = {5, 4}});
  EXPECT_THROW(g.conv2d("a", "a", x, 4, {.window = window(5, 5, 1, 1, {})}), Error);
  EXPECT_THROW(g.conv2d("b", "b", x, 4, {.groups = 2}), Error);
  EXPECT_THROW(g.conv2d("c", "c", x, 4, {.padding_value = {1.0}}), Error);
  EXPECT_THROW(g.node(op_concatenate, {x, other}), Error);
  EXPECT_THROW(g.node(op_pad, {x}, Attributes::of(PadAttributes{.padding = {-1, 0, 0, 0}})), Error);
  PoolAttributes pool;
  pool.window = window(2, 2, 2, 1, {2, 2, 2, 2});
  EXPECT_THROW(g.node(op_pool, {x}, Attributes::of(pool)), Error);
}

TEST(ImageTypes, WindowsAsTheReferenceCountsThem) {
  EXPECT_EQ(windows_over({5, 6}, window(3, 3, 2, 1, {})), (ImageSize{2, 2}));
  EXPECT_EQ(windows_over({5, 6}, window(3, 3, 2, 1, {}), true), (ImageSize{2, 3}));
  EXPECT_EQ(windows_over({2, 2}, window(3, 3, 1, 1, {})), (ImageSize{0, 0}));
  // The one more would begin behind the image.
  EXPECT_EQ(windows_over({3, 3}, window(1, 1, 3, 1, {}), true), (ImageSize{1, 1}));
  EXPECT_EQ(image_under({2, 2}, window(3, 3, 2, 1, {1, 1, 1, 1}), {1, 1}), (ImageSize{4, 4}));
}

/// Our columns are (height, width, in), the checkpoint's tensor is [out, in, height, width].
TEST(ImageTypes, KernelsArePackedAsCheckpointsStoreThem) {
  const Window w = window(2, 3, 1, 1, {});
  const Shape shape{4, 2 * 3 * 5};
  EXPECT_EQ(packed_shape(conv_packing(w), shape), (Shape{4, 5, 2, 3}));
  EXPECT_EQ(packed_shape(conv_packing(w, true), shape), (Shape{5, 4, 2, 3}));
  // Row 3, tap (1, 2), channel 4.
  const std::int64_t column = (1 * 3 + 2) * 5 + 4;
  EXPECT_EQ(packed_index(conv_packing(w), 3, column, shape), ((3 * 5 + 4) * 2 + 1) * 3 + 2);
  EXPECT_EQ(packed_index(conv_packing(w, true), 3, column, shape), ((4 * 4 + 3) * 2 + 1) * 3 + 2);
}

}  // namespace
}  // namespace quell
