#include "quell/model/network_description.h"

#include <algorithm>
#include <set>

#include "quell/base/error.h"
#include "quell/io/json.h"
#include "quell/model/image_config.h"
#include "quell/model/network_list.h"
#include "quell/model/quantized_checkpoint.h"

namespace quell {
namespace {

constexpr std::int64_t kMaxWindow = 4096;

/// Makes nodes of the graph from entries of the list, one after the other.
class DescriptionReader {
 public:
  /// `folded`: modules of batch norms that convolutions hold already, and which have no tensors.
  DescriptionReader(ModelBuilder& g, std::vector<std::string> folded)
      : g_(g), folded_(std::move(folded)) {}

  void add_input(const ImageAttributes& image) { values_[kDescribedInput] = g_.image(image); }

  void add(const Described& node) {
    try {
      values_[node.out] = with_norm_and_activation(node, op(node));
      for (const Settings::Leftover& left : node.settings.leftovers())
        throw Error(ErrorCode::kUnsupported,
                    str("key \"", left.key, "\" is not known of op \"", node.op, "\""));
    } catch (const Error& e) {
      throw Error(e.code(), node_prefix(node.out) + e.what());
    }
  }

  ValueId value(const std::string& name) const { return values_.at(name); }
  bool has(const std::string& name) const { return values_.contains(name); }

 private:
  ValueId op(const Described& node) {
    if (node.op == "conv") return conv(node);
    if (node.op == "conv_transpose") return conv_transpose(node);
    if (node.op == "bn") return only_operand(node);  // which stands behind, as of a convolution
    if (node.op == "add") return add_all(node);
    if (node.op == "concat") return concatenate(node);
    if (node.op == "avg_pool") return pool(node, PoolKind::kAverage);
    if (node.op == "max_pool") return pool(node, PoolKind::kMax);
    if (node.op == "global_avg_pool")
      return g_.named(op_global_mean, node.out, {only_operand(node)});
    if (node.op == "linear") return linear(node);
    if (node.op == "resize") return resize(node);
    if (node.op == "pad_shortcut") return pad_shortcut(node);
    if (node.op == "pam") return position_attention(node);
    if (node.op == "cam") return channel_attention(node);
    throw Error(ErrorCode::kUnsupported, "op \"" + node.op + "\" is not known");
  }

  // Operands.

  ValueId only_operand(const Described& node) const {
    require(node.in.size() == 1, ErrorCode::kInvalidInput, "op \"", node.op,
            "\" reads one value, not ", node.in.size());
    return value(node.in.front());
  }

  std::vector<ValueId> operands(const Described& node) const {
    std::vector<ValueId> out;
    for (const std::string& name : node.in) out.push_back(value(name));
    return out;
  }

  const ValueType& type(ValueId v) const { return g_.graph().value(v).type; }

  // Tensors, by the names that the description has for them.

  Shape stored(const std::string& tensor, int rank) const {
    const std::optional<Shape> shape = g_.stored_shape(tensor);
    require(shape.has_value(), ErrorCode::kInvalidInput, "tensor \"", tensor,
            "\" is not in the checkpoint");
    require(shape->rank() == rank, ErrorCode::kInvalidInput, "tensor \"", tensor, "\" has shape ",
            shape->to_string(), ", and must have ", rank, " dimensions");
    for (int i = 0; i < rank; ++i)
      require((*shape)[i] > 0 && (*shape)[i] <= kMaxDim, ErrorCode::kInvalidInput, "tensor \"",
              tensor, "\" has shape ", shape->to_string());
    return *shape;
  }

  void check(const std::string& tensor, const Shape& wanted) const {
    const Shape found = stored(tensor, wanted.rank());
    require(found == wanted, ErrorCode::kInvalidInput, "tensor \"", tensor, "\" has shape ",
            found.to_string(), ", and ", wanted.to_string(), " fits");
  }

  /// The module of a tensor "<module>.weight"; of another the name itself.
  static std::string module_of(const std::string& tensor) {
    constexpr std::string_view kSuffix = ".weight";
    return tensor.ends_with(kSuffix) ? tensor.substr(0, tensor.size() - kSuffix.size()) : tensor;
  }

