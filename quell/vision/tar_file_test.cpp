#include "quell/vision/tar_file.h"

#include <gtest/gtest.h>

#include <cstdio>
#include <cstring>

#include "quell/base/error.h"

namespace quell {
namespace {

/// Archives made by hand.
struct TarText {
  std::string text;

  TarText& header(const std::string& name, std::size_t size, char type = '0',
                  const std::string& prefix = "") {
    std::string block(512, '\0');
    block.replace(0, name.size(), name);
    char number[13];
    std::snprintf(number, sizeof number, "%011zo", size);
    block.replace(124, 12, number, 12);
    block[156] = type;
    block.replace(257, 8,
                  std::string("ustar\0"
                              "00",
                              8));
    block.replace(345, prefix.size(), prefix);

    block.replace(148, 8, 8, ' ');
    unsigned sum = 0;
    for (const char c : block) sum += static_cast<unsigned char>(c);
    std::snprintf(number, sizeof number, "%06o", sum);
    block.replace(148, 7, number, 7);
    text += block;
    return *this;
  }
  TarText& content(const std::string& bytes) {
    text += bytes;
    text.resize((text.size() + 511) / 512 * 512);
    return *this;
  }
  TarText& file(const std::string& name, const std::string& bytes, char type = '0') {
    return header(name, bytes.size(), type).content(bytes);
  }
  TarText& end() {
    text.resize(text.size() + 1024);
    return *this;
  }
  std::span<const std::byte> bytes() const {
    return {reinterpret_cast<const std::byte*>(text.data()), text.size()};
  }
};

std::string tar_refusal(const TarText& tar) {
  try {
    list_tar(tar.bytes(), "t.tar");
  } catch (const Error& e) {
    return e.what();
  }
  return "accepted";
}

std::string content_of(const TarMember& member) {
  return {reinterpret_cast<const char*>(member.bytes.data()), member.bytes.size()};
}

TEST(TarFile, MembersInOrder) {
  TarText tar;
  tar.header("cats", 0, '5').file("./cats/0.jpg", "meow").file("b.jpg", "").end();
  EXPECT_TRUE(is_tar(tar.bytes()));

  const std::vector<TarMember> members = list_tar(tar.bytes(), "t.tar");
  ASSERT_EQ(members.size(), 2U);
  EXPECT_EQ(members[0].name, "cats/0.jpg");
  EXPECT_EQ(content_of(members[0]), "meow");
  EXPECT_EQ(members[1].name, "b.jpg");
  EXPECT_TRUE(members[1].bytes.empty());
}

TEST(TarFile, LongNames) {
  const std::string folder(120, 'd');
  const std::string path = folder + "/" + std::string(130, 'p') + ".jpg";
  TarText tar;
  tar.header("a.jpg", 1, '0', folder).content("1");
  tar.file("././@LongLink", path + '\0', 'L').file("cut", "2");
  const std::string record = " path=" + folder + "/x.jpg\n";
  tar.file("pax", std::to_string(record.size() + 3) + record, 'x').file("cut", "3");
  tar.file("c.jpg", "4").end();

  const std::vector<TarMember> members = list_tar(tar.bytes(), "t.tar");
  ASSERT_EQ(members.size(), 4U);
  EXPECT_EQ(members[0].name, folder + "/a.jpg");
  EXPECT_EQ(members[1].name, path);
  EXPECT_EQ(members[2].name, folder + "/x.jpg");
  EXPECT_EQ(members[3].name, "c.jpg");
  EXPECT_EQ(content_of(members[2]), "3");
}

TEST(TarFile, SizesInBase256) {
  TarText tar;
  tar.file("a.jpg", "meow").end();
  std::string& text = tar.text;
  for (std::size_t i = 124; i < 136; ++i) text[i] = '\0';
  text[124] = static_cast<char>(0x80);
  text[135] = 4;
  text.replace(148, 8, 8, ' ');
  unsigned sum = 0;
  for (std::size_t i = 0; i < 512; ++i) sum += static_cast<unsigned char>(text[i]);
  char number[8];
  std::snprintf(number, sizeof number, "%06o", sum);
  text.replace(148, 7, number, 7);
  EXPECT_EQ(content_of(list_tar(tar.bytes(), "t.tar")[0]), "meow");

  for (std::size_t i = 125; i < 135; ++i) text[i] = static_cast<char>(0xff);
  EXPECT_NE(tar_refusal(tar), "accepted");
}

TEST(TarFile, EveryCutIsRefused) {
  TarText tar;
  tar.file("a.jpg", std::string(700, 'a')).file("b.jpg", "b").end();
  const std::size_t members_end = tar.text.size() - 1024;
  for (std::size_t size = 0; size < members_end + 512; size += 7) {
    TarText cut{tar.text.substr(0, size)};
    EXPECT_NE(tar_refusal(cut), "accepted") << size;
  }
}

TEST(TarFile, MistakesAreTold) {
  TarText tar;
  tar.file("a.jpg", "1").file("a.jpg", "2").end();
  EXPECT_EQ(tar_refusal(tar), "t.tar: \"a.jpg\" is in it twice");

  EXPECT_EQ(tar_refusal(TarText().file("a.jpg", "1")),
            "t.tar: the archive is cut off, its end mark is missing");
  EXPECT_EQ(tar_refusal(TarText().header("a.jpg", 5000).end()),
            "t.tar at byte 0: the archive ends inside a file");
  EXPECT_EQ(tar_refusal(TarText().header("a.jpg", 0, '2').end()),
            "t.tar at byte 0: \"a.jpg\" is a link or another thing that is no file");
  EXPECT_EQ(tar_refusal(TarText().file("p", "99 path=x\n", 'x').end()),
            "t.tar at byte 0: a damaged pax header");
  EXPECT_EQ(tar_refusal(TarText().file("a\nb.jpg", "1").end()),
            "t.tar at byte 0: the name of an image has characters that do not print");

  EXPECT_EQ(tar_refusal(TarText().file("a.jpg", "1").end().file("b.jpg", "2").end()),
            "t.tar at byte 1024: the archive has its end mark, and more behind it");

  TarText damaged;
  damaged.file("a.jpg", "1").file("b.jpg", "2").end();
  damaged.text[1024 + 3] = 'x';
  EXPECT_EQ(tar_refusal(damaged), "t.tar at byte 1024: not a tar header, or a damaged one");
}

}  // namespace
}  // namespace quell
