#include "quell/compress/compress.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <map>
#include <set>

#include "quell/base/error.h"
#include "quell/base/log.h"
#include "quell/compress/apply.h"
#include "quell/compress/calibration.h"
#include "quell/compress/channel_split.h"
#include "quell/compress/channel_stats.h"
#include "quell/compress/ignored.h"
#include "quell/compress/output_means.h"
#include "quell/compress/pass.h"
#include "quell/engine/lowered_op.h"
#include "quell/graph/forms.h"
#include "quell/io/json.h"
#include "quell/model/fold_batch_norm.h"
#include "quell/model/quantized_checkpoint.h"
#include "quell/quant/observers/observer.h"
#include "quell/quant/quantize.h"

namespace quell {
namespace {

constexpr double kSiteTolerance = 1e-4;    // relative to the largest output of the linear
constexpr double kOutputTolerance = 1e-3;  // of the whole model: differences of all sites add up

/// What is compared has to be finite: std::max passes over NaN, and two infinities differ by one.
bool is_finite(const Tensor& t) {
  return std::all_of(t.f32().begin(), t.f32().end(), [](float v) { return std::isfinite(v); });
}

double largest(const Tensor& t) {
  double m = 0;
  for (const float v : t.f32()) m = std::max(m, std::fabs(static_cast<double>(v)));
  return m;
}

/// Of finite tensors.
double largest_difference(const Tensor& a, const Tensor& b) {
  double m = 0;
  for (std::size_t i = 0; i < a.f32().size(); ++i)
    m = std::max(m, std::fabs(static_cast<double>(a.f32()[i]) - static_cast<double>(b.f32()[i])));
  return m;
}

class Pipeline {
 public:
  Pipeline(Model& model, const std::vector<TokenBatch>& samples, const Recipe& recipe,
           ExecContext& ctx, const Journal* journal)
      : model_(model), samples_(samples), recipe_(recipe), ctx_(ctx), journal_(journal) {
    resolve_ignored(model, recipe_);
    check_recipe(model, recipe_);
    compared_ = first_sequences(
        samples.front(), std::max<std::int64_t>(1, kComparedTokens / samples.front().length));
    for (auto& pass : make_passes(recipe_)) {
      auto& list = pass->stage() == PassStage::kEquivalence ? equivalence_
                   : pass->stage() == PassStage::kWeights   ? weight_passes_
                                                            : range_passes_;
      change(pass->plan_model(model));
      list.push_back(std::move(pass));
    }
    if (weight_passes_.empty()) weight_passes_.push_back(make_pass(PassParams("rtn", {}), recipe_));
    if (recipe_.quantize_lm_head) untie_head();

    before_ = reference_outputs();
    fold();
    for (const auto& pass : equivalence_) change(pass->plan_equivalences(model));
  }

  void run() {
    model_.residual_after_quant = recipe_.residual_after_quant;
    if (recipe_.quantize_embeddings) quantize_embeddings();
    ops_ = make_float_ops(model_);
    for (const TokenBatch& batch : samples_)
      executors_.push_back(
          std::make_unique<Executor>(model_, ops_, Rounding::kDivide, batch, ctx_));
    run_float_beside();

    std::map<int, const Site*> starts;  // first linear -> site
    const std::vector<Site> sites = derive_sites(model_, scope_of(recipe_));
    int last = 0;
    for (const Site& site : sites) {
      if (all_ignored(site)) continue;
      starts[site.linears.front()] = &site;
      last = std::max(last, site.linears.back());
    }
    std::int64_t done = 0;
    for (int at = 0; at <= model_.graph.position(last); ++at) {
      const NodeId n = model_.graph.order()[static_cast<std::size_t>(at)];
      if (const auto it = starts.find(n); it != starts.end()) {
        process(*it->second, str("site-", done));
        ctx_.progress("quantize", ++done, static_cast<std::int64_t>(starts.size()));
      }
      if (recipe_.quantize_attention && node(n).is(op_attention)) calibrate_attention(n);
      if (is_mean_of_pixels(node(n))) calibrate_mean(n);
      for (const Executors* side : {&executors_, &float_executors_})
        for (const auto& executor : *side) {
          executor->run(n);
          executor->spill();
        }
      if (corrects_means(n))
        add_to_rows(executors_, node(n).out,
                    mean_difference(float_executors_, executors_, node(n).out));
      at = model_.graph.position(n);  // what a site has put in stands in front of it
    }
    executors_.clear();
    float_executors_.clear();
    float_ops_.clear();
    if (!later_.empty()) later_.calibrate(model_, ops_, samples_, ctx_);
    ops_.clear();
    compare_outputs();
    for (std::size_t i = 0; i < range_passes_.size(); ++i) {
      const std::string step = str("ranges-", i);
      Steps steps(journal_, step);
      change(steps.next([&] {
        return range_passes_[i]->plan_ranges(model_, samples_, ctx_, {journal_, step});
      }));
      steps.keep();
    }
  }

