// `quell embed`: sentence embeddings of texts.
#pragma once

#include <optional>

#include "quell/job/text_job.h"

namespace quell {

enum class EmbeddingFormat { kJsonl, kNpy, kSafetensors };
/// By the file's ending; none: kJsonl for standard output. Throws Error(kUsage) for another ending.
EmbeddingFormat embedding_format(const std::filesystem::path& file, const std::string& chosen);

struct EmbedJob {
  TextJob text;
  std::optional<std::string> prompt;       ///< in front of every text
  std::optional<std::string> prompt_name;  ///< one of the model's; neither: its default prompt
  bool normalize = false;                  ///< each embedding gets length 1, at the very end
  std::int64_t truncate_dim = 0;           ///< dimensions kept; 0: as the model's files say
  std::filesystem::path output;            ///< "" or "-": standard output
  EmbeddingFormat format = EmbeddingFormat::kJsonl;
};

/// One embedding a text, in order.
void run_embed_job(const EmbedJob& job, std::istream& in, std::ostream& out, ExecContext& ctx);

/// Gives a model without modules.json the pipeline that sentence-transformers would give it, and
/// says so. Throws Error(kUsage | kUnsupported) where there is none.
void require_sentence_pipeline(Model& model);
/// The text of a prompt by its name. Throws Error(kUsage) with the names there are.
std::string prompt_by_name(const Model& model, const std::string& name);

}  // namespace quell