  /// Of a node with a weight, and a bias where it names one.
  ParamOptions options_of(const Described& node, std::int64_t out) const {
    ParamOptions options{.bias = node.settings.has("bias"), .weight_name = weight_of(node)};
    if (!options.bias) return options;
    options.bias_name = required_string(node.settings, "bias");
    check(options.bias_name, {out});
    return options;
  }
  static std::string weight_of(const Described& node) {
    return required_string(node.settings, "weight");
  }

  // Ops with weights.

  static Window read_window(const Described& node, std::int64_t kernel_height,
                            std::int64_t kernel_width) {
    const std::vector<std::int64_t> stride =
        read_int_list(node.settings, "stride", 2, 1, kMaxWindow);
    const std::vector<std::int64_t> pad = read_int_list(node.settings, "pad", 4, 0, kMaxWindow);
    const std::int64_t dilation = json_int(node.settings, "dilation", 1, kMaxWindow, 1);
    return {.kernel_height = kernel_height,
            .kernel_width = kernel_width,
            .stride_height = stride[0],
            .stride_width = stride[1],
            .dilation_height = dilation,
            .dilation_width = dilation,
            .padding = {pad[0], pad[1], pad[2], pad[3]}};
  }

  ValueId conv(const Described& node) {
    const ValueId x = only_operand(node);
    const Shape shape = stored(weight_of(node), 4);
    ConvAttributes attributes{.window = read_window(node, shape[2], shape[3])};
    attributes.groups = json_int(node.settings, "groups", 1, kMaxDim, 1);
    const std::int64_t channels = g_.columns(x);
    require(shape[1] * attributes.groups == channels, ErrorCode::kInvalidInput, "tensor \"",
            weight_of(node), "\" has shape ", shape.to_string(), ", which with ", attributes.groups,
            " groups does not read the ", channels, " channels of \"", node.in.front(), "\"");
    return g_.conv2d(node.out, module_of(weight_of(node)), x, shape[0], attributes,
                     options_of(node, shape[0]));
  }

  ValueId conv_transpose(const Described& node) {
    const ValueId x = only_operand(node);
    const Shape shape = stored(weight_of(node), 4);
    const ConvAttributes attributes{.window = read_window(node, shape[2], shape[3])};
    require(attributes.window.padding == ImagePadding(), ErrorCode::kUnsupported,
            "key \"pad\": a transposed convolution has none here");
    require(shape[0] == g_.columns(x), ErrorCode::kInvalidInput, "tensor \"", weight_of(node),
            "\" has shape ", shape.to_string(), ", which does not read the ", g_.columns(x),
            " channels of \"", node.in.front(), "\"");
    return g_.conv_transpose2d(node.out, module_of(weight_of(node)), x, shape[1], attributes,
                               options_of(node, shape[1]));
  }

  ValueId linear(const Described& node) {
    const ValueId x = only_operand(node);
    const Shape shape = stored(weight_of(node), 2);
    check(weight_of(node), {shape[0], g_.columns(x)});
    return g_.linear(node.out, module_of(weight_of(node)), x, shape[0], options_of(node, shape[0]));
  }

  /// Everything may be followed by a batch norm and an activation; the value is what comes last.
  ValueId with_norm_and_activation(const Described& node, ValueId x) {
    const bool is_norm = node.op == "bn";
    if (is_norm || node.settings.has("bn")) {
      const std::string module = required_string(node.settings, "bn");
      const double eps = json_number(node.settings, "bn_eps", 1e-5);
      require(eps > 0 && eps < 1, ErrorCode::kInvalidInput, "key \"bn_eps\": must lie in (0, 1)");
      const bool is_folded = std::find(folded_.begin(), folded_.end(), module) != folded_.end();
      for (const char* name : {".weight", ".bias", ".running_mean", ".running_var"})
        if (!is_folded) check(module + name, {g_.columns(x)});
      x = g_.batch_norm(is_norm ? node.out : node.out + ".bn", module, x, eps);
    }
    return node.settings.has("act") ? activation(node, x) : x;
  }