 private:
  const Node& node(int n) const { return model_.graph.node(n); }

  /// The float model beside the quantized one, where a pass reads its values.
  void run_float_beside() {
    if (!weight_passes_.front()->reads_float_inputs()) return;
    float_ops_ = make_float_ops(model_);
    for (const TokenBatch& batch : samples_)
      float_executors_.push_back(
          std::make_unique<Executor>(model_, float_ops_, false, batch, ctx_));
  }

  /// Whether outputs get their float means already here, as the bias that is corrected in the end
  /// will give them: what comes behind is then calibrated on what it will see. Not so where ranges
  /// are calibrated after the search, nor what is run ahead for weights that layers share.
  bool corrects_means(NodeId n) const {
    return corrects_means() && takes_bias_correction(model_, n) &&
           model_.param_of(n).quantized.has_value();
  }
  bool corrects_means() const {
    return !float_executors_.empty() &&
           std::any_of(range_passes_.begin(), range_passes_.end(),
                       [](const auto& pass) { return pass->corrects_means(); });
  }

  /// Convolutions take over the batch norms behind them.
  void fold() {
    const std::vector<std::string> folded = fold_batch_norms(model_);
    if (!folded.empty())
      log(LogLevel::kInfo, str(folded.size(), " batch norms folded into convolutions"));
  }

  /// The only way in which the model changes.
  void change(const Plan& plan) {
    quell::apply(plan, model_);
    model_.spill();
  }

  /// A head that is the embedding's matrix becomes a matrix of its own, so that it can have codes
  /// while the table stays float.
  void untie_head() {
    for (ParamId id = 0; id < model_.graph.num_params(); ++id) {
      Param& p = model_.param(id);
      if (p.role != Role::kLmHead || p.tied_to < 0 || is_ignored(recipe_, p.module)) continue;
      p.weight = Tensor::copy_of(model_.weight_of(p));
      p.tied_to = kNoParam;
      model_.graph.untie(id);
      // Of an encoder-decoder model the key says more: where the tables of both sides are, and T5's
      // scale.
      if (!model_.graph.is_encoder_decoder()) (*model_.config)["tie_word_embeddings"] = false;
    }
    model_.spill();
  }

  bool all_ignored(const Site& site) const {
    return std::all_of(site.linears.begin(), site.linears.end(),
                       [&](int n) { return is_ignored(recipe_, model_.param_of(n).module); });
  }

  /// Float outputs of the first sequences or images, where the mask is 1: what migration must not
  /// change. Logits of many tokens would take more memory than the model.
  std::vector<Tensor> reference_outputs() const {
    ForwardOutputs outputs;
    make_float_model(model_)->forward(compared_, outputs, ctx_);
    std::vector<Tensor> out;
    const auto keep = [&](const std::string& name) {
      const auto found = outputs.values.find(name);
      if (found == outputs.values.end()) return;
      Tensor& t = out.emplace_back(std::move(found->second));
      for (std::int64_t i = 0; i < t.rows(); ++i)
        if (!row_counts(t, compared_, i)) std::fill_n(t.row(i), t.cols(), 0.0F);
    };
    keep("logits");
    if (out.empty()) keep("last_hidden_state");
    if (!out.empty()) return out;
    for (const auto& [name, v] : model_.graph.outputs) keep(name);
    return out;
  }

  /// As reference_outputs(): a forward pass refuses what is not finite, but blames the checkpoint.
  std::vector<Tensor> outputs_after_migration() const {
    try {
      return reference_outputs();
    } catch (const Error& e) {
      require(e.code() != ErrorCode::kNumeric, ErrorCode::kVerification,
              "the migrated float model gives NaN or infinity, the original does not; this is a "
              "defect, please report it with the recipe");
      throw;
    }
  }

