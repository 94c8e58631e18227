#include "quell/quant/scheme.h"

#include <regex>

#include "quell/base/error.h"

namespace quell {
namespace {

constexpr const char* kTernaryText = "1.58";
constexpr std::size_t kLongestText = 24;  // of what a regular expression is tried on

SchemeBits read_bits(const std::string& text) {
  if (text == kTernaryText) return {.bits = 2, .is_ternary = true};
  return {.bits = std::stoi(text)};
}

}  // namespace

std::string SchemeBits::text() const { return is_ternary ? kTernaryText : std::to_string(bits); }

std::string Scheme::text() const {
  const std::string both = "W" + weights.text() + "A" + activations.text();
  return embeddings ? both + " E" + embeddings->text() : both;
}

Scheme parse_scheme(const std::string& text) {
  static const std::regex kForm(
      "[wW](1\\.58|[2-8]|32)[aA]([2-8]|16|32)(?: ?[eE](1\\.58|[2-8]|32))?");
  std::smatch found;
  require(text.size() < kLongestText && std::regex_match(text, found, kForm), ErrorCode::kUsage,
          "--scheme ", text,
          ": expected W<bits>A<bits>, and E<bits> of embeddings if wanted, as in W8A8, W1.58A8 or "
          "\"W2A8 E8\"; bits are 2 to 8, 1.58 for three values, or 32 for floats");

  Scheme scheme{
      .weights = read_bits(found[1]), .activations = read_bits(found[2]), .embeddings = {}};
  if (found[3].matched) scheme.embeddings = read_bits(found[3]);
  return scheme;
}

}  // namespace quell