  ValueId activation(const Described& node, ValueId x) {
    const std::string name = required_string(node.settings, "act");
    const std::string label = node.out + ".act";
    if (name == "prelu") {
      const std::string slopes = required_string(node.settings, "prelu");
      const Shape shape = stored(slopes, 1);
      return g_.node_with(op_prelu, label, module_of(slopes), {x}, shape, {},
                          {.weight_name = slopes});
    }
    const std::optional<ActivationKind> kind = image_activation_from_name(name);
    require(kind.has_value(), ErrorCode::kUnsupported, "key \"act\": activation \"", name,
            "\" is not known");
    return g_.named(op_activation, label, {x}, Attributes::of(*kind));
  }

  // Ops without.

  ValueId add_all(const Described& node) {
    const std::vector<ValueId> terms = operands(node);
    require(terms.size() >= 2, ErrorCode::kInvalidInput, "op \"add\" reads two values or more");
    ValueId sum = terms.front();
    for (std::size_t i = 1; i < terms.size(); ++i) {
      const bool fits =
          type(terms[i]).rows == type(sum).rows && type(terms[i]).columns == type(sum).columns;
      require(fits, ErrorCode::kInvalidInput, "\"", node.in.front(), "\" is ", describe(type(sum)),
              " and \"", node.in[i], "\" ", describe(type(terms[i])));
      const bool is_last = i + 1 == terms.size();
      const std::string label = is_last ? node.out : node.out + ".part" + std::to_string(i);
      sum = g_.named(op_add, label, {sum, terms[i]});
    }
    return sum;
  }

  static std::string describe(const ValueType& type) {
    return str(type.columns, " x ", type.rows.height, " x ", type.rows.width);
  }

  ValueId concatenate(const Described& node) {
    const std::vector<ValueId> parts = operands(node);
    for (std::size_t i = 1; i < parts.size(); ++i)
      require(type(parts[i]).rows == type(parts.front()).rows, ErrorCode::kInvalidInput, "\"",
              node.in.front(), "\" is ", describe(type(parts.front())), " and \"", node.in[i],
              "\" ", describe(type(parts[i])));
    return g_.named(op_concatenate, node.out, parts);
  }

  /// 3 x 3, stride 2, padding 1 where nothing is said; means count the padding.
  ValueId pool(const Described& node, PoolKind kind) {
    const ValueId x = only_operand(node);
    const auto read = [&](const char* key, std::vector<std::int64_t> fallback, std::int64_t low) {
      if (!node.settings.has(key)) return fallback;
      return read_int_list(node.settings, key, fallback.size(), low, kMaxWindow);
    };
    const std::vector<std::int64_t> kernel = read("kernel", {3, 3}, 1);
    const std::vector<std::int64_t> stride = read("stride", {2, 2}, 1);
    const std::vector<std::int64_t> pad = read("pad", {1, 1, 1, 1}, 0);
    PoolAttributes attributes{.kind = kind};
    attributes.window = {.kernel_height = kernel[0],
                         .kernel_width = kernel[1],
                         .stride_height = stride[0],
                         .stride_width = stride[1],
                         .padding = {pad[0], pad[1], pad[2], pad[3]}};
    attributes.divisor = kind == PoolKind::kAverage ? attributes.window.taps() : 0;
    return g_.named(op_pool, node.out, {x}, Attributes::of(attributes));
  }

  ValueId resize(const Described& node) {
    const ValueId x = only_operand(node);
    const std::vector<std::int64_t> size =
        read_int_list(node.settings, "size", 2, 1, kMaxInputSide);
    const std::string mode = required_string(node.settings, "mode");
    require(mode == "nearest" || mode == "bilinear", ErrorCode::kUnsupported, "key \"mode\": \"",
            mode, "\" is not known");
    ResizeAttributes attributes{.size = {size[0], size[1]}};
    if (mode == "bilinear") {
      attributes.kind = ResizeKind::kBilinear;
      attributes.align_corners = json_bool(node.settings, "align_corners", false);
    }
    return g_.named(op_resize, node.out, {x}, Attributes::of(attributes));
  }

