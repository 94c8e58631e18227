// What an op is told beside its operands: one value of a type that the op itself defines.
#pragma once

#include <memory>
#include <typeinfo>
#include <utility>

namespace quell {

/// Holds an immutable value of any type; copies share it. Empty: the op takes none.
class Attributes {
 public:
  Attributes() = default;
  template <typename T>
  static Attributes of(T value) {
    Attributes made;
    made.held_ = std::make_shared<const Held<T>>(std::move(value));
    return made;
  }

  bool empty() const { return held_ == nullptr; }
  /// The value, which must be a T: a broken invariant of the graph otherwise (std::bad_cast).
  template <typename T>
  const T& get() const {
    return dynamic_cast<const Held<T>&>(*held_).value;
  }
  template <typename T>
  bool holds() const {
    return dynamic_cast<const Held<T>*>(held_.get()) != nullptr;
  }

 private:
  struct HeldBase {
    virtual ~HeldBase() = default;
  };
  template <typename T>
  struct Held final : HeldBase {
    explicit Held(T v) : value(std::move(v)) {}
    T value;
  };
  std::shared_ptr<const HeldBase> held_;
};

}  // namespace quell
