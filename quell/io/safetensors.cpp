#include "quell/io/safetensors.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>

#include "quell/base/bf16.h"
#include "quell/base/error.h"
#include "quell/io/json.h"
#include "quell/io/output_file.h"

namespace quell {
namespace {

static_assert(std::endian::native == std::endian::little, "safetensors data is read in place");

constexpr std::uint64_t kMaxHeader = 100'000'000;

struct Entry {
  std::string name;
  DType dtype;
  Shape shape;
  std::uint64_t begin, end;
};

std::uint64_t as_u64(const Json& value, const std::string& where) {
  require(value.is_number_unsigned(), ErrorCode::kInvalidInput, where,
          ": expected a non-negative integer");
  return value.get<std::uint64_t>();
}

Entry parse_entry(const std::string& name, const Json& value, const std::string& source) {
  const std::string where = source + ": tensor \"" + name + "\"";
  require(value.is_object() && value.size() == 3 && value.contains("dtype") &&
              value.contains("shape") && value.contains("data_offsets"),
          ErrorCode::kInvalidInput, where, ": expected exactly dtype, shape and data_offsets");
  const Json& dtype_json = value["dtype"];
  require(dtype_json.is_string(), ErrorCode::kInvalidInput, where, ": dtype is not a string");
  const auto dtype = dtype_from_name(dtype_json.get<std::string>());
  require(dtype.has_value(), ErrorCode::kUnsupported, where, ": dtype ",
          dtype_json.get<std::string>(), " is not supported; convert to F32, F16 or BF16");
  const Json& shape_json = value["shape"];
  require(shape_json.is_array() && shape_json.size() <= 8, ErrorCode::kInvalidInput, where,
          ": bad shape");
  std::vector<std::int64_t> dims;
  std::uint64_t numel = 1;
  bool overflow = false;
  for (const Json& d : shape_json) {
    const std::uint64_t n = as_u64(d, where + ": shape");
    overflow |= __builtin_mul_overflow(numel, n, &numel) || n > std::uint64_t{1} << 48;
    dims.push_back(static_cast<std::int64_t>(n));
  }
  std::uint64_t bytes = 0;
  overflow |= __builtin_mul_overflow(numel, static_cast<std::uint64_t>(dtype_size(*dtype)), &bytes);
  require(!overflow, ErrorCode::kInvalidInput, where, ": shape overflows");
  const Json& offsets = value["data_offsets"];
  require(offsets.is_array() && offsets.size() == 2, ErrorCode::kInvalidInput, where,
          ": data_offsets must be two numbers");
  const Entry e{name, *dtype, Shape(std::move(dims)), as_u64(offsets[0], where),
                as_u64(offsets[1], where)};
  require(e.end >= e.begin && e.end - e.begin == bytes, ErrorCode::kInvalidInput, where, ": shape ",
          e.shape.to_string(), " needs ", bytes, " bytes, data_offsets hold [", e.begin, ", ",
          e.end, ")");
  return e;
}

}  // namespace

SafetensorsFile::SafetensorsFile(const std::filesystem::path& path)
    : file_(std::make_unique<MappedFile>(path)), source_(path.string()) {
  parse(file_->bytes());
}

SafetensorsFile::SafetensorsFile(std::span<const std::byte> bytes, const std::string& source)
    : source_(source) {
  parse(bytes);
}

void SafetensorsFile::parse(std::span<const std::byte> bytes) {
  require(bytes.size() >= 8, ErrorCode::kInvalidInput, source_,
          ": shorter than a safetensors header");
  std::uint64_t header_size = 0;
  std::memcpy(&header_size, bytes.data(), 8);
  require(header_size <= kMaxHeader && header_size <= bytes.size() - 8, ErrorCode::kInvalidInput,
          source_, ": header of ", header_size, " bytes does not fit the file of ", bytes.size(),
          " bytes; truncated, or not a safetensors file");
  std::string_view text(reinterpret_cast<const char*>(bytes.data()) + 8, header_size);
  require(!text.empty() && text.front() == '{', ErrorCode::kInvalidInput, source_,
          ": header does not start with '{'");
  const Json header = parse_json(text, source_);
  const std::byte* data = bytes.data() + 8 + header_size;
  const std::uint64_t data_size = bytes.size() - 8 - header_size;

  std::vector<Entry> entries;
  for (const auto& [name, value] : header.items()) {
    if (name != "__metadata__") {
      entries.push_back(parse_entry(name, value, source_));
      continue;
    }
    require(value.is_object(), ErrorCode::kInvalidInput, source_,
            ": __metadata__ is not an object");
    for (const auto& [key, text_value] : value.items()) {
      require(text_value.is_string(), ErrorCode::kInvalidInput, source_, ": __metadata__ \"", key,
              "\" is not a string");
      metadata_[key] = text_value.get<std::string>();
    }
  }
  std::sort(entries.begin(), entries.end(), [](const Entry& a, const Entry& b) {
    return std::tie(a.begin, a.end, a.name) < std::tie(b.begin, b.end, b.name);
  });
  std::uint64_t expected = 0;
  for (const Entry& e : entries) {
    require(e.begin == expected, ErrorCode::kInvalidInput, source_, ": tensor \"", e.name,
            "\" starts at ", e.begin, ", expected ", expected,
            " (holes and overlaps are not allowed)");
    require(e.end <= data_size, ErrorCode::kInvalidInput, source_, ": tensor \"", e.name,
            "\" ends at ", e.end, ", the file holds ", data_size, " bytes of data; truncated?");
    tensors_.emplace(e.name, TensorView(data + e.begin, e.dtype, e.shape));
    expected = e.end;
  }
  require(expected == data_size, ErrorCode::kInvalidInput, source_, ": ", data_size - expected,
          " bytes after the last tensor");
}

const TensorView& SafetensorsFile::at(const std::string& name) const {
  const auto it = tensors_.find(name);
  require(it != tensors_.end(), ErrorCode::kInvalidInput, source_, ": tensor \"", name,
          "\" is missing");
  return it->second;
}

void SafetensorsFile::drop_pages() const {
  if (file_) file_->drop_pages();
}

void write_safetensors(const std::filesystem::path& path,
                       const std::map<std::string, TensorView>& tensors,
                       const std::map<std::string, std::string>& metadata) {
  std::map<std::string, TensorSource> sources;
  for (const auto& [name, view] : tensors) sources.emplace(name, TensorSource{view});
  write_safetensors(path, sources, metadata);
}

void write_safetensors(const std::filesystem::path& path,
                       const std::map<std::string, TensorSource>& tensors,
                       const std::map<std::string, std::string>& metadata) {
  std::vector<const std::pair<const std::string, TensorSource>*> order;
  for (const auto& item : tensors) order.push_back(&item);
  std::stable_sort(order.begin(), order.end(), [](const auto* a, const auto* b) {
    return dtype_size(a->second.view.dtype()) > dtype_size(b->second.view.dtype());
  });
  nlohmann::ordered_json header;
  if (!metadata.empty()) header["__metadata__"] = metadata;
  std::uint64_t offset = 0;
  for (const auto* item : order) {
    const TensorView& view = item->second.view;
    const std::uint64_t end = offset + view.num_bytes();
    header[item->first] = {{"dtype", dtype_name(view.dtype())},
                           {"shape", view.shape().dims()},
                           {"data_offsets", {offset, end}}};
    offset = end;
  }
  std::string text = header.empty() ? "{}" : header.dump();
  text.append((8 - text.size() % 8) % 8, ' ');
  const std::uint64_t size = text.size();
  OutputFile out(path);
  out.write(&size, 8);
  out.write(text.data(), text.size());
  for (const auto* item : order) {
    const TensorSource& source = item->second;
    const Tensor made = source.make ? source.make() : Tensor();
    require(!source.make ||
                (made.dtype() == source.view.dtype() && made.shape() == source.view.shape()),
            ErrorCode::kVerification, path.string(), ": tensor \"", item->first,
            "\" is not what the header says; please report it");
    out.write(source.make ? made.view().raw() : source.view.raw(), source.view.num_bytes());
  }
  out.commit();
}

namespace {

template <typename T, typename F>
void convert(const TensorView& view, std::span<float> out, F f) {
  const unsigned char* src = static_cast<const unsigned char*>(view.raw());
  for (std::size_t i = 0; i < out.size(); ++i) {  // memcpy: data may be unaligned
    T value;
    std::memcpy(&value, src + i * sizeof(T), sizeof(T));
    out[i] = f(value);
  }
}

}  // namespace

Tensor to_f32(const TensorView& view, const std::string& name, bool allow_nonfinite) {
  Tensor out = Tensor::f32(view.shape());
  const std::span<float> dst = out.f32();
  const auto cast = [](auto v) { return static_cast<float>(v); };
  switch (view.dtype()) {
    case DType::kF32:
      if (!dst.empty()) std::memcpy(dst.data(), view.raw(), dst.size_bytes());
      break;
    case DType::kF64: convert<double>(view, dst, cast); break;
    case DType::kF16: convert<std::uint16_t>(view, dst, f16_to_f32); break;
    case DType::kBF16: convert<std::uint16_t>(view, dst, bf16_to_f32); break;
    case DType::kI64: convert<std::int64_t>(view, dst, cast); break;
    case DType::kI32: convert<std::int32_t>(view, dst, cast); break;
    case DType::kI16: convert<std::int16_t>(view, dst, cast); break;
    case DType::kI8: convert<std::int8_t>(view, dst, cast); break;
    case DType::kU8:
    case DType::kBool: convert<std::uint8_t>(view, dst, cast); break;
  }
  if (!allow_nonfinite)
    for (std::size_t i = 0; i < dst.size(); ++i)
      require(std::isfinite(dst[i]), ErrorCode::kNumeric, "tensor \"", name, "\": element ", i,
              " is NaN or infinite; the checkpoint is damaged");
  return out;
}

std::vector<std::int32_t> to_i32(const TensorView& view, const std::string& name) {
  std::vector<std::int32_t> out(static_cast<std::size_t>(view.numel()));
  const auto read = [&]<typename T>(T) {
    const unsigned char* src = static_cast<const unsigned char*>(view.raw());
    for (std::size_t i = 0; i < out.size(); ++i) {
      T value;
      std::memcpy(&value, src + i * sizeof(T), sizeof(T));
      require(std::in_range<std::int32_t>(value), ErrorCode::kInvalidInput, "tensor \"", name,
              "\": element ", i, " does not fit int32");
      out[i] = static_cast<std::int32_t>(value);
    }
  };
  switch (view.dtype()) {
    case DType::kI64: read(std::int64_t{}); break;
    case DType::kI32: read(std::int32_t{}); break;
    case DType::kI16: read(std::int16_t{}); break;
    case DType::kI8: read(std::int8_t{}); break;
    case DType::kU8:
    case DType::kBool: read(std::uint8_t{}); break;
    default:
      throw Error(ErrorCode::kInvalidInput, str("tensor \"", name, "\": expected integers, found ",
                                                dtype_name(view.dtype())));
  }
  return out;
}

}  // namespace quell
