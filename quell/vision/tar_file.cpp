#include "quell/vision/tar_file.h"

#include <algorithm>
#include <charconv>
#include <cstdint>
#include <optional>
#include <string_view>
#include <unordered_set>

#include "quell/base/error.h"
#include "quell/vision/label_file.h"

namespace quell {
namespace {

constexpr std::size_t kBlock = 512;
/// Of a member that only says the name of the next.
constexpr std::uint64_t kMaxNameSize = 1 << 16;

// Fields of a header: where they begin and how long they are.
struct Field {
  std::size_t begin, size;
};
constexpr Field kName = {0, 100};
constexpr Field kSize = {124, 12};
constexpr Field kChecksum = {148, 8};
constexpr Field kMagic = {257, 5};
constexpr Field kPrefix = {345, 155};
constexpr std::size_t kType = 156;

using Block = std::span<const std::byte>;

std::string_view field_of(Block header, Field field) {
  return {reinterpret_cast<const char*>(header.data()) + field.begin, field.size};
}

std::string text_of(Block header, Field field) {
  const std::string_view all = field_of(header, field);
  return std::string(all.substr(0, all.find('\0')));
}

/// Octal digits, or where the first bit is set a number in base 256, as GNU tar writes large ones.
std::optional<std::uint64_t> number_of(Block header, Field field) {
  std::string_view digits = field_of(header, field);
  const auto first = static_cast<unsigned char>(digits[0]);
  if (first & 0x80) {
    std::uint64_t value = first & 0x7f;
    for (const char c : digits.substr(1)) {
      if (value >> 55) return std::nullopt;
      value = value << 8 | static_cast<unsigned char>(c);
    }
    return value;
  }

  const std::size_t begin = std::min(digits.find_first_not_of(' '), digits.size());
  digits.remove_prefix(begin);
  digits = digits.substr(0, digits.find_first_of(std::string_view(" \0", 2)));
  std::uint64_t value = 0;
  const char* const last = digits.data() + digits.size();
  const auto [end, error] = std::from_chars(digits.data(), last, value, 8);
  if (error != std::errc() || end != last) return std::nullopt;
  return value;
}

/// The sum of all bytes with the checksum itself read as spaces.
bool checksum_is_right(Block header) {
  std::uint64_t sum = kChecksum.size * ' ';
  for (std::size_t i = 0; i < kBlock; ++i) {
    const bool inside = i >= kChecksum.begin && i < kChecksum.begin + kChecksum.size;
    if (!inside) sum += std::to_integer<std::uint64_t>(header[i]);
  }
  return number_of(header, kChecksum) == sum;
}

bool is_zero(Block block) {
  return std::all_of(block.begin(), block.end(), [](std::byte b) { return b == std::byte{0}; });
}

/// What a pax header says about the next member: records "LENGTH KEY=VALUE\n".
struct PaxRecords {
  std::optional<std::string> path;
  std::optional<std::uint64_t> size;
};

PaxRecords parse_pax(std::string_view text, const std::string& where) {
  PaxRecords records;
  while (!text.empty()) {
    std::size_t length = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), length);
    const auto digits = static_cast<std::size_t>(end - text.data());
    const bool whole = error == std::errc() && length > digits + 1 && length <= text.size() &&
                       text[digits] == ' ' && text[length - 1] == '\n';
    require(whole, ErrorCode::kInvalidInput, where, ": a damaged pax header");

    const std::string_view record = text.substr(digits + 1, length - digits - 2);
    const std::size_t equals = record.find('=');
    require(equals != std::string_view::npos, ErrorCode::kInvalidInput, where,
            ": a damaged pax header");
    const std::string_view key = record.substr(0, equals);
    const std::string_view value = record.substr(equals + 1);
    text.remove_prefix(length);

    require(!key.starts_with("GNU.sparse"), ErrorCode::kUnsupported, where, ": a sparse file");
    if (key == "path") records.path = std::string(value);
    if (key == "size") {
      std::uint64_t size = 0;
      const char* const value_end = value.data() + value.size();
      const auto [last, bad] = std::from_chars(value.data(), value_end, size);
      require(bad == std::errc() && last == value_end, ErrorCode::kInvalidInput, where,
              ": a damaged pax header");
      records.size = size;
    }
  }
  return records;
}

