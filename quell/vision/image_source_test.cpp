#include "quell/vision/image_source.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdio>
#include <fstream>

#include "quell/base/error.h"
#include "quell/io/mapped_file.h"
#include "quell/vision/pixel_batch.h"
#include "tests/support/scratch_dir.h"

namespace quell {
namespace {
namespace fs = std::filesystem;

const fs::path kGoldenFiles = fs::path(QUELL_SOURCE_DIR) / "tests/golden/images/files";

std::string golden_file(const std::string& name) { return read_text_file(kGoldenFiles / name); }

/// A folder with a few images, removed at the end.
class ImageSourceTest : public ::testing::Test {
 protected:
  void write(const std::string& name, const std::string& bytes) const {
    fs::create_directories((root_ / name).parent_path());
    std::ofstream(root_ / name, std::ios::binary) << bytes;
  }
  std::string refusal(const ImageChoice& choice) const {
    try {
      open_images(choice);
    } catch (const Error& e) {
      std::string message = e.what();
      for (std::size_t at; (at = message.find(root_.path().string())) != std::string::npos;)
        message.replace(at, root_.path().string().size(), "~");
      return message;
    }
    return "accepted";
  }

  testing::ScratchDir root_;
};

std::string tar_of(const std::vector<std::pair<std::string, std::string>>& files) {
  std::string text;
  for (const auto& [name, bytes] : files) {
    std::string block(512, '\0');
    block.replace(0, name.size(), name);
    char number[13];
    std::snprintf(number, sizeof number, "%011zo", bytes.size());
    block.replace(124, 12, number, 12);
    block[156] = '0';
    block.replace(148, 8, 8, ' ');
    unsigned sum = 0;
    for (const char c : block) sum += static_cast<unsigned char>(c);
    std::snprintf(number, sizeof number, "%06o", sum);
    block.replace(148, 7, number, 7);
    text += block + bytes;
    text.resize((text.size() + 511) / 512 * 512);
  }
  return text + std::string(1024, '\0');
}

TEST_F(ImageSourceTest, FoldersFollowTheirLabelFile) {
  write("f/cats/1.JPG", golden_file("444.jpg"));
  write("f/0.png", golden_file("rgb.png"));
  write("f/README", "no image");
  write("f/labels.tsv", "cats/1.JPG\t5\n0.png\t2\n");

  const auto source = open_images({.images = root_ / "f"});
  ASSERT_EQ(source->size(), 2);
  EXPECT_EQ(source->name(0), (root_ / "f/cats/1.JPG").string());
  EXPECT_EQ(source->label(0), 5);
  EXPECT_EQ(source->label(1), 2);
  EXPECT_EQ(source->image(0).width, 19);

  const auto unlabelled = open_images({.images = root_ / "f", .use = ImageLabels::kIgnore});
  ASSERT_EQ(unlabelled->size(), 2);
  EXPECT_EQ(unlabelled->name(0), (root_ / "f/0.png").string());
  EXPECT_EQ(unlabelled->label(0), std::nullopt);
}

TEST_F(ImageSourceTest, TarFilesHoldWhatFoldersHold) {
  write("t.tar", tar_of({{"a.png", golden_file("rgb.png")},
                         {"notes.txt", "x"},
                         {"b.jpg", golden_file("420.jpg")}}));
  write("t_labels.tsv", "b.jpg\t1\na.png\t0\n");
  const auto source = open_images({.images = root_ / "t.tar"});
  ASSERT_EQ(source->size(), 2);
  EXPECT_EQ(source->name(0), (root_ / "t.tar").string() + "/b.jpg");
  EXPECT_EQ(source->label(0), 1);

  write("f/a.png", golden_file("rgb.png"));
  const auto folder = open_images({.images = root_ / "f", .use = ImageLabels::kIgnore});
  EXPECT_EQ(source->image(1), folder->image(0));
}

TEST_F(ImageSourceTest, BatchesDoNotDependOnThreads) {
  std::vector<std::pair<std::string, std::string>> files;
  for (int i = 0; i < 40; ++i)
    files.emplace_back(std::to_string(100 + i) + ".jpg",
                       golden_file(i % 2 ? "progressive.jpg" : "422.jpg"));
  write("t.tar", tar_of(files));
  const auto source = open_images({.images = root_ / "t.tar", .use = ImageLabels::kIgnore});
  Preprocessing steps;
  steps.resize = ResizeStep{{}, {8, 6}, 0};
  ThreadPool four(4);
  const PixelBatch batch = read_pixels(*source, 1, 38, steps, four);
  ASSERT_EQ(batch.values.shape(), Shape({38 * 8 * 6, 3}));

  for (std::int64_t i = 0; i < 38; ++i) {
    const PixelValues one = preprocess(source->image(i + 1), steps, "x");
    const std::span<const float> values = one.values.f32();
    EXPECT_TRUE(std::equal(values.begin(), values.end(), batch.values.row(i * 8 * 6))) << i;
  }
}

TEST_F(ImageSourceTest, TheFirstBadImageOfABatchIsTold) {
  std::vector<std::pair<std::string, std::string>> files;
  for (int i = 0; i < 9; ++i)
    files.emplace_back(std::to_string(i) + ".jpg", golden_file("422.jpg"));
  files[5].second.resize(600);
  files[7].second = "nothing";
  write("t.tar", tar_of(files));
  const auto source = open_images({.images = root_ / "t.tar", .use = ImageLabels::kIgnore});
  ThreadPool four(4);
  for (int round = 0; round < 20; ++round) {
    try {
      read_pixels(*source, 0, 9, {}, four);
      FAIL() << "accepted";
    } catch (const Error& e) {
      const std::string message = e.what();
      EXPECT_NE(message.find("t.tar/5.jpg: damaged JPEG image"), std::string::npos) << message;
    }
  }
}

/// Images that grow.
class GrowingImages final : public ImageSource {
 public:
  std::int64_t size() const override { return 4; }
  std::string name(std::int64_t index) const override { return str("image ", index); }
  std::optional<std::int32_t> label(std::int64_t) const override { return std::nullopt; }
  Image image(std::int64_t index) const override { return {2, 2 + index / 2, 3}; }
};

TEST(PixelBatch, ImagesOfOneBatchHaveOneSize) {
  const GrowingImages source;
  ThreadPool two(2);
  EXPECT_EQ(read_pixels(source, 2, 2, {}, two).size, (ImageSize{2, 3}));
  try {
    read_pixels(source, 0, 4, {}, two);
    FAIL() << "accepted";
  } catch (const Error& e) {
    EXPECT_STREQ(e.what(),
                 "image 2: 3 x 2 pixels when prepared, and the first image of its batch 2 x 2");
  }
}

TEST_F(ImageSourceTest, IdxFilesFindTheirLabels) {
  write("x-images-idx3-ubyte",
        std::string("\0\0\x08\x03\0\0\0\x02\0\0\0\x01\0\0\0\x02", 16) + "abcd");
  write("x-labels-idx1-ubyte", std::string("\0\0\x08\x01\0\0\0\x02\x03\x09", 10));
  const auto source = open_images({.images = root_ / "x-images-idx3-ubyte"});
  ASSERT_EQ(source->size(), 2);
  EXPECT_EQ(source->label(1), 9);
  EXPECT_EQ(source->image(1).pixels, (std::vector<std::uint8_t>{'c', 'd'}));

  write("x-labels-idx1-ubyte", std::string("\0\0\x08\x01\0\0\0\x01\x03", 9));
  EXPECT_EQ(refusal({.images = root_ / "x-images-idx3-ubyte"}),
            "~/x-labels-idx1-ubyte: 1 labels for the 2 images of ~/x-images-idx3-ubyte");
}

TEST_F(ImageSourceTest, CifarFilesHoldTheirLabels) {
  write("c.bin", std::string(1, '\3') + std::string(3072, 'p'));
  const auto source = open_images({.images = root_ / "c.bin"});
  ASSERT_EQ(source->size(), 1);
  EXPECT_EQ(source->label(0), 3);
  EXPECT_EQ(refusal({.images = root_ / "c.bin", .labels = root_ / "l.tsv"}),
            "~/c.bin: a CIFAR file holds its labels; no label file is read");
}

TEST_F(ImageSourceTest, MistakesAreTold) {
  write("f/a.png", golden_file("rgb.png"));
  EXPECT_EQ(refusal({.images = root_ / "f"}),
            "~/f: its labels are missing, no file ~/f/labels.tsv");
  write("f/labels.tsv", "b.png\t1\n");
  EXPECT_EQ(refusal({.images = root_ / "f"}), "~/f/labels.tsv line 1: no image \"b.png\" in ~/f");
  fs::create_directories(root_ / "empty");
  EXPECT_EQ(refusal({.images = root_ / "empty"}), "~/empty: no images in it (.png, .jpg, .jpeg)");

  write("t.tar", "not a tar");
  EXPECT_EQ(refusal({.images = root_ / "t.tar"}),
            "~/t.tar at byte 0: the archive ends inside a header");
  const std::string hello_gz(
      "\x1f\x8b\x08\x00\x00\x00\x00\x00\x02\x03\xcb\x48\xcd\xc9\xc9\x07\x00\x86\xa6\x10\x36\x05\x00"
      "\x00\x00",
      25);
  write("t.tar.gz", hello_gz);
  EXPECT_EQ(refusal({.images = root_ / "t.tar.gz"}),
            "~/t.tar.gz: a gzip file that holds no IDX array; unpack archives first");
  write("x.dat", "what");
  EXPECT_EQ(refusal({.images = root_ / "x.dat"}),
            "~/x.dat: neither a folder nor a tar, IDX or CIFAR (.bin) file");
  EXPECT_EQ(refusal({.images = root_ / "absent"}),
            "~/absent: cannot open: No such file or directory");
}

}  // namespace
}  // namespace quell