  /// Every second row and column, with channels of zeros on both sides.
  ValueId pad_shortcut(const Described& node) {
    const ValueId x = only_operand(node);
    PoolAttributes every_second;
    every_second.window = {.stride_height = 2, .stride_width = 2};
    PadAttributes zeros;
    zeros.channels_before = json_int(node.settings, "channels", 0, kMaxDim);
    zeros.channels_behind = zeros.channels_before;
    const ValueId small =
        g_.named(op_pool, node.out + ".pixels", {x}, Attributes::of(every_second));
    return g_.named(op_pad, node.out, {small}, Attributes::of(zeros));
  }

  ValueId pointwise(const Described& node, const std::string& module, ValueId x) {
    const Shape shape = stored(module + ".weight", 4);
    check(module + ".weight", {shape[0], g_.columns(x), 1, 1});
    check(module + ".bias", {shape[0]});
    const std::string label = node.out + module.substr(module.rfind('.'));
    return g_.conv2d(label, module, x, shape[0], {}, {.bias = true});
  }

  ValueId position_attention(const Described& node) {
    const ValueId x = only_operand(node);
    const std::string prefix = required_string(node.settings, "prefix");
    const ValueId query = pointwise(node, prefix + ".query_conv", x);
    const ValueId key = pointwise(node, prefix + ".key_conv", x);
    const ValueId value = pointwise(node, prefix + ".value_conv", x);
    check(prefix + ".gamma", {1});
    return g_.node_with(op_position_attention, node.out, prefix, {x, query, key, value}, {1}, {},
                        {.weight_name = prefix + ".gamma"});
  }

  ValueId channel_attention(const Described& node) {
    const ValueId x = only_operand(node);
    const std::string prefix = required_string(node.settings, "prefix");
    check(prefix + ".gamma", {1});
    return g_.node_with(op_channel_attention, node.out, prefix, {x}, {1}, {},
                        {.weight_name = prefix + ".gamma"});
  }

  ModelBuilder& g_;
  std::vector<std::string> folded_;
  std::map<std::string, ValueId> values_;
};

/// Those of "outputs", or else what no node reads.
std::vector<std::string> output_names(const Config& config, const std::vector<Described>& nodes) {
  std::vector<std::string> names;
  const Json& said = config.value("outputs");
  if (said.is_object()) {
    for (const auto& [name, what] : said.items()) names.push_back(name);
    return names;
  }

  std::set<std::string> read;
  for (const Described& node : nodes) read.insert(node.in.begin(), node.in.end());
  for (const Described& node : nodes)
    if (!read.contains(node.out)) names.push_back(node.out);
  return names;
}

ImageAttributes read_input_size(const Config& config) {
  const std::vector<std::int64_t> sizes = read_int_list(config, "input", 3, 1, kMaxInputSide);
  return {.channels = sizes[0], .size = {sizes[1], sizes[2]}};
}

}  // namespace

void build_described_network(ModelBuilder& g, const Config& config) {
  const ImageAttributes image = read_input_size(config);
  const std::vector<Described> nodes = read_network_list(config);
  DescriptionReader reader(g, folded_batch_norms_of(config.json()));
  reader.add_input(image);
  for (const std::size_t i : execution_order(nodes)) reader.add(nodes[i]);

  for (const std::string& name : output_names(config, nodes)) {
    require(reader.has(name), ErrorCode::kInvalidInput, "key \"outputs\": no node computes \"",
            name, "\"");
    const ValueId v = reader.value(name);
    g.output(name, v);
    if (name != "logits" || g.graph().value(v).type.rows.kind != RowSpace::Kind::kSequences)
      continue;

    g.spec.head = Head::kImageClassification;
    const std::int64_t classes = read_int(config, "classes", 1, kMaxDim, g.columns(v));
    require(classes == g.columns(v), ErrorCode::kInvalidInput, "node \"logits\": gives ",
            g.columns(v), " classes, and key \"classes\" says ", classes);
  }
  g.spec.max_position_embeddings = 1;  // an image is one row of what is not an image
}

}  // namespace quell
