#!/usr/bin/env python3
"""Writes tokenizer_classes.json: small vocabularies, settings beside them, and what AutoTokenizer of transformers makes of them.

    python3 tests/golden/tokenizer_classes.py tests/golden/tokenizer_classes.json
"""
import json
import os
import shutil
import sys
import tempfile

os.environ["TRANSFORMERS_VERBOSITY"] = "error"
import tokenizers
import transformers
from sentencepiece import sentencepiece_model_pb2
from tokenizers import pre_tokenizers
from transformers import AutoTokenizer

NORMAL, UNKNOWN, CONTROL, USER, BYTE = 1, 2, 3, 4, 6
TEXTS = ["hello world", "  Hello,  hello 1212!", "caf\u00e9 [MASK] <mask> \u6f22\u5b57\n[ENT] <ent2> Quux"]
PAIR = ("hello", "world 12")

WORD_PIECE = """[PAD] [UNK] [CLS] [SEP] [MASK] <s> </s> <pad> <mask> <unk> <cls> <sep> hello world ##s Hello a b ##b caf ##e ##\u00e9 \u6f22
\u5b57 h e l o [ ] ent ##2 < > , ! cafe""".split()


def with_merges(vocab, merges):
    for left, right in merges:
        vocab.setdefault(left + right, len(vocab))
    lines = "#version: 0.2\n" + "".join("%s %s\n" % merge for merge in merges)
    return {"vocab.json": vocab, "merges.txt": lines}


def byte_vocabulary():
    vocab = {}
    specials = ["<|endoftext|>", "<s>", "</s>", "<unk>", "<pad>", "<mask>", "[CLS]", "[SEP]", "[PAD]", "[UNK]", "[MASK]"]
    for token in specials + sorted(pre_tokenizers.ByteLevel.alphabet()):
        vocab.setdefault(token, len(vocab))
    space = "\u0120"
    merges = [("h", "e"), ("l", "l"), ("he", "ll"), ("hell", "o"), (space, "w"), ("o", "r"), (space + "w", "or"), ("l", "d")]
    merges += [(space + "wor", "ld"), ("1", "2"), (space, "hello"), (space, space)]
    return with_merges(vocab, merges)


def word_vocabulary():
    vocab = {}
    for token in ["<unk>", "<s>", "</s>", "<pad>", "<mask>", "<|startoftext|>", "<|endoftext|>"]:
        vocab[token] = len(vocab)
    for character in "helowrd12!,":
        vocab[character] = len(vocab)
        vocab[character + "</w>"] = len(vocab)
    return with_merges(vocab, [("h", "e"), ("l", "l"), ("he", "ll"), ("hell", "o</w>"), ("w", "o"), ("r", "l")])


def control(*texts):
    return [[text, 0.0, CONTROL] for text in texts]


UNK, SENTENCE = [["<unk>", 0.0, UNKNOWN]], control("<s>", "</s>")


def unigram(front):
    scored = {"\u2581": -3, "\u2581hello": -2, "\u2581world": -2.5, "\u2581he": -3, "ll": -3, "o": -4, "h": -5, "e": -5, "l": -5, "w": -5}
    scored.update({"r": -5, "d": -5, "1": -5, "2": -5, "12": -4, "H": -5, ",": -4, "!": -4, "\u00e9": -6, "caf": -5, "s": -5})
    return front + [[text, score, NORMAL] for text, score in scored.items()]


def bpe(front, back=()):
    pieces = front + [[text, 0.0, NORMAL] for text in ["\u2581", *"helowrd12,!"]]
    merged = ["he", "ll", "hell", "hello", "\u2581hello", "\u2581w", "or", "\u2581wor", "ld", "\u2581world", "12", "\u2581\u2581"]
    pieces += [[text, -float(rank), NORMAL] for rank, text in enumerate(merged)]
    pieces += [["<0x%02X>" % byte, 0.0, BYTE] for byte in (0x0A, 0x3C, 0x3E, 0xC3, 0xA9, 0x74, 0x61, 0x62, 0x63, 0x70)]
    return pieces + list(back)


def model(pieces, unigram=True, byte_fallback=False, dummy=True, extra_spaces=True, ids=(0, 1, 2)):
    return {
        "pieces": pieces,
        "unigram": unigram,
        "byte_fallback": byte_fallback,
        "add_dummy_prefix": dummy,
        "remove_extra_whitespaces": extra_spaces,
        "unk_id": ids[0],
        "bos_id": ids[1],
        "eos_id": ids[2],
    }


