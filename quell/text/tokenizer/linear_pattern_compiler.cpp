// From the parts of a pattern to the program of a LinearPattern.
#include "quell/text/tokenizer/linear_pattern.h"
#include "quell/text/tokenizer/pattern_parser.h"

namespace quell {
namespace {

using Node = PatternNode;
using Op = LinearPattern::Op;
using Program = LinearPattern::Program;

class Emitter {
 public:
  explicit Emitter(Program& program) : program_(program) {}

  void run(const Node& node) {
    emit(node);
    add(Op::kAccept);
    while (!bodies_.empty()) {
      const auto [at, body] = bodies_.back();
      bodies_.pop_back();
      inside_ = true;
      program_.code[at].a = here();
      emit(*body);
      add(Op::kAccept);
    }
  }

 private:
  static constexpr std::size_t kMaxCode = 4000;

  std::uint32_t here() const { return static_cast<std::uint32_t>(program_.code.size()); }
  std::uint32_t add(Op op, std::uint32_t a = 0, std::uint32_t b = 0) {
    if (program_.code.size() >= kMaxCode) throw NotLinear();
    program_.code.push_back({op, a, b});
    if (op == Op::kSplit || op == Op::kAhead || op == Op::kNotAhead || op == Op::kAtomic)
      program_.code.back().memo =
          static_cast<std::int32_t>(inside_ ? program_.inner_rows++ : program_.main_rows++);
    return here() - 1;
  }

  void emit(const Node& node) {
    switch (node.kind) {
      case Node::Kind::kInstruction: add(node.op, node.value); break;
      case Node::Kind::kSet: add(Op::kSet, node.value); break;
      case Node::Kind::kSequence:
        for (const Node& child : node.children) emit(child);
        break;
      case Node::Kind::kChoice: emit_choice(node); break;
      case Node::Kind::kRepeat: emit_repeat(node); break;
      case Node::Kind::kGroup: {
        const std::uint32_t at = add(node.op);
        program_.code[at].b = here();
        bodies_.push_back({at, &node.children[0]});
        break;
      }
    }
  }

  void emit_choice(const Node& node) {
    std::vector<std::uint32_t> jumps;
    for (std::size_t i = 0; i < node.children.size(); ++i) {
      const bool last = i + 1 == node.children.size();
      const std::uint32_t split = last ? 0 : add(Op::kSplit, here() + 1);
      emit(node.children[i]);
      if (last) break;
      jumps.push_back(add(Op::kJump));
      program_.code[split].b = here();
    }
    for (const std::uint32_t jump : jumps) program_.code[jump].a = here();
  }

  void emit_repeat(const Node& node) {
    const Node& body = node.children[0];
    for (int i = 0; i < node.min; ++i) emit(body);

    if (node.max < 0) {
      const std::uint32_t split = add(Op::kSplit);
      emit(body);
      add(Op::kJump, split);
      branch(split, split + 1, here(), node.lazy);
      return;
    }
    std::vector<std::uint32_t> splits;
    for (int i = node.min; i < node.max; ++i) {
      splits.push_back(add(Op::kSplit));
      emit(body);
    }
    for (const std::uint32_t split : splits) branch(split, split + 1, here(), node.lazy);
  }

  void branch(std::uint32_t split, std::uint32_t more, std::uint32_t out, bool lazy) {
    program_.code[split].a = lazy ? out : more;
    program_.code[split].b = lazy ? more : out;
  }

  Program& program_;
  std::vector<std::pair<std::uint32_t, const Node*>>
      bodies_;  ///< of groups, with the instruction that needs them
  bool inside_ = false;
};

}  // namespace

std::optional<LinearPattern> LinearPattern::compile(std::u32string_view pattern) {
  try {
    Program program;
    const Node node = parse_pattern(pattern, program.sets);
    Emitter(program).run(node);
    return LinearPattern(std::move(program));
  } catch (const NotLinear&) {
    return std::nullopt;
  }
}

}  // namespace quell
