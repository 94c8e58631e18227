#include "quell/io/safetensors.h"
#include "quell/base/bf16.h"

#include <gtest/gtest.h>

#include <cstring>
#include <fstream>

#include "quell/base/error.h"
#include "quell/io/json.h"
#include "tests/support/scratch_dir.h"

namespace quell {
namespace {

/// A file image from a header and data.
std::vector<std::byte> image(const std::string& header, std::size_t data_bytes) {
  std::vector<std::byte> out(8 + header.size() + data_bytes);
  const std::uint64_t n = header.size();
  std::memcpy(out.data(), &n, 8);
  std::memcpy(out.data() + 8, header.data(), header.size());
  return out;
}

void expect_refused(const std::string& header, std::size_t data_bytes, const std::string& words) {
  const std::vector<std::byte> bytes = image(header, data_bytes);
  try {
    const SafetensorsFile file(bytes, "file.safetensors");
    ADD_FAILURE() << "accepted: " << header;
  } catch (const Error& e) {
    EXPECT_NE(std::string(e.what()).find(words), std::string::npos) << e.what();
    EXPECT_NE(std::string(e.what()).find("file.safetensors"), std::string::npos) << e.what();
  }
}

TEST(Safetensors, AcceptsWhatTheFormatAllows) {
  const auto bytes = image(
      R"({"__metadata__":{"format":"pt"},"b":{"dtype":"F32","shape":[],"data_offsets":[0,4]},)"
      R"("a":{"dtype":"BF16","shape":[2,0],"data_offsets":[4,4]},"c":{"dtype":"I8","shape":[3],"data_offsets":[4,7]}}   )",
      7);
  const SafetensorsFile file(bytes, "x");
  EXPECT_EQ(file.tensors().size(), 3U);
  EXPECT_EQ(file.at("b").shape().rank(), 0);
  EXPECT_EQ(file.at("a").numel(), 0);
  EXPECT_EQ(file.metadata().at("format"), "pt");
  EXPECT_THROW(file.at("d"), Error);
}

TEST(Safetensors, RefusesEveryBrokenRule) {
  const auto one = [](const std::string& body) { return "{\"w\":{" + body + "}}"; };
  expect_refused(one(R"("dtype":"F32","shape":[2],"data_offsets":[0,8])"), 7, "truncated");
  expect_refused(one(R"("dtype":"F32","shape":[2],"data_offsets":[0,8])"), 9,
                 "after the last tensor");
  expect_refused(one(R"("dtype":"F32","shape":[2],"data_offsets":[4,12])"), 12,
                 "holes and overlaps");
  expect_refused(one(R"("dtype":"F32","shape":[3],"data_offsets":[0,8])"), 8, "needs");
  expect_refused(one(R"("dtype":"F32","shape":[2],"data_offsets":[8,0])"), 8, "data_offsets");
  expect_refused(one(R"("dtype":"F32","shape":[-1],"data_offsets":[0,8])"), 8, "non-negative");
  expect_refused(one(R"("dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,8])"), 8,
                 "overflow");
  expect_refused(one(R"("dtype":"F4","shape":[2],"data_offsets":[0,1])"), 1, "not supported");
  expect_refused(one(R"("dtype":"F32","shape":[2])"), 8, "exactly");
  expect_refused(
      R"({"w":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"w":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}})",
      1, "duplicate");
  expect_refused(
      R"({"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},"b":{"dtype":"U8","shape":[2],"data_offsets":[1,3]}})",
      3, "holes and overlaps");
  expect_refused(R"({"__metadata__":{"n":1}})", 0, "not a string");
  expect_refused("[1]", 0, "does not start");
  expect_refused("{nonsense", 0, "not valid JSON");
  expect_refused(std::string(200, '[').insert(0, "{\"a\":"), 0, "");
  std::vector<std::byte> huge = image("{}", 0);
  huge[7] = std::byte{0x7f};
  EXPECT_THROW(SafetensorsFile(huge, "x"), Error);
  EXPECT_THROW(SafetensorsFile(std::span(huge).first(5), "x"), Error);
}

TEST(Safetensors, WritesWhatItReads) {
  const testing::ScratchDir dir;
  const std::string path = (dir / "round_trip.safetensors").string();
  Tensor a = Tensor::f32({2, 3}), b(DType::kI8, {5});
  for (std::size_t i = 0; i < 6; ++i) a.f32()[i] = static_cast<float>(i) / 3;
  for (std::size_t i = 0; i < 5; ++i)
    b.as<std::int8_t>()[i] = static_cast<std::int8_t>(-static_cast<int>(i));
  write_safetensors(path, {{"b", b}, {"a", a}}, {{"format", "pt"}});
  const SafetensorsFile file(path);
  EXPECT_EQ(file.at("a").shape(), a.shape());
  const Tensor back = to_f32(file.at("a"), "a");
  EXPECT_TRUE(std::equal(back.f32().begin(), back.f32().end(), a.f32().begin()));
  EXPECT_EQ(to_i32(file.at("b"), "b")[4], -4);
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(file.at("a").raw()) % 8, 0U);
  EXPECT_THROW(write_safetensors("/nonexistent/dir/x.safetensors", {{"a", a}}), Error);
}

TEST(ToF32, ConvertsHalvesAndRefusesNaN) {
  for (std::uint32_t bits = 0; bits < 0x7c00; bits += 7)
    EXPECT_EQ(f32_to_f16(f16_to_f32(static_cast<std::uint16_t>(bits))), bits);
  for (std::uint32_t bits = 0; bits < 0x7bff;
       ++bits) {  // halfway to the next: the even one; beside that: the nearer one
    const float low = f16_to_f32(static_cast<std::uint16_t>(bits)),
                high = f16_to_f32(static_cast<std::uint16_t>(bits + 1));
    const float middle = (low + high) / 2;
    EXPECT_EQ(f32_to_f16(middle), bits + bits % 2);
    EXPECT_EQ(f32_to_f16(std::nextafter(middle, low)), bits);
    EXPECT_EQ(f32_to_f16(std::nextafter(-middle, -high)), 0x8000 + bits + 1);
  }
  EXPECT_EQ(f32_to_f16(std::nextafter(65520.0F, 0.0F)), 0x7bff);
  EXPECT_EQ(f32_to_f16(65520.0F), 0x7c00);
  EXPECT_EQ(f16_to_f32(0x3c00), 1.0F);
  EXPECT_EQ(f16_to_f32(0x0001), 0x1p-24F);
  EXPECT_EQ(bf16_to_f32(f32_to_bf16(1.5F)), 1.5F);
  Tensor t = Tensor::f32({2});
  t.f32()[1] = std::numeric_limits<float>::quiet_NaN();
  EXPECT_THROW(to_f32(t, "w"), Error);
}

TEST(Json, RefusesDuplicateKeysAndDeepNesting) {
  EXPECT_THROW(parse_json(R"({"a":1,"a":2})", "x"), Error);
  EXPECT_THROW(parse_json(R"([{"b":{"a":1,"a":2}}])", "x"), Error);
  EXPECT_NO_THROW(parse_json(R"([{"a":1},{"a":2}])", "x"));
  EXPECT_THROW(parse_json(std::string(100000, '['), "x"), Error);
  EXPECT_THROW(parse_json("{\"a\":1} trailing", "x"), Error);
}

}  // namespace
}  // namespace quell