def write_model(content, path):
    proto = sentencepiece_model_pb2.ModelProto()
    for text, score, kind in content["pieces"]:
        piece = proto.pieces.add()
        piece.piece, piece.score, piece.type = text, score, kind
    trainer, normalizer = proto.trainer_spec, proto.normalizer_spec
    trainer.model_type = 1 if content["unigram"] else 2
    trainer.byte_fallback = content["byte_fallback"]
    trainer.unk_id, trainer.bos_id, trainer.eos_id = content["unk_id"], content["bos_id"], content["eos_id"]
    normalizer.add_dummy_prefix = content["add_dummy_prefix"]
    normalizer.remove_extra_whitespaces = content["remove_extra_whitespaces"]
    with open(path, "wb") as file:
        file.write(proto.SerializeToString())


GEMMA = control("<pad>", "<eos>", "<bos>") + UNK + [["<mask>", 0.0, USER]]
XLNET = UNK + SENTENCE + control("<cls>", "<sep>", "<pad>", "<mask>") + [["<eop>", 0.0, USER]]
ALBERT = control("<pad>") + UNK + control("[CLS]", "[SEP]", "[MASK]")
VOCABULARIES = {
    "word_piece": {"vocab.txt": "".join(token + "\n" for token in WORD_PIECE)},
    "bytes": byte_vocabulary(),
    "words": word_vocabulary(),
    "llama": model(bpe(UNK + SENTENCE), unigram=False, byte_fallback=True, extra_spaces=False),
    "llama_user": model(bpe(UNK + SENTENCE, [["<fim>", 0.0, USER]] + control("<ctl>")), unigram=False, byte_fallback=True),
    "gemma": model(bpe(GEMMA), unigram=False, byte_fallback=True, dummy=False, extra_spaces=False, ids=(3, 2, 1)),
    "albert": model(unigram(ALBERT), ids=(1, -1, -1)),
    "t5": model(unigram(control("<pad>", "</s>") + UNK), ids=(2, -1, 1)),
    "xlnet": model(unigram(XLNET)),
    "fairseq": model(unigram(UNK + SENTENCE)),
    "deberta": model(unigram(control("[PAD]", "[CLS]", "[SEP]") + [["[UNK]", 0.0, UNKNOWN]]), ids=(3, 1, 2)),
}


class Recorder:
    def __init__(self):
        self.dir = tempfile.mkdtemp()
        self.cases = []

    def write(self, vocabulary, model_file, files):
        shutil.rmtree(self.dir, ignore_errors=True)
        os.makedirs(self.dir)
        contents = dict(files)
        if vocabulary and model_file:
            write_model(VOCABULARIES[vocabulary], os.path.join(self.dir, model_file))
        elif vocabulary:
            contents.update(VOCABULARIES[vocabulary])
        for name, content in contents.items():
            with open(os.path.join(self.dir, name), "w", encoding="utf-8") as file:
                file.write(content if isinstance(content, str) else json.dumps(content))

    def record(self, name, vocabulary, model_file, files):
        self.write(vocabulary, model_file, files)
        tokenizer = AutoTokenizer.from_pretrained(self.dir)
        texts = []
        for text in TEXTS:
            ids = tokenizer(text)["input_ids"]
            texts.append({"text": text, "ids": ids, "decoded": tokenizer.decode(ids, skip_special_tokens=True)})
        both = tokenizer(*PAIR, return_token_type_ids=True)
        pair = {"ids": both["input_ids"], "type_ids": both["token_type_ids"]}
        case = {"name": name, "vocabulary": vocabulary, "model_file": model_file, "files": files, "texts": texts, "pair": pair}
        self.cases.append(case)

    def case(self, name, vocabulary, model_type, config=None, model_file="", extra=None):
        files = dict(extra or {})
        if config is not None:
            files["tokenizer_config.json"] = config
        if model_type:
            files["config.json"] = {"model_type": model_type}
        self.record(name, vocabulary, model_file, files)

    def beside_json(self, name, vocabulary, model_type, made_with, config, model_file="", extra=None):
        """tokenizer.json made with the settings `made_with`, then read beside others."""
        model_config = {"model_type": model_type}
        self.write(vocabulary, model_file, {"tokenizer_config.json": made_with, "config.json": model_config})
        made = json.loads(AutoTokenizer.from_pretrained(self.dir).backend_tokenizer.to_str())
        files = {"tokenizer.json": made, "tokenizer_config.json": config, "config.json": model_config, **(extra or {})}
        self.record(name, "", "", files)


