#include "quell/job/embedding_writer.h"

#include <bit>
#include <cstdio>
#include <cstring>

#include "quell/base/error.h"
#include "quell/io/json.h"

namespace quell {
namespace {

static_assert(std::endian::native == std::endian::little,
              "both formats hold little-endian numbers");

class JsonlWriter final : public EmbeddingWriter {
 public:
  JsonlWriter(const std::filesystem::path& file, std::ostream& out) : stream_(file, out) {}

  void add(std::span<const float> embedding) override {
    line_ = "{\"embedding\": [";
    for (std::size_t i = 0; i < embedding.size(); ++i) {
      if (i > 0) line_ += ", ";
      append_number(line_, embedding[i]);
    }
    line_ += "]}\n";
    stream_.write(line_);
  }
  void finish() override { stream_.commit(); }

 private:
  ResultStream stream_;
  std::string line_;
};

/// A header that says how many rows there are, then the rows.
class MatrixWriter : public EmbeddingWriter {
 public:
  MatrixWriter(std::int64_t columns, const std::filesystem::path& file, std::ostream& out)
      : columns_(columns), stream_(file, out), rows_file_(std::tmpfile(), &std::fclose) {
    require(rows_file_ != nullptr, ErrorCode::kIo,
            "cannot make a temporary file: ", std::strerror(errno));
  }

  void add(std::span<const float> embedding) override {
    const bool ok = std::fwrite(embedding.data(), sizeof(float), embedding.size(),
                                rows_file_.get()) == embedding.size();
    require(ok, ErrorCode::kIo, "cannot write to a temporary file; is the disk full?");
    ++rows_;
  }

  void finish() override {
    stream_.write(header(rows_, columns_));
    const bool rewound =
        std::fflush(rows_file_.get()) == 0 && std::fseek(rows_file_.get(), 0, SEEK_SET) == 0;
    require(rewound, ErrorCode::kIo, "cannot read a temporary file; is the disk full?");

    std::vector<char> part(1 << 16);
    std::int64_t left = rows_ * columns_ * std::int64_t{sizeof(float)};
    while (left > 0) {
      const std::size_t got = std::fread(part.data(), 1, part.size(), rows_file_.get());
      require(got > 0, ErrorCode::kIo, "cannot read a temporary file; is the disk full?");
      stream_.write(part.data(), got);
      left -= static_cast<std::int64_t>(got);
    }
    stream_.commit();
  }

 protected:
  virtual std::string header(std::int64_t rows, std::int64_t columns) const = 0;

 private:
  std::int64_t columns_, rows_ = 0;
  ResultStream stream_;
  std::unique_ptr<std::FILE, int (*)(std::FILE*)> rows_file_;
};

/// NumPy's format, version 1.0: a dictionary, filled up with spaces to a multiple of 64 bytes.
class NpyWriter final : public MatrixWriter {
  using MatrixWriter::MatrixWriter;
  std::string header(std::int64_t rows, std::int64_t columns) const override {
    constexpr std::size_t kPrefix = 10, kMultiple = 64;

    std::string text =
        str("{'descr': '<f4', 'fortran_order': False, 'shape': (", rows, ", ", columns, "), }");
    text.append(kMultiple - (kPrefix + text.size() + 1) % kMultiple, ' ');
    text.push_back('\n');
    std::string out("\x93NUMPY\x01\x00", 8);
    out.push_back(static_cast<char>(text.size() % 256));
    out.push_back(static_cast<char>(text.size() / 256));
    return out + text;
  }
};

class SafetensorsWriter final : public MatrixWriter {
  using MatrixWriter::MatrixWriter;
  std::string header(std::int64_t rows, std::int64_t columns) const override {
    const Json tensor = {
        {"dtype", "F32"}, {"shape", {rows, columns}}, {"data_offsets", {0, rows * columns * 4}}};
    std::string text = Json{{"__metadata__", {{"format", "pt"}}}, {"embeddings", tensor}}.dump();
    while (text.size() % 8 != 0) text.push_back(' ');
    const auto size = static_cast<std::uint64_t>(text.size());
    return std::string(reinterpret_cast<const char*>(&size), sizeof size) + text;
  }
};

}  // namespace

EmbeddingFormat embedding_format(const std::filesystem::path& file, const std::string& chosen) {
  const bool to_standard_output = file.empty() || file == "-";
  const std::string name = !chosen.empty()      ? "." + chosen
                           : to_standard_output ? ".jsonl"
                                                : file.extension().string();
  if (name == ".jsonl") return EmbeddingFormat::kJsonl;
  if (name == ".npy") return EmbeddingFormat::kNpy;
  if (name == ".safetensors") return EmbeddingFormat::kSafetensors;
  throw Error(ErrorCode::kUsage,
              "--output " + file.string() +
                  ": ends in none of .jsonl, .npy and .safetensors; choose with --format");
}

std::unique_ptr<EmbeddingWriter> make_embedding_writer(EmbeddingFormat format,
                                                       std::int64_t dimension,
                                                       const std::filesystem::path& file,
                                                       std::ostream& standard_output) {
  switch (format) {
    case EmbeddingFormat::kJsonl: return std::make_unique<JsonlWriter>(file, standard_output);
    case EmbeddingFormat::kNpy:
      return std::make_unique<NpyWriter>(dimension, file, standard_output);
    case EmbeddingFormat::kSafetensors:
      return std::make_unique<SafetensorsWriter>(dimension, file, standard_output);
  }
  return nullptr;
}

}  // namespace quell
