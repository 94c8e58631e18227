#include "quell/exporting/float_checkpoint.h"

#include "quell/base/error.h"
#include "quell/exporting/module_names.h"
#include "quell/exporting/own_features.h"
#include "quell/exporting/sentence_modules.h"
#include "quell/exporting/side_files.h"
#include "quell/graph/forms.h"
#include "quell/graph/image_ops.h"
#include "quell/io/json.h"
#include "quell/io/output_file.h"
#include "quell/io/safetensors.h"

namespace quell {

namespace {

void refuse_forms(const Model& model, const OpDef& op, const char* what) {
  const std::vector<ValueId> values = bases_with(model.graph, op);
  if (values.empty()) return;
  throw Error(ErrorCode::kUnsupported, str(plain_checkpoint(model), " cannot hold ", what, " (",
                                           model.graph.producer_of(values.front()).label,
                                           "); write --format compressed-tensors instead"));
}

}  // namespace

std::string plain_checkpoint(const Model& model) {
  return is_known_to_others(model) ? str("a plain ", model.spec.model_type, " checkpoint")
                                   : std::string("a plain checkpoint of this network");
}

ExportSummary export_float_checkpoint(const Model& model, const std::filesystem::path& out,
                                      bool replace) {
  refuse_forms(model, op_restore, "a residual branch that would have to undo the migration");
  refuse_forms(model, op_affine, "a scale and shift that no weight can hold");
  for (const NodeId n : model.graph.order())
    require(!model.graph.node(n).is(op_clamp), ErrorCode::kUnsupported, plain_checkpoint(model),
            " cannot hold a bound for each channel (", model.graph.node(n).label,
            "); write --format compressed-tensors instead");
  require(!model.bias_corrected, ErrorCode::kUnsupported,
          "a float checkpoint with corrected biases would not compute what the "
          "original does; leave bias_correction out, or write --format compressed-tensors");
  const ModuleNames names(model);
  const Checkpoint source = original_of(model);
  TensorSet tensors;
  for (const Param& p : model.params) {
    require(p.added_rows + p.added_columns == 0, ErrorCode::kUnsupported, plain_checkpoint(model),
            " cannot hold the channels that were added to ", p.module,
            "; use split: 0, or write --format compressed-tensors");
    require(!p.added_bias && !p.added_weight, ErrorCode::kUnsupported, plain_checkpoint(model),
            " has no place for the bias that the shift added to ", p.module,
            "; use shift: never, or write --format compressed-tensors");
    if (p.packing.part > 0) continue;
    const Parts parts = parts_of(model, p);
    if (p.tied_to < 0 && p.weight.defined())
      add_weight(parts, names.of_class(p.weight_name), kind_of(model, p), DType::kF32, tensors);
    if (p.bias.defined()) tensors.add(names.of_class(p.bias_name), stored_bias(parts, source));
    for (std::size_t i = 0; i < p.vectors.size(); ++i)
      tensors.add(names.of_class(p.vector_names[i]), p.vectors[i]);
  }
  Json config = *model.config;
  for (const char* key : {"torch_dtype", "dtype"})
    if (config.contains(key)) config[key] = "float32";
  if (const std::vector<std::string> accepted = model.dir.accepted().met(); !accepted.empty())
    config["quell"]["accepted"] = accepted;
  OutputDirectory directory(out, replace);
  const ExportSummary summary{
      tensors.bytes(),
      {},
      copy_side_files(model.dir.path(), directory.staging(), sentence_modules_of(model))};
  copy_sentence_modules(model, directory.staging());
  write_text_file(directory.staging() / "config.json", config.dump(2) + "\n");
  write_safetensors(directory.staging() / "model.safetensors", tensors.sources(),
                    {{"format", "pt"}});
  directory.commit();
  return summary;
}

}  // namespace quell
