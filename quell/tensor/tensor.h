// Row-major tensors: `Tensor` owns its elements, `TensorView` and `TensorSpan` borrow them. No
// arithmetic here.
#pragma once

#include <cassert>
#include <cstring>
#include <memory>
#include <span>
#include <type_traits>

#include "quell/base/aligned_buffer.h"
#include "quell/tensor/dtype.h"
#include "quell/tensor/shape.h"

namespace quell {

template <typename T>
constexpr DType dtype_of() {
  using U = std::remove_cv_t<T>;
  if constexpr (std::is_same_v<U, double>) return DType::kF64;
  if constexpr (std::is_same_v<U, float>) return DType::kF32;
  if constexpr (std::is_same_v<U, std::int64_t>) return DType::kI64;
  if constexpr (std::is_same_v<U, std::int32_t>) return DType::kI32;
  if constexpr (std::is_same_v<U, std::int16_t>) return DType::kI16;
  if constexpr (std::is_same_v<U, std::int8_t>) return DType::kI8;
  if constexpr (std::is_same_v<U, std::uint8_t>) return DType::kU8;
}

/// Borrowed read access. Valid while the owner lives and does not reallocate.
class TensorView {
 public:
  TensorView() = default;
  TensorView(const void* data, DType dtype, Shape shape)
      : data_(data), dtype_(dtype), shape_(std::move(shape)) {}

  DType dtype() const { return dtype_; }
  const Shape& shape() const { return shape_; }
  std::int64_t numel() const { return shape_.numel(); }
  std::int64_t rows() const { return shape_.rows(); }
  std::int64_t cols() const { return shape_.rank() ? shape_[-1] : 1; }
  std::size_t num_bytes() const { return static_cast<std::size_t>(numel()) * dtype_size(dtype_); }
  const void* raw() const { return data_; }

  template <typename T>
  std::span<const T> as() const {
    assert(dtype_of<T>() == dtype_);
    return {static_cast<const T*>(data_), static_cast<std::size_t>(numel())};
  }
  std::span<const float> f32() const { return as<float>(); }
  const float* row(std::int64_t i) const { return static_cast<const float*>(data_) + i * cols(); }

 private:
  const void* data_ = nullptr;
  DType dtype_ = DType::kF32;
  Shape shape_{0};
};

/// Borrowed write access, same lifetime rule.
class TensorSpan {
 public:
  TensorSpan(void* data, DType dtype, Shape shape)
      : data_(data), dtype_(dtype), shape_(std::move(shape)) {}

  DType dtype() const { return dtype_; }
  const Shape& shape() const { return shape_; }
  std::int64_t numel() const { return shape_.numel(); }
  std::int64_t rows() const { return shape_.rows(); }
  std::int64_t cols() const { return shape_.rank() ? shape_[-1] : 1; }

  template <typename T>
  std::span<T> as() const {
    assert(dtype_of<T>() == dtype_);
    return {static_cast<T*>(data_), static_cast<std::size_t>(numel())};
  }
  std::span<float> f32() const { return as<float>(); }
  float* row(std::int64_t i) const { return static_cast<float*>(data_) + i * cols(); }
  operator TensorView() const { return {data_, dtype_, shape_}; }

 private:
  void* data_;
  DType dtype_;
  Shape shape_;
};

/// Owns its elements (zero-filled). Movable; copies are spelled `clone()`.
class Tensor {
 public:
  Tensor() = default;
  Tensor(DType dtype, Shape shape)
      : buffer_(static_cast<std::size_t>(shape.numel()) * dtype_size(dtype)),
        dtype_(dtype),
        shape_(std::move(shape)) {}

  static Tensor f32(Shape shape) { return {DType::kF32, std::move(shape)}; }
  /// Elements hold anything: for what is written in whole before it is read.
  static Tensor uninitialized(DType dtype, Shape shape) {
    Tensor t;
    t.buffer_ =
        AlignedBuffer(static_cast<std::size_t>(shape.numel()) * dtype_size(dtype), Fill::kNone);
    t.dtype_ = dtype;
    t.shape_ = std::move(shape);
    return t;
  }
  template <typename T>
  static Tensor from(std::span<const T> values, Shape shape) {
    Tensor t(dtype_of<T>(), std::move(shape));
    assert(static_cast<std::int64_t>(values.size()) == t.numel());
    if (!values.empty()) std::memcpy(t.buffer_.data(), values.data(), values.size_bytes());
    return t;
  }
  static Tensor copy_of(const TensorView& v) {
    Tensor t(v.dtype(), v.shape());
    if (v.num_bytes()) std::memcpy(t.buffer_.data(), v.raw(), v.num_bytes());
    return t;
  }
  Tensor clone() const { return copy_of(view()); }
  /// A copy that lies in `scratch`, out of memory until it is read. Throws Error(kIo) where the
  /// disk has no room.
  static Tensor spilled(const TensorView& v, const std::shared_ptr<ScratchFile>& scratch) {
    Tensor t;
    t.buffer_ = AlignedBuffer::in(scratch, v.num_bytes());
    t.dtype_ = v.dtype();
    t.shape_ = v.shape();
    if (v.num_bytes()) std::memcpy(t.buffer_.data(), v.raw(), v.num_bytes());
    t.drop_pages();
    return t;
  }
  bool in_scratch() const { return buffer_.in_scratch(); }
  /// Moves to `scratch`, or where it lies there already out of memory until it is read again.
  void spill(const std::shared_ptr<ScratchFile>& scratch) {
    if (in_scratch())
      drop_pages();
    else if (defined())
      *this = spilled(view(), scratch);
  }
  /// Of a tensor in scratch: out of memory until it is read again.
  void drop_pages() const { buffer_.drop_pages(); }

  /// False for a default-constructed tensor: "not there".
  bool defined() const { return defined_shape(); }
  DType dtype() const { return dtype_; }
  const Shape& shape() const { return shape_; }
  std::int64_t numel() const { return shape_.numel(); }
  std::int64_t rows() const { return shape_.rows(); }
  std::int64_t cols() const { return shape_.rank() ? shape_[-1] : 1; }

  template <typename T>
  std::span<T> as() {
    assert(dtype_of<T>() == dtype_);
    return {reinterpret_cast<T*>(buffer_.data()), static_cast<std::size_t>(numel())};
  }
  template <typename T>
  std::span<const T> as() const {
    assert(dtype_of<T>() == dtype_);
    return {reinterpret_cast<const T*>(buffer_.data()), static_cast<std::size_t>(numel())};
  }
  std::span<float> f32() { return as<float>(); }
  std::span<const float> f32() const { return as<float>(); }
  float* row(std::int64_t i) { return reinterpret_cast<float*>(buffer_.data()) + i * cols(); }
  const float* row(std::int64_t i) const {
    return reinterpret_cast<const float*>(buffer_.data()) + i * cols();
  }

  TensorView view() const { return {buffer_.data(), dtype_, shape_}; }
  TensorSpan span() { return {buffer_.data(), dtype_, shape_}; }
  operator TensorView() const { return view(); }

  /// Same elements under another shape of equal size.
  void reshape(Shape shape) {
    assert(shape.numel() == numel());
    shape_ = std::move(shape);
  }

 private:
  bool defined_shape() const { return buffer_.size() > 0 || shape_.rank() != 1 || shape_[0] != 0; }

  AlignedBuffer buffer_;
  DType dtype_ = DType::kF32;
  Shape shape_{0};
};

}  // namespace quell