/// Walks from header to header.
class TarReader {
 public:
  TarReader(Block bytes, const std::string& source) : bytes_(bytes), source_(source) {}

  std::vector<TarMember> read() {
    std::vector<TarMember> members;
    std::unordered_set<std::string> names;
    while (std::optional<TarMember> member = next()) {
      check_image_name(member->name, where());
      require(names.insert(member->name).second, ErrorCode::kInvalidInput, source_, ": \"",
              member->name, "\" is in it twice");
      members.push_back(std::move(*member));
    }
    return members;
  }

 private:
  std::string where() const { return str(source_, " at byte ", header_at_); }

  Block take(std::uint64_t size, const char* what) {
    require(size <= bytes_.size() - at_, ErrorCode::kInvalidInput, where(),
            ": the archive ends inside ", what);
    const Block taken = bytes_.subspan(at_, static_cast<std::size_t>(size));

    // The padding of the last member may be missing only together with everything behind it.
    const std::size_t padded = (taken.size() + kBlock - 1) / kBlock * kBlock;
    at_ = std::min(bytes_.size(), at_ + padded);
    return taken;
  }

  /// The next regular file; nothing at the end of the archive.
  std::optional<TarMember> next() {
    std::string long_name;
    PaxRecords pax;

    while (true) {
      header_at_ = at_;
      require(at_ < bytes_.size(), ErrorCode::kInvalidInput, source_,
              ": the archive is cut off, its end mark is missing");
      const Block header = take(kBlock, "a header");
      if (is_zero(header)) {
        require(is_zero(bytes_.subspan(at_)), ErrorCode::kInvalidInput, where(),
                ": the archive has its end mark, and more behind it");
        return std::nullopt;
      }
      require(checksum_is_right(header), ErrorCode::kInvalidInput, where(),
              ": not a tar header, or a damaged one");

      const char type = static_cast<char>(header[kType]);
      std::optional<std::uint64_t> size = number_of(header, kSize);
      require(size.has_value(), ErrorCode::kInvalidInput, where(), ": a damaged tar header");

      const bool about_next = type == 'x' || type == 'L' || type == 'g';
      if (about_next) {
        require(*size <= kMaxNameSize, ErrorCode::kInvalidInput, where(), ": a name of ", *size,
                " bytes");
        const Block text = take(*size, "a name");
        const std::string_view view(reinterpret_cast<const char*>(text.data()), text.size());
        if (type == 'x') pax = parse_pax(view, where());
        if (type == 'L') long_name = std::string(view.substr(0, view.find('\0')));
        continue;
      }

      const bool regular = type == '0' || type == '\0' || type == '7';
      if (regular) return regular_file(header, pax.size.value_or(*size), long_name, pax);

      const bool folder = type == '5';
      require(folder, ErrorCode::kUnsupported, where(), ": \"", text_of_name(header),
              "\" is a link or another thing that is no file");
      long_name.clear();
      pax = {};
    }
  }

  static std::string text_of_name(Block header) {
    const std::string name = text_of(header, kName);
    const std::string prefix = text_of(header, kPrefix);
    const bool has_prefix =
        field_of(header, kMagic) == "ustar" && header[262] == std::byte{0} && !prefix.empty();
    return has_prefix ? prefix + "/" + name : name;
  }

  TarMember regular_file(Block header, std::uint64_t size, const std::string& long_name,
                         const PaxRecords& pax) {
    TarMember member;
    member.name = text_of_name(header);
    if (!long_name.empty()) member.name = long_name;
    if (pax.path) member.name = *pax.path;
    if (member.name.starts_with("./")) member.name.erase(0, 2);

    member.bytes = take(size, "a file");
    return member;
  }

  Block bytes_;
  const std::string& source_;
  std::size_t at_ = 0;
  std::size_t header_at_ = 0;
};

}  // namespace

bool is_tar(std::span<const std::byte> bytes) {
  return bytes.size() >= kBlock && !is_zero(bytes.first(kBlock)) &&
         checksum_is_right(bytes.first(kBlock));
}

std::vector<TarMember> list_tar(std::span<const std::byte> bytes, const std::string& source) {
  return TarReader(bytes, source).read();
}

}  // namespace quell
