// A hash table of 64-bit keys for read-mostly look-ups in inner loops: open addressing, no erasing.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace quell {

template <typename Value>
class FlatMap {
 public:
  FlatMap() : slots_(64) {}

  /// Null where the key is not there.
  const Value* find(std::uint64_t key) const {
    for (std::size_t i = hash(key);; ++i) {
      const Slot& slot = slots_[i & (slots_.size() - 1)];
      if (slot.key == key) return &slot.value;
      if (slot.key == kFree) return nullptr;
    }
  }
  void insert_or_assign(std::uint64_t key, const Value& value) {
    if (2 * (used_ + 1) > slots_.size()) grow();
    place({key, value});
  }

 private:
  static constexpr std::uint64_t kFree =
      ~std::uint64_t{0};  // two ids or an id and a character never make it
  struct Slot {
    std::uint64_t key = kFree;
    Value value{};
  };
  static std::size_t hash(std::uint64_t key) {
    key *= 0x9E3779B97F4A7C15U;
    return static_cast<std::size_t>(key ^ key >> 29);
  }
  void place(const Slot& slot) {
    std::size_t i = hash(slot.key) & (slots_.size() - 1);
    while (slots_[i].key != kFree && slots_[i].key != slot.key) i = (i + 1) & (slots_.size() - 1);
    used_ += slots_[i].key == kFree ? 1 : 0;
    slots_[i] = slot;
  }
  void grow() {
    std::vector<Slot> old(2 * slots_.size());
    old.swap(slots_);
    used_ = 0;
    for (const Slot& slot : old)
      if (slot.key != kFree) place(slot);
  }

  std::vector<Slot> slots_;  ///< size a power of two, at most half full
  std::size_t used_ = 0;
};

}  // namespace quell
