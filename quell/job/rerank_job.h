// `quell rerank`: texts in the order of how well they answer a query.
#pragma once

#include <optional>

#include "quell/job/text_job.h"

namespace quell {

struct RerankJob {
  TextJob text;  ///< the documents
  std::string query;
  std::int64_t top_k = 0;  ///< documents to print; 0: all
  /// In front of the query and of every document; not set: as sentence-transformers chooses among
  /// the model's own.
  std::optional<std::string> query_prompt, document_prompt;
};

struct RankedText {
  std::size_t index;  ///< in the input, from 0
  float score;
  std::string text;
};

/// Best first; equal scores in the order of the input. Cross encoders (sequence classification with
/// one label) score query and document together, behind the activation that sentence-transformers'
/// CrossEncoder uses; other models compare the embeddings of both.
std::vector<RankedText> rerank(const RerankJob& job, std::istream& in, ExecContext& ctx);

/// {"index", "score", "text"} a line.
void run_rerank_job(const RerankJob& job, std::istream& in, std::ostream& out, ExecContext& ctx);

}  // namespace quell
