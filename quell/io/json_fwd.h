// The name of JSON values without their definition, for headers: json.hpp is the largest header
// that we read, and most units that see a Json only pass it on.
#pragma once

#include <memory>
#include <nlohmann/json_fwd.hpp>

namespace quell {

using Json = nlohmann::json;

/// A Json as a member of a class in a header that knows only its name. Copies like the value.
class JsonBox {
 public:
  JsonBox();                   ///< null
  JsonBox(const Json& value);  // NOLINT: a value, kept elsewhere
  JsonBox(Json&& value);       // NOLINT
  JsonBox(const JsonBox& other);
  JsonBox(JsonBox&& other) noexcept;
  JsonBox& operator=(JsonBox other) noexcept;
  ~JsonBox();

  Json& operator*() { return *value_; }
  const Json& operator*() const { return *value_; }
  Json* operator->() { return value_.get(); }
  const Json* operator->() const { return value_.get(); }

 private:
  std::unique_ptr<Json> value_;  ///< null only after it was moved from
};

}  // namespace quell
