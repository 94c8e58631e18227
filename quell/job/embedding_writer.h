// Embeddings to files that others read.
#pragma once

#include <memory>
#include <span>

#include "quell/job/embed_job.h"

namespace quell {

class EmbeddingWriter {
 public:
  virtual ~EmbeddingWriter() = default;
  virtual void add(std::span<const float> embedding) = 0;
  /// The output is complete only now.
  virtual void finish() = 0;
};

/// JSONL ({"embedding": [...]} a line) is written as it comes; .npy ([N, D] float32) and
/// safetensors (the tensor "embeddings") wait in a temporary file, because their beginning says how
/// many there are. Throws Error(kIo).
std::unique_ptr<EmbeddingWriter> make_embedding_writer(EmbeddingFormat format,
                                                       std::int64_t dimension,
                                                       const std::filesystem::path& file,
                                                       std::ostream& standard_output);

}  // namespace quell
