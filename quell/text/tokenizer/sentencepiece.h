// SentencePiece models (Kudo and Richardson 2018): a protobuf ModelProto, of which a few fields
// matter.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "quell/io/json_fwd.h"

namespace quell {

struct SentencePieceModel {
  enum PieceType {
    kNormal = 1,
    kUnknown = 2,
    kControl = 3,
    kUserDefined = 4,
    kUnused = 5,
    kByte = 6
  };
  struct Piece {
    std::string text;
    double score = 0;
    int type = kNormal;
  };

  std::vector<Piece> pieces;
  bool unigram = true, byte_fallback = false;
  std::int32_t unk_id = 0, bos_id = 1, eos_id = 2;  ///< -1 where there is none
  std::string unk_piece = "<unk>", bos_piece = "<s>", eos_piece = "</s>";

  bool add_dummy_prefix = true, remove_extra_whitespaces = true, escape_whitespaces = true;
  std::string charsmap;  ///< SentencePiece's rules of normalization, compiled; may be empty
  std::string charsmap_base64() const;
};

/// Throws Error(kInvalidInput | kUnsupported).
SentencePieceModel read_sentencepiece(std::string_view bytes);

/// Merges of a BPE whose vocabulary (token -> id) is ordered by rank, as transformers finds them:
/// by the id of what is merged.
Json merges_by_id(const Json& vocab);
/// Merges of the normal pieces by score, as SentencePiece itself merges. `names`: what each piece
/// is called now.
Json merges_by_score(const SentencePieceModel& model, const std::vector<std::string>& names);

}  // namespace quell