  void compare_outputs() const {
    const std::vector<Tensor> after = outputs_after_migration();
    for (std::size_t i = 0; i < after.size(); ++i) {
      const double difference = largest_difference(before_[i], after[i]);
      const double size = largest(before_[i]);
      require(difference <= kOutputTolerance * (1 + size), ErrorCode::kVerification,
              "the migrated float model differs from the original by ", difference,
              " at its outputs (largest ", size,
              "); this is a defect, please report it with the recipe");
      log(LogLevel::kInfo,
          str("float outputs after migration differ by at most ", difference, " of ", size));
    }
  }

  void quantize_embeddings() {
    QuantSpec spec = recipe_.weights;
    spec.granularity = Granularity::kPerChannel;
    for (NodeId n = 0; n < model_.graph.num_nodes(); ++n)
      if (model_.graph.node(n).is(op_embedding)) {
        const ParamId table = model_.graph.node(n).param;
        model_.set_table_codes(table, quantize_weight(model_.param(table).weight, spec));
        record_table(spec, model_.param(table).module, *model_.config);
      }
  }

  /// What the site's linears read. Values of later layers (of weights that layers share) come from
  /// running ahead.
  SiteActivations activations(const Site& site, SampleChoice choice) const {
    SiteActivations out;
    out.shared = site.shared();
    out.means_corrected = corrects_means();
    for (std::size_t b = 0; b < executors_.size(); ++b) {
      for (std::size_t v = 0; v < site.values.size(); ++v) {
        const ValueId value = site.values[v].value;
        out.x.push_back(v == 0 ? &executors_[b]->migrated_value(value) : &ahead_[b][v - 1]);
        out.batches.push_back(&executors_[b]->batch_of(value));
        out.values.push_back(value);
        if (!float_executors_.empty())
          out.float_x.push_back(v == 0 ? &float_executors_[b]->migrated_value(value)
                                       : &float_ahead_[b][v - 1]);
        if (site.kind == SiteKind::kAttention)
          if (const ValueId bias = node(site.attention_node).operand(kBiasOperand);
              bias != kNoValue)
            out.position_bias.push_back(&executors_[b]->value(bias));
      }
      if (choice == SampleChoice::kFirstBatch) break;
    }
    return out;
  }

  /// Fills `ahead_` with the values of the site that are not computed yet, as the model is
  /// quantized so far.
  void run_ahead(const Site& site) {
    ahead_.clear();
    float_ahead_.clear();
    if (site.values.size() == 1) return;
    for (const TokenBatch& batch : samples_) {
      ahead_.push_back(values_ahead(site, ops_, Rounding::kDivide, batch));
      if (!float_executors_.empty())
        float_ahead_.push_back(values_ahead(site, float_ops_, false, batch));
    }
  }

  std::vector<Tensor> values_ahead(const Site& site, const OpTable& ops,
                                   const Quantization& quantization, const TokenBatch& batch) {
    Executor executor(model_, ops, quantization, batch, ctx_);
    std::map<ValueId, Tensor> found;  // as linears read it
    for (const ChangedValue& v : site.values) found[migrated(model_.graph, v.value)];
    std::size_t missing = found.size();
    for (const NodeId n : model_.graph.order()) {
      executor.run(n);
      const auto wanted = found.find(node(n).out);
      if (wanted == found.end()) continue;
      wanted->second = executor.value(node(n).out).clone();
      if (--missing == 0) break;
    }

    std::vector<Tensor> out;
    for (std::size_t v = 1; v < site.values.size(); ++v)
      out.push_back(std::move(found.at(migrated(model_.graph, site.values[v].value))));
    return out;
  }

  /// The plans of one step: from the journal, or made and then kept there.
  class Steps {
   public:
    Steps(const Journal* journal, std::string name) : journal_(journal), name_(std::move(name)) {
      if (journal_) plans_ = journal_->read(name_);
      known_ = !plans_.empty();
    }
    /// Valid until the next call.
    template <typename Make>
    const Plan& next(Make make) {
      if (at_ == plans_.size()) plans_.push_back(make());
      return plans_[at_++];
    }
    void keep() const {
      if (journal_ && !known_) journal_->write(name_, plans_);
    }

   private:
    const Journal* journal_;
    std::string name_;
    std::vector<Plan> plans_;
    std::size_t at_ = 0;
    bool known_ = false;
  };

