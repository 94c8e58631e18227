// Students with fewer layers than their teacher, which start from some of its layers.
#pragma once

#include <string>

#include "quell/model/model.h"

namespace quell::train {

/// A model of the teacher's family with `layers` layers in each stack: those that `layer_map` names
/// (make_layer_map). What lies outside layers is the teacher's; its config says the new number.
/// Throws Error(kInvalidInput) where the number or the map does not fit, Error(kUnsupported) where
/// the teacher is quantized, its layers share weights, or no key of its config counts them.
Model make_shallow_student(const Model& teacher, int layers, const std::string& layer_map);

}  // namespace quell::train
