// IDX and CIFAR files.
#include <gtest/gtest.h>
#include <zlib.h>

#include "quell/base/error.h"
#include "quell/vision/cifar_file.h"
#include "quell/vision/gzip.h"
#include "quell/vision/idx_file.h"

namespace quell {
namespace {

std::span<const std::byte> as_bytes(const std::string& text) {
  return {reinterpret_cast<const std::byte*>(text.data()), text.size()};
}

std::string idx(const std::vector<std::uint8_t>& sizes, const std::string& values) {
  std::string text = {0, 0, 8, static_cast<char>(sizes.size())};
  for (const std::uint8_t size : sizes) text += std::string({0, 0, 0, static_cast<char>(size)});
  return text + values;
}

std::string gzipped(const std::string& text) {
  z_stream stream{};
  deflateInit2(&stream, 9, Z_DEFLATED, 16 + MAX_WBITS, 8, Z_DEFAULT_STRATEGY);
  std::string out(text.size() + 100, '\0');
  std::string in = text;
  stream.next_in = reinterpret_cast<Bytef*>(in.data());
  stream.avail_in = static_cast<uInt>(in.size());
  stream.next_out = reinterpret_cast<Bytef*>(out.data());
  stream.avail_out = static_cast<uInt>(out.size());
  deflate(&stream, Z_FINISH);
  out.resize(stream.total_out);
  deflateEnd(&stream);
  return out;
}

template <typename Call>
std::string array_refusal(Call call) {
  try {
    call();
  } catch (const Error& e) {
    return e.what();
  }
  return "accepted";
}

std::string idx_refusal(const std::string& text) {
  return array_refusal([&] { parse_idx(as_bytes(text), "i"); });
}

TEST(IdxFile, ImagesPlainAndCompressed) {
  const std::string text = idx({2, 2, 3}, "abcdefghijkl");
  for (const std::string& stored : {text, gzipped(text)}) {
    EXPECT_TRUE(is_idx(as_bytes(stored), "i"));
    const IdxArray array = parse_idx(as_bytes(stored), "i");
    EXPECT_EQ(array.sizes, (std::vector<std::int64_t>{2, 2, 3}));

    const Image second = idx_image(array, 1, "i");
    EXPECT_EQ(second.height, 2);
    EXPECT_EQ(second.width, 3);
    EXPECT_EQ(second.channels, 1);
    EXPECT_EQ(std::string(second.pixels.begin(), second.pixels.end()), "ghijkl");
  }
}

TEST(IdxFile, MistakesAreTold) {
  const std::string text = idx({2, 2, 3}, "abcdefghijkl");
  EXPECT_EQ(idx_refusal(text + "m"),
            "i: the IDX file is longer than the 12 values that its sizes say");
  EXPECT_EQ(idx_refusal(gzipped(text + "m")),
            "i: the IDX file is longer than the 12 values that its sizes say");
  for (std::size_t size = 0; size < text.size(); ++size)
    EXPECT_NE(idx_refusal(text.substr(0, size)), "accepted") << size;
  const std::string packed = gzipped(text);
  for (std::size_t size = 0; size < packed.size(); ++size)
    EXPECT_NE(idx_refusal(packed.substr(0, size)), "accepted") << size;

  std::string damaged = packed;
  damaged[damaged.size() - 6] ^= 1;  // of the checksum
  EXPECT_EQ(idx_refusal(damaged), "i: damaged gzip file: incorrect data check");
  std::string floats = text;
  floats[2] = 0x0d;
  EXPECT_EQ(idx_refusal(floats), "i: an IDX file of type 13; bytes (8) are read");
  EXPECT_EQ(idx_refusal(idx({0}, "")), "i: an IDX file without values");
  EXPECT_EQ(idx_refusal(std::string("\0\0\x08\x02\x7f\xff\xff\xff\x7f\xff\xff\xff", 12)),
            "i: an IDX file of more than 2^31 values");
  EXPECT_EQ(idx_refusal(std::string("\0\0\x08\x01\x7f\xff\xff\xff", 8)),
            "i: the IDX file is shorter than the 2147483647 values that its sizes say");

  const IdxArray labels = parse_idx(as_bytes(idx({3}, "abc")), "i");
  EXPECT_NE(array_refusal([&] { idx_image(labels, 0, "i"); }), "accepted");
}

std::string cifar_record(const std::string& labels, char red, char green, char blue) {
  return labels + std::string(1024, red) + std::string(1024, green) + std::string(1024, blue);
}

TEST(CifarFile, PlanesBecomePixels) {
  const std::string ten = cifar_record({7}, 'r', 'g', 'b') + cifar_record({9}, '1', '2', '3');
  const CifarFile file(as_bytes(ten), "c");
  ASSERT_EQ(file.size(), 2);
  EXPECT_EQ(file.num_classes(), 10);
  EXPECT_EQ(file.label(0), 7);
  EXPECT_EQ(file.label(1), 9);
  const Image image = file.image(1);
  EXPECT_EQ(image.height, 32);
  EXPECT_EQ(image.channels, 3);
  EXPECT_EQ(std::string(image.pixels.begin(), image.pixels.begin() + 6), "123123");

  const std::string hundred = cifar_record({19, 99}, 'r', 'g', 'b');
  const CifarFile fine(as_bytes(hundred), "c");
  EXPECT_EQ(fine.num_classes(), 100);
  EXPECT_EQ(fine.label(0), 99);
  EXPECT_EQ(fine.image(0).pixels[0], 'r');
}

TEST(CifarFile, WhereSizesLeaveBothTheLabelsDecide) {
  std::string ten;
  for (int i = 0; i < 3074; ++i) ten += cifar_record({1}, 50, 60, 70);
  EXPECT_EQ(CifarFile(as_bytes(ten), "c").size(), 3074);
  std::string hundred;
  for (int i = 0; i < 3073; ++i) hundred += cifar_record({15, 80}, 15, 80, 70);
  EXPECT_EQ(CifarFile(as_bytes(hundred), "c").size(), 3073);
}

TEST(CifarFile, MistakesAreTold) {
  const std::string good = cifar_record({7}, 'r', 'g', 'b');
  const auto refusal_of = [](const std::string& text) {
    return array_refusal([&] { CifarFile(as_bytes(text), "c"); });
  };
  EXPECT_EQ(refusal_of(good.substr(1)),
            "c: 3072 bytes are no whole number of CIFAR records (3073 or 3074 bytes)");
  EXPECT_NE(refusal_of(""), "accepted");
  EXPECT_EQ(
      refusal_of(good + cifar_record({10}, 'r', 'g', 'b')),
      "c: record 1 has a label that CIFAR-10 does not have; not a CIFAR file, or a damaged one");
  EXPECT_EQ(refusal_of(cifar_record({20, 0}, 'r', 'g', 'b')),
            "c: record 0 has a label that CIFAR-100 does not have; not a CIFAR file, or a damaged "
            "one");
}

}  // namespace
}  // namespace quell