  /// What `make` returns; errors that do not say so name the site.
  template <typename Make>
  static Plan plan_of(const Site& site, Make make) {
    try {
      return make();
    } catch (const Error& e) {
      const std::string message = e.what();
      throw Error(e.code(), message.find(site.name) == std::string::npos
                                ? site.name + ": " + message
                                : message);
    }
  }

  void process(const Site& site, const std::string& step) {
    run_ahead(site);
    Steps steps(journal_, step);
    for (const auto& pass : equivalence_) {
      if (site.has_convolution && !pass->takes_convolutions()) continue;
      apply_equivalence(steps.next([&] {
        return plan_of(site,
                       [&] { return pass->plan(site, activations(site, pass->samples()), ctx_); });
      }),
                        site);
    }
    change(steps.next([&] {
      const Pass& pass = *weight_passes_.front();
      Plan plan =
          plan_of(site, [&] { return pass.plan(site, activations(site, pass.samples()), ctx_); });
      if (quantize_node(model_.graph, site.value()) != kNoNode) {  // a pass has set it
        require(!calibrates_later(), ErrorCode::kUnsupported, "recipe ", recipe_.name,
                ": calibrate: after_search has no effect on ", site.name,
                ", whose range a pass chooses; leave it out");
        return plan;
      }
      for (PlanItem& item : site.set_input_quant({recipe_.activations, calibrate(site)}))
        plan.push_back(std::move(item));
      return plan;
    }));
    steps.keep();
    if (calibrates_later()) later_.add(site, observer_for_later(site));
    for (const int linear : site.linears) {
      rebuild_ops(linear);
      model_.drop_pages(linear);
    }
    ahead_.clear();
    float_ahead_.clear();
  }

  /// Repeats the columns of a value that is there.
  static void widen(Executor& executor, ValueId v, const ColumnSources& sources) {
    if (executor.value(v).numel() > 0) executor.set(v, repeat_columns(executor.value(v), sources));
  }

  /// The operators of all nodes that use the weights of `n`.
  void rebuild_ops(int n) {
    for (const NodeId user : model_.graph.users(node(n).param)) {
      std::unique_ptr<LinearOp>& op = ops_[static_cast<std::size_t>(user)];
      if (op) op = make_transient_op(model_, user, false, ctx_.isa, Rounding::kDivide);
      if (!float_ops_.empty() && op)
        float_ops_[static_cast<std::size_t>(user)] = make_float_op(model_, user);
    }
  }

  /// Applies an equivalence plan, carries the values in flight over, and checks that the linears
  /// still give the same float outputs.
  void apply_equivalence(const Plan& plan, const Site& site) {
    const std::map<int, Tensor> before = float_outputs(site);
    for (const auto& [linear, y] : before)
      require(is_finite(y), ErrorCode::kNumeric, model_.node_name(linear),
              ": its float output holds NaN or infinity; the model or the calibration data is "
              "damaged");
    change(plan);
    for (const PlanItem& item : plan) {
      if (const auto* split = std::get_if<SplitChannels>(&item)) {
        // A division that the same plan has put in is not computed yet.
        for (const Executors* side : {&executors_, &float_executors_})
          for (const auto& executor : *side)
            for (const ValueId v : std::set{split->value, migrated(model_.graph, split->value)})
              widen(*executor, v, split->sources);
        for (const int producer : split->producers) rebuild_ops(producer);
        for (const int linear : split->linears) rebuild_ops(linear);
        continue;
      }
      if (std::holds_alternative<SetInputQuant>(item)) continue;
      const auto* change = std::get_if<ShiftScale>(&item);
      require(change, ErrorCode::kVerification, site.name,
              ": an equivalence pass returned something that is not one");
      const auto carry_over = [&](Tensor& x) {
        inverse_affine_columns(x, change->scale, change->shift, x.span(), ctx_);
      };
      const auto carry_over_at = [&](Executor& executor, ValueId value) {
        const ValueId m = migrated(model_.graph, value);
        // A division that has just been put in is computed; else the value changes in place.
        if (m != value && executor.value(value).numel() > 0) {
          executor.run(model_.graph.producer(m));
          return;
        }
        Tensor x = executor.take(m);
        if (x.defined() && x.numel() > 0) carry_over(x);
        executor.set(m, std::move(x));
      };
      for (const Executors* side : {&executors_, &float_executors_})
        for (const auto& executor : *side)
          for (const ChangedValue& v : change->values) carry_over_at(*executor, v.value);
      for (auto* side : {&ahead_, &float_ahead_})
        for (std::vector<Tensor>& tensors : *side)
          for (Tensor& x : tensors) carry_over(x);
      for (const ChangedValue& v : change->values)
        if (v.producer == ProducerKind::kLinear || v.producer == ProducerKind::kLinearRows)
          rebuild_ops(v.producer_node);
      for (const int linear : change->linears) rebuild_ops(linear);
    }
    for (const auto& [linear, after] : float_outputs(site)) {
      require(is_finite(after), ErrorCode::kVerification, model_.node_name(linear),
              ": migration made its float output NaN or infinity; exclude it with --ignore, and "
              "please report it");
      const double difference = largest_difference(before.at(linear), after),
                   scale = 1 + largest(before.at(linear));
      require(difference <= kSiteTolerance * scale, ErrorCode::kVerification,
              model_.node_name(linear), ": migration changed its float output by ", difference,
              " of ", scale - 1, "; exclude it with --ignore, and please report it");
    }
  }

