// Batch norms folded into the convolutions in front of them: a rewrite for lowering and export. The
// loader keeps both apart, for those who want statistics or train.
#pragma once

#include <string>
#include <vector>

#include "quell/model/model.h"

namespace quell {

/// Takes each batch norm out that alone reads a convolution (or linear) with a float weight of its
/// own, whose rows and bias then do what it did; readers of the batch norm read the convolution.
/// Returns the labels of these convolutions. Batch norms elsewhere stay.
std::vector<std::string> fold_batch_norms(Model& model);

/// Takes the batch norms of these modules out of the graph of a model that is about to be read, and
/// whose convolutions hold them already. Throws Error(kInvalidInput) with a module that is none.
void leave_out_batch_norms(Graph& graph, const std::vector<std::string>& modules);

}  // namespace quell
