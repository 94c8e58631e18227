// Names of modules as the library's class that config.json names calls them.
#pragma once

#include <string>
#include <vector>

#include "quell/model/model.h"

namespace quell {

/// Of a model of one class. A bare encoder or decoder ("BertModel") has the names without the
/// prefix under which classes with a head hold it ("bert.").
class ModuleNames {
 public:
  explicit ModuleNames(const Model& model);
  /// `name` of a module or tensor as the class calls it.
  std::string of_class(const std::string& name) const;
  /// The same module under both kinds of classes, that of config.json first: readers may load the
  /// model as another class.
  std::vector<std::string> everywhere(const std::string& module) const;

 private:
  std::string prefix_;
  bool bare_ = false;
};

/// Linears that some of the library's classes of a family have and that no file need hold: the
/// pooler of an encoder that was trained without, the second head of pretraining.
std::vector<std::string> linears_of_other_classes(const std::string& model_type);

/// Linears that stay float, for `ignore`, by all names: whatever reads the file must not look for
/// their codes.
std::vector<std::string> ignored_modules(const Model& model);

}  // namespace quell