def added(content, **flags):
    return {"content": content, "lstrip": False, "rstrip": False, "single_word": False, "normalized": False, "special": True, **flags}


def named(content, **flags):
    return {"__type": "AddedToken", **added(content, **flags)}


def record_classes(r):
    def of_class(name, vocabulary, model_type, model_file="", label=None, **settings):
        label = label or name.replace("Fast", "").replace("Tokenizer", "")
        r.case(label, vocabulary, model_type, {"tokenizer_class": name, **settings}, model_file)

    for name, model_type in {"BertTokenizer": "bert", "DistilBertTokenizerFast": "distilbert", "ElectraTokenizer": "electra"}.items():
        of_class(name, "word_piece", model_type)
    of_class("MPNetTokenizer", "word_piece", "mpnet")
    of_class("FunnelTokenizer", "word_piece", "funnel")
    r.case("BertByModelType", "word_piece", "bert")
    r.case("NomicByModelType", "word_piece", "nomic_bert")
    of_class("BertTokenizer", "word_piece", "bert", label="BertCased", do_lower_case=False)
    keeps = {"strip_accents": False, "tokenize_chinese_chars": False}
    of_class("BertTokenizerFast", "word_piece", "bert", label="BertAccentsAndChinese", **keeps)
    characters = {"word_tokenizer_type": "basic", "subword_tokenizer_type": "character"}
    of_class("BertJapaneseTokenizer", "word_piece", "bert", label="BertJapaneseCharacter", **characters)

    byte_level = {"GPT2Tokenizer": "gpt2", "GPTNeoXTokenizerFast": "gpt_neox", "CodeGenTokenizer": "phi", "RobertaTokenizer": "roberta"}
    byte_level.update({"BartTokenizer": "bart", "LongformerTokenizerFast": "longformer", "DebertaTokenizer": "deberta"})
    byte_level.update({"BlenderbotTokenizer": "blenderbot", "Qwen2Tokenizer": "qwen2"})
    for name, model_type in byte_level.items():
        of_class(name, "bytes", model_type)
    of_class("GPT2Tokenizer", "bytes", "gpt2", label="GPT2PrefixAndBos", add_prefix_space=True, add_bos_token=True)
    r.case("OptByModelType", "bytes", "opt", {"bos_token": "</s>", "add_bos_token": True})
    for name, model_type in {"CLIPTokenizer": "clip", "HerbertTokenizer": "herbert", "OpenAIGPTTokenizer": "openai-gpt"}.items():
        of_class(name, "words", model_type)

    llama = "tokenizer.model"
    of_class("LlamaTokenizer", "llama", "llama", llama, add_bos_token=True)
    legacy = {"legacy": True, "add_bos_token": True, "add_eos_token": True}
    of_class("LlamaTokenizerFast", "llama", "llama", llama, label="LlamaLegacy", **legacy)
    of_class("LlamaTokenizer", "llama", "llama", llama, label="LlamaNoPrefix", add_prefix_space=False)
    r.case("LlamaByModelType", "llama_user", "llama", {"add_bos_token": True}, llama)
    of_class("CodeLlamaTokenizer", "llama", None, llama)
    of_class("LlamaTokenizer", "llama_user", "mistral", llama, label="MistralAsLlama", add_bos_token=True)
    of_class("GemmaTokenizer", "gemma", "gemma", llama, add_bos_token=True)

    of_class("AlbertTokenizer", "albert", "albert", "spiece.model")
    r.case("AlbertKeepsAccents", "albert", "albert", {"keep_accents": True, "do_lower_case": False}, "spiece.model")
    of_class("T5TokenizerFast", "t5", "t5", "spiece.model", extra_ids=5)
    of_class("XLNetTokenizer", "xlnet", "xlnet", "spiece.model")
    fairseq = "sentencepiece.bpe.model"
    of_class("CamembertTokenizer", "fairseq", "camembert", fairseq)
    of_class("XLMRobertaTokenizerFast", "fairseq", "xlm-roberta", fairseq)
    of_class("MBartTokenizer", "fairseq", "mbart", fairseq, src_lang="ro_RO")
    of_class("MBart50Tokenizer", "fairseq", "mbart", fairseq, src_lang="af_ZA")
    r.case("DebertaV2ByModelType", "deberta", "deberta-v2", {"vocab_type": "spm"}, "spm.model")
    lower = {"do_lower_case": True, "split_by_punct": True}
    of_class("DebertaV2Tokenizer", "deberta", "deberta-v2", "spm.model", label="DebertaV2Lower", **lower)


