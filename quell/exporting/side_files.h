// The files that travel with a model beside config.json and its weights: tokenizer, chat templates,
// generation settings, the modules of a sentence model, licence and model card.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "quell/model/model.h"

namespace quell {

/// What sentence-transformers reads besides: modules.json, the folders it names and its settings.
enum class SentenceModules { kTravel, kStay };
/// They stay where the model that is written makes no sentence embeddings (its head was trained).
SentenceModules sentence_modules_of(const Model& model);

/// Copies them from the model directory `from` to `to`. Of folders: additional_chat_templates, and
/// whole those that modules.json names. Weights of the old model stay behind, so do folders that
/// belong to no module, hidden files, pickles, and code that no auto_map names. Links to files are
/// followed, links to directories where those lie inside `from`. Returns what stayed behind and a
/// user may miss, with the reason, for a message. Throws Error(kIo).
std::vector<std::string> copy_side_files(const std::filesystem::path& from,
                                         const std::filesystem::path& to,
                                         SentenceModules modules = SentenceModules::kTravel);

}  // namespace quell
