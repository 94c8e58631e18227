#include "quell/job/model_options.h"

#include <algorithm>

#include "quell/base/error.h"
#include "quell/base/log.h"
#include "quell/compress/pass.h"
#include "quell/graph/image_ops.h"

namespace quell {
namespace {

class NameList {
 public:
  void add_if(bool wanted, const std::string& name) {
    if (wanted) text_ += (text_.empty() ? "" : ", ") + name;
  }
  const std::string& text() const { return text_; }

 private:
  std::string text_;
};

}  // namespace

void refuse_text_options(const Model& model, std::initializer_list<GivenOption> options) {
  if (!model.reads_images()) return;
  NameList given;
  for (const GivenOption& option : options) given.add_if(option.given, option.name);
  require(given.text().empty(), ErrorCode::kUsage, given.text(),
          ": for models that read text, and ", model.dir.string(), " reads images");
}

void warn_of_unused(const Model& model, const Recipe& recipe) {
  if (!is_convolutional(model.graph)) return;
  const bool has_convolutions = model.graph.has(op_conv2d) || model.graph.has(op_conv_transpose2d);
  NameList unused;
  for (const PassParams& params : recipe.passes) {
    const auto pass = make_pass(params, recipe);
    const bool passes_by = pass->stage() == PassStage::kEquivalence && !pass->takes_convolutions();
    unused.add_if(passes_by && has_convolutions, params.name());
  }
  unused.add_if(recipe.quantize_attention, "quantize: attention");
  unused.add_if(recipe.quantize_embeddings, "quantize: embeddings");
  unused.add_if(recipe.quantize_lm_head, "quantize: lm_head");
  unused.add_if(recipe.migrate_attention, "migrate: attention");
  if (!unused.text().empty())
    log(LogLevel::kWarning, str("recipe ", recipe.name, ": without effect on convolutions: ",
                                unused.text(), "; images and images_adaround are made for them"));
}

}  // namespace quell