  /// By node, of the products that read the site's first value, on the first tokens of the first
  /// batch, or its first images.
  std::map<int, Tensor> float_outputs(const Site& site) const {
    std::map<int, Tensor> out;
    const Tensor& all = executors_.front()->migrated_value(site.value());
    const RowSpace& space = model_.graph.value(site.value()).type.rows;
    std::int64_t rows = std::min(all.rows(), kComparedTokens);
    if (space.kind == RowSpace::Kind::kImage) {
      const std::int64_t pixels = space.height * space.width;
      rows = std::min(all.rows(), std::max<std::int64_t>(1, kComparedTokens / pixels) * pixels);
    }
    const TensorView x(all.view().raw(), all.dtype(), {rows, all.cols()});
    for (const int linear : site.linears) {
      if (base_of(model_.graph, node(linear).in[0]) != site.value()) continue;
      const std::unique_ptr<LinearOp> op = make_float_op(model_, linear);
      Tensor& y = out[linear];
      y = Tensor::f32({op->out_rows(rows), model_.param_of(linear).weight.rows()});
      op->forward(x, y.span(), ctx_);
    }
    return out;
  }

  bool calibrates_later() const {
    return recipe_.observer.after_search && !recipe_.activations.dynamic;
  }
  std::unique_ptr<Observer> make_activation_observer() const {
    return make_observer(recipe_.observer, recipe_.activations);
  }

  void observe(Observer& observer, const Site& site, SampleChoice choice) const {
    const SiteActivations seen = activations(site, choice);
    for (std::size_t i = 0; i < seen.x.size(); ++i)
      observe_rows(observer, *seen.x[i], *seen.batches[i], site.name);
  }

  StepAndZero calibrate(const Site& site) const {
    const std::unique_ptr<Observer> observer = make_activation_observer();
    if (calibrates_later() || recipe_.observer.first_batch_twice)
      observe(*observer, site, SampleChoice::kFirstBatch);
    if (!calibrates_later()) observe(*observer, site, SampleChoice::kAll);
    return recipe_.activations.dynamic ? StepAndZero{}
                                       : calculate_qparams(observer->range(), recipe_.activations);
  }

  /// What the pass over all batches goes on with: the first batch counts twice there if it has been
  /// seen here.
  std::unique_ptr<Observer> observer_for_later(const Site& site) const {
    std::unique_ptr<Observer> observer = make_activation_observer();
    if (recipe_.observer.first_batch_twice) observe(*observer, site, SampleChoice::kFirstBatch);
    return observer;
  }

  /// Pools of means read codes as convolutions do, so that images stay in codes up to the logits.
  void calibrate_mean(NodeId n) {
    const ValueId value = base_of(model_.graph, node(n).in[0]);
    const QuantSpec& spec = recipe_.activations;
    if (spec.dynamic || spec.granularity != Granularity::kPerTensor) return;
    // Where branches beside products read f32, means do too: a file says only whether all do.
    if (!model_.residual_after_quant) return;
    if (quantize_node(model_.graph, value) == kNoNode) {
      const std::unique_ptr<Observer> observer = make_activation_observer();
      for (const auto& executor : executors_)
        observe_rows(*observer, executor->value(value), executor->batch_of(value),
                     model_.node_name(n));
      const ActivationQuant quant{spec, calculate_qparams(observer->range(), spec)};
      set_input_quant(model_.graph, value, quant, model_.residual_after_quant,
                      [](const Node&) { return false; });
    }
    read_codes(model_.graph, n);
  }

