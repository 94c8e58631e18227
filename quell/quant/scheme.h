// The text form of a scheme: bits of weights, of activations and of the tables of embeddings.
#pragma once

#include <optional>
#include <string>

namespace quell {

/// How a scheme holds one kind of numbers.
struct SchemeBits {
  int bits = 8;             ///< of a code: 2 to 8; 16 and 32 are floats
  bool is_ternary = false;  ///< "1.58": three values, in codes of two bits

  bool is_float() const { return bits > 8; }
  std::string text() const;
  bool operator==(const SchemeBits&) const = default;
};

struct Scheme {
  SchemeBits weights;
  SchemeBits activations;
  std::optional<SchemeBits> embeddings;  ///< as weights where nothing is said

  const SchemeBits& of_embeddings() const { return embeddings ? *embeddings : weights; }
  /// As parse_scheme reads it.
  std::string text() const;
  bool operator==(const Scheme&) const = default;
};

/// "W8A8", "W1.58A8", "W2A8 E8": bits are 2 to 8, 1.58 (ternary; not of activations), or 32 for
/// floats (16 too, of activations). Letters may be small. Throws Error(kUsage) naming --scheme.
Scheme parse_scheme(const std::string& text);

}  // namespace quell
