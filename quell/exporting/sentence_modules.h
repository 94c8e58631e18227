// The modules of a sentence model travel with it.
#pragma once

#include <filesystem>

#include "quell/model/model.h"

namespace quell {

/// Copies the files of the modules behind the encoder to `to`, where the encoder itself lies at the
/// top: modules.json then says so. Throws Error(kIo).
void copy_sentence_modules(const Model& model, const std::filesystem::path& to);

}  // namespace quell