def record_tokens(r):
    bert = {"tokenizer_class": "BertTokenizer"}

    def case(name, settings=None, extra=None):
        r.case(name, "word_piece", "bert", {**bert, **(settings or {})}, extra=extra)

    case("AddedTokensJson", extra={"added_tokens.json": {"[ENT]": 37, "<ent2>": 38}})
    word = added("Quux", special=False, normalized=True, single_word=True)
    case("AddedTokensDecoder", {"added_tokens_decoder": {"37": added("[ENT]"), "40": added("<ent2>", lstrip=True), "41": word}})
    case("AdditionalSpecialTokens", {"additional_special_tokens": ["[ENT]", named("<ent2>", rstrip=True)]})
    case("ExtraSpecialTokensByName", {"extra_special_tokens": {"entity_token": "[ENT]"}, "other_token": "<ent2>"})
    mask = {"content": "<mask>", "lstrip": True, "rstrip": False, "single_word": False, "normalized": False}
    map_file = {"mask_token": mask, "cls_token": "<s>", "additional_special_tokens": ["[ENT]"]}
    case("SpecialTokensMap", extra={"special_tokens_map.json": map_file})
    case("NamedTokensAsObjects", {"sep_token": named("</s>"), "cls_token": "<s>", "pad_token": "<newpad>"})
    split = {"tokenizer_class": "GPT2Tokenizer", "split_special_tokens": True, "bos_token": "<mask>"}
    r.case("SplitSpecialTokens", "bytes", "gpt2", split)
    clean = {"tokenizer_class": "XLMRobertaTokenizer", "clean_up_tokenization_spaces": True}
    r.case("CleanUpSpaces", "fairseq", "xlm-roberta", clean, "sentencepiece.bpe.model")


def record_beside_json(r):
    bert = {"tokenizer_class": "BertTokenizer"}

    def case(name, config, extra=None):
        r.beside_json(name, "word_piece", "bert", bert, config, extra=extra)

    case("JsonLowerCase", {"tokenizer_class": "BertTokenizerFast", "do_lower_case": False})
    case("JsonAccentsAndChinese", {**bert, "strip_accents": False, "tokenize_chinese_chars": False})
    case("JsonAddedTokensDecoder", {**bert, "added_tokens_decoder": {"37": added("[ENT]")}})
    case("JsonAddedTokensJson", bert, {"added_tokens.json": {"<ent2>": 37}})
    plain = {"tokenizer_class": "PreTrainedTokenizerFast", "do_lower_case": False}
    plain.update({"additional_special_tokens": ["[ENT]"], "mask_token": "<mask>"})
    case("JsonPlainClass", plain, {"special_tokens_map.json": {"pad_token": "<newpad>"}})

    gpt2 = {"tokenizer_class": "GPT2Tokenizer"}
    r.beside_json("JsonPrefixSpace", "bytes", "gpt2", gpt2, {**gpt2, "add_prefix_space": True, "add_bos_token": True})
    llama = {"tokenizer_class": "LlamaTokenizer"}
    changed = {**llama, "legacy": True, "add_eos_token": True}
    r.beside_json("JsonLlamaLegacy", "llama", "llama", {**llama, "add_bos_token": True}, changed, "tokenizer.model")
    fairseq = {"tokenizer_class": "XLMRobertaTokenizer"}
    changed = {**fairseq, "add_prefix_space": False}
    r.beside_json("JsonXLMRoberta", "fairseq", "xlm-roberta", fairseq, changed, "sentencepiece.bpe.model")


def main():
    recorder = Recorder()
    record_classes(recorder)
    record_tokens(recorder)
    record_beside_json(recorder)
    shutil.rmtree(recorder.dir)

    made_with = "transformers %s, tokenizers %s" % (transformers.__version__, tokenizers.__version__)
    compact = lambda value: json.dumps(value, separators=(",", ":"))
    vocabularies = ",\n".join("%s:%s" % (json.dumps(name), compact(content)) for name, content in VOCABULARIES.items())
    cases = ",\n".join(compact(case) for case in recorder.cases)
    with open(sys.argv[1], "w") as file:
        file.write('{"made_with":%s,\n"vocabularies":{\n%s\n},\n"cases":[\n%s\n]}\n' % (json.dumps(made_with), vocabularies, cases))
    print(len(recorder.cases), "cases")


if __name__ == "__main__":
    main()