  /// q, k and v first; then the probabilities that quantized q and k give.
  void calibrate_attention(int n) {
    AttentionQuant quant;
    for (const auto& points :
         {std::vector{AttentionPoint::kQuery, AttentionPoint::kKey, AttentionPoint::kValue},
          std::vector{AttentionPoint::kProbs}}) {
      PointObservers observers;
      for (const AttentionPoint point : points) observers[point] = make_activation_observer();
      if (calibrates_later() || recipe_.observer.first_batch_twice)
        observe_attention(n, observers, *executors_.front(), model_, {});
      if (!calibrates_later())
        for (const auto& executor : executors_)
          observe_attention(n, observers, *executor, model_, {});

      for (auto& [point, observer] : observers) {
        *quant.points()[static_cast<std::size_t>(point)] = ActivationQuant{
            recipe_.activations, calculate_qparams(observer->range(), recipe_.activations)};
        if (!calibrates_later()) continue;
        if (!recipe_.observer.first_batch_twice) observer = make_activation_observer();
        later_.add(n, point, std::move(observer));
      }
      set_attention_quant(model_.graph, n, quant);
    }
  }

  Model& model_;
  const std::vector<TokenBatch>& samples_;
  TokenBatch compared_;         ///< the start of the first batch
  std::vector<Tensor> before_;  ///< outputs of the original on it
  Recipe recipe_;
  ExecContext& ctx_;
  const Journal* journal_;
  std::vector<std::unique_ptr<Pass>> equivalence_, weight_passes_, range_passes_;
  OpTable ops_;
  Executors executors_;
  OpTable float_ops_;
  Executors float_executors_;  ///< empty where no pass reads what the float model has
  /// By batch: values of the current site beyond its first.
  std::vector<std::vector<Tensor>> ahead_, float_ahead_;
  LaterRanges later_;
};

}  // namespace

SiteScope scope_of(const Recipe& recipe) {
  return {.projections = recipe.quantize_projections,
          .head = recipe.quantize_head,
          .lm_head = recipe.quantize_lm_head,
          .through_relu = recipe.migrate_relu,
          .through_attention = recipe.migrate_attention};
}

namespace {

/// "layers.3.fc1" as "layers.*.fc1".
std::string in_every_layer(const std::string& name) {
  const std::size_t begin = name.find("layers.");
  if (begin == std::string::npos) return name;
  const std::size_t number = begin + std::strlen("layers.");
  const std::size_t end = name.find('.', number);
  return name.substr(0, number) + "*" + (end == std::string::npos ? "" : name.substr(end));
}

/// Groups of weights and inputs at once: every linear that they do not fit, so that one command
/// leaves all of them out.
void check_groups(const Model& model, const Recipe& recipe) {
  std::set<std::string> patterns;
  std::string first;
  bool any_fits = false;
  const auto check = [&](const std::string& name, const Param& p) {
    if (is_ignored(recipe, p.module)) return;
    const std::int64_t columns = model.weight_of(p).cols();
    bool fits = true;
    for (const QuantSpec* spec : {&recipe.weights, &recipe.activations}) {
      if (spec->granularity != Granularity::kPerGroup || columns % spec->group_size == 0) continue;
      if (first.empty())
        first =
            str(name, ": group size ", spec->group_size, " does not divide ", columns, " columns");
      patterns.insert(in_every_layer(name));
      fits = false;
    }
    any_fits |= fits;
  };
  for (const Site& site : derive_sites(model, scope_of(recipe)))
    for (const int linear : site.linears) check(model.node_name(linear), model.param_of(linear));
  for (const Param& p : model.params)
    if (recipe.quantize_lm_head && p.role == Role::kLmHead && p.tied_to >= 0) check(p.module, p);

  std::string options;
  for (const std::string& pattern : patterns) options += " --ignore '" + pattern + "'";
  require(patterns.empty(), ErrorCode::kInvalidInput, first, "; choose a divisor",
          any_fits ? ", or leave what it does not fit in float:" + options : std::string());
}

/// Settings that are about what no pass of the recipe does.
void check_passes(const Recipe& recipe) {
  int choose_codes = 0, change_inputs = 0;
  for (const auto& pass : make_passes(recipe)) {
    choose_codes += pass->stage() == PassStage::kWeights ? 1 : 0;
    change_inputs += pass->stage() == PassStage::kEquivalence ? 1 : 0;
  }
  require(choose_codes <= 1, ErrorCode::kInvalidInput, "recipe ", recipe.name,
          ": more than one pass chooses codes");
  require(change_inputs > 0 || !(recipe.migrate_relu || recipe.migrate_attention),
          ErrorCode::kInvalidInput, "recipe ", recipe.name,
          ": migrate has no effect, as no pass migrates anything; leave it out, or add a pass such "
          "as os_plus");
}

/// What a recipe has to say so that linears of that role are quantized.
const char* scope_key(Role role) {
  switch (role) {
    case Role::kProjection: return "projections";
    case Role::kPooler:
    case Role::kClassifier: return "head";
    case Role::kLmHead: return "lm_head";
    case Role::kNone:
    case Role::kTokenTable: break;
  }
  return nullptr;
}

/// Why nothing is left, and which keys of the recipe would add something.
std::string nothing_to_quantize(const Model& model, const Recipe& recipe) {
  const std::vector<Site> sites = derive_sites(model, scope_of(recipe));
  std::set<NodeId> in_scope;
  for (const Site& site : sites) in_scope.insert(site.linears.begin(), site.linears.end());

  std::map<std::string, std::string> outside;  // key -> modules
  for (NodeId n = 0; n < model.graph.num_nodes(); ++n) {
    const Node& node = model.graph.node(n);
    if (!node.op->product || node.param == kNoParam || in_scope.contains(n)) continue;
    const char* key = scope_key(model.param_of(n).role);
    if (!key || is_ignored(recipe, model.param_of(n).module)) continue;
    std::string& modules = outside[key];
    modules += (modules.empty() ? "" : ", ") + model.param_of(n).module;
  }

  std::string text = sites.empty() ? "nothing to quantize, the model has no layers of linears"
                                   : "every linear is ignored, nothing to quantize";
  for (const auto& [key, modules] : outside)
    text += "; " + modules + " would be with quantize: {" + key + ": true} in the recipe";
  return text;
}

}  // namespace

void check_recipe(const Model& model, const Recipe& recipe) {
  require(!model.is_quantized(), ErrorCode::kUsage, model.dir.path().string(),
          ": is already quantized; start from the float checkpoint");
  check_passes(recipe);
  require(!recipe.quantize_attention || !recipe.activations.dynamic, ErrorCode::kUnsupported,
          "recipe ", recipe.name, ": quantize: attention needs static activations");
  require(!recipe.quantize_attention || !recipe.migrate_attention, ErrorCode::kUnsupported,
          "recipe ", recipe.name,
          ": migrate: attention would change values whose quantizer (quantize: attention) is "
          "chosen already; leave one of them out");
  validate(recipe.activations, 0, "recipe " + recipe.name + ": activations");
  check_groups(model, recipe);
  bool any = false;
  const auto check = [&](const Param& p) {
    if (is_ignored(recipe, p.module)) return;
    any = true;
    validate(recipe.weights, model.weight_of(p).cols(), p.module + ".weight");
    validate(recipe.activations, model.weight_of(p).cols(), p.module + " input");
  };
  for (const Site& site : derive_sites(model, scope_of(recipe)))
    for (const int linear : site.linears) check(model.param_of(linear));
  for (const Param& p : model.params) {
    if (!recipe.quantize_lm_head || p.role != Role::kLmHead || p.tied_to < 0 ||
        is_ignored(recipe, p.module))
      continue;
    require(!model.graph.is_encoder_decoder(), ErrorCode::kUnsupported, "recipe ", recipe.name,
            ": ", p.module, " of ", model.spec.model_type,
            " is tied to the embedding and cannot be quantized apart from it; leave quantize: "
            "lm_head out");
    check(p);
  }
  if (!any)
    throw Error(ErrorCode::kInvalidInput,
                str("recipe ", recipe.name, ": ", nothing_to_quantize(model, recipe)));
}

void compress(Model& model, const std::vector<TokenBatch>& samples, const Recipe& recipe,
              ExecContext& ctx, const Journal* journal) {
  require(!samples.empty(), ErrorCode::kInvalidInput, "calibration: no samples");
  Pipeline(model, samples, recipe, ctx, journal).run();
}

}  // namespace quell
