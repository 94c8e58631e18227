// Keys and values of tokens that a decoder has seen, for several sequences at once.
#pragma once

#include <map>
#include <vector>

#include "quell/graph/attention_run.h"
#include "quell/model/model.h"

namespace quell {

/// How the cache holds its numbers: f32, or codes of 8 bits with a step and zero point for each
/// token and head (static ones where the model quantizes keys and values, so that nothing is lost;
/// else per token).
enum class KvFormat { kF32, kInt8 };

/// Slots of `capacity` tokens each. A slot belongs to one sequence from `clear` on. Not
/// thread-safe; one forward pass at a time.
class KvCache {
 public:
  /// Throws Error(kUnsupported) where the model's attention cannot be continued token by token
  /// (encoders, relative positions).
  KvCache(const Model& model, std::int64_t slots, std::int64_t capacity, KvFormat format);

  std::int64_t capacity() const { return capacity_; }
  std::int64_t length(std::int64_t slot) const { return lengths_[static_cast<std::size_t>(slot)]; }
  std::size_t bytes() const;
  void clear(std::int64_t slot) { lengths_[static_cast<std::size_t>(slot)] = 0; }
  /// After all nodes of a forward pass have written.
  void advance(std::int64_t slot, std::int64_t tokens) {
    lengths_[static_cast<std::size_t>(slot)] += tokens;
  }

  /// Rows [row, row + count) of k and v, as they go into the products, become tokens length(slot)..
  /// of the slot. `quant`: static quantizers, or null.
  void write(int node, std::int64_t slot, const TensorView& k, const TensorView& v,
             std::int64_t row, std::int64_t count, const AttentionQuant* quant, ExecContext& ctx);
  /// Attention of the rows [row, row + count) of the prepared query, the tokens just written, to
  /// everything in the slot, which takes the place of the other operands. out: as the query.
  void attend(int node, std::int64_t slot, const AttentionCall& call, const AttentionRun& run,
              const AttentionOperands& operands, std::int64_t row, std::int64_t count,
              TensorSpan out, ExecContext& ctx) const;

 private:
  /// One attention node: for each slot and head [capacity * head_dim] keys and values.
  struct Layer {
    std::int64_t num_kv_heads = 0, head_dim = 0;
    AlignedBuffer keys, values;
    std::vector<float> key_scale, key_zero, value_scale,
        value_zero;  ///< [slots * heads * capacity], of codes
  };
  std::int64_t head_at(const Layer& layer, std::int64_t slot, std::int64_t head) const {
    return (slot * layer.num_kv_heads + head) * capacity_;
  }

  KvFormat format_;
  std::int64_t slots_, capacity_;
  std::map<int, Layer> layers_;  ///< by node
  std::vector<std::int64_t> lengths_;
};

/// A forward pass that continues sequences: `slots` by sequence of the batch.
struct CachedPass {
  KvCache* cache = nullptr;
  std::vector<std::int64_t> slots;
};

/// Whether a model's sequences can be continued token by token.
bool supports_kv_cache(const Model& model);

}  // namespace quell
