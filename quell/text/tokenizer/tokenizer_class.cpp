#include "quell/text/tokenizer/tokenizer_class.h"

#include <algorithm>
#include <string_view>

#include "quell/base/error.h"
#include "quell/io/mapped_file.h"

namespace quell {
namespace {

struct TypesOfClass {
  std::string_view name;
  std::string_view model_types;  ///< with spaces around each
};

/// The class of each model_type, as far as texts are concerned.
constexpr TypesOfClass kRegistered[] = {
    {kPlainClass,
     " aria beam bigbird_pegasus flex_olmo glm glm4 glm4_moe glm4_moe_lite glm4v glm4v_moe "
     "gpt_bigcode granite granitemoe "
     "granitemoehybrid granitemoeshared kimi_k25 kimi_linear kosmos-2 mimo_v2_flash ministral "
     "ministral3 mistral mistral3 "
     "mistral_large4 mixtral nystromformer olmo2 olmo3 olmo_hybrid pegasus_x persimmon pixtral "
     "stablelm umt5 voxtral "
     "voxtral_realtime xlm-roberta-xl ernie4_5 hyperclovax_vlm ernie4_5_moe h2ovl_chat phimoe "
     "llava_next molmo2 minicpmv step3_vl "
     "internlm3 nvfp4 molmo hyperclovax paddleocr_vl vipllava internlm2 phi3 phi3_v smolvlm fuyu "
     "jamba modernbert-decoder "
     "camembertv2-base minimax_m2 llava arctic iquestcoder cohere_asr minicpm3 nemotron chatlm "
     "opencua openvla modernbert "},
    {"CLIPTokenizer",
     " aimv2 clip clipseg groupvit omdet-turbo oneformer owlv2 owlvit sam3 sam3_video xclip "},
    {"AlbertTokenizer", " albert yoso "},
    {"BertTokenizer",
     " align bark bert blip bros chinese_clip convbert distilbert electra ernie flava git "
     "grounding-dino layoutlm megatron-bert "
     "mm-grounding-dino nezha nomic_bert qdqbert realm retribert squeezebert tvp vilt "
     "visual_bert "},
    {"Qwen2Tokenizer",
     " audioflamingo3 colqwen2 dots3_note hunyuan_vl internvl ovis2 qwen2 qwen2_5_omni qwen2_5_vl "
     "qwen2_audio qwen2_moe qwen2_vl "
     "qwen3 "
     "qwen3_asr qwen3_moe qwen3_next qwen3_omni_moe qwen3_vl qwen3_vl_moe lighton_ocr vibevoice "},
    {"CohereTokenizer", " aya_vision cohere cohere2 "},
    {"RobertaTokenizer",
     " bart bridgetower clap data2vec-text ibert lilt longformer mega mra roberta "
     "roberta-prelayernorm "},
    {"BarthezTokenizer", " barthez "},
    {"BartphoTokenizer", " bartpho "},
    {"BertGenerationTokenizer", " bert-generation "},
    {"BertJapaneseTokenizer", " bert-japanese "},
    {"BertweetTokenizer", " bertweet "},
    {"BigBirdTokenizer", " big_bird "},
    {"BioGptTokenizer", " biogpt "},
    {"BlenderbotTokenizer", " blenderbot "},
    {"BlenderbotSmallTokenizer", " blenderbot-small "},
    {"GPT2Tokenizer",
     " blip-2 codegen dbrx emu3 gpt2 gpt_neo gptj hyperclovax_vision_v2 instructblip "
     "instructblipvideo jais2 opt phi starcoder2 "},
    {"ByT5Tokenizer", " byt5 "},
    {"CamembertTokenizer", " camembert "},
    {"CanineTokenizer", " canine "},
    {"CodeLlamaTokenizer", " code_llama "},
    {"CpmTokenizer", " cpm "},
    {"CTRLTokenizer", " ctrl "},
    {"DebertaTokenizer", " deberta "},
    {"DebertaV2Tokenizer", " deberta-v2 "},
    {"GemmaTokenizer",
     " diffusion_gemma gemma gemma2 gemma3 gemma3_text gemma3n gemma3n_text recurrent_gemma "
     "shieldgemma2 t5gemma zaya "},
    {"DPRQuestionEncoderTokenizer", " dpr "},
    {"EsmTokenizer", " esm "},
    {"GPTNeoXTokenizer", " falcon_mamba gpt_neox mamba mamba2 mpt olmo olmoe rwkv xlstm "},
    {"FlaubertTokenizer", " flaubert "},
    {"BartTokenizer", " florence2 "},
    {"FNetTokenizer", " fnet "},
    {"FSMTTokenizer", " fsmt "},
    {"FunnelTokenizer", " funnel "},
    {"GPTSw3Tokenizer", " gpt-sw3 "},
    {"GPTNeoXJapaneseTokenizer", " gpt_neox_japanese "},
    {"XLMRobertaTokenizer", " gte jina_embeddings_v3 metaclip_2 trocr xlm-roberta xmod "},
    {"HerbertTokenizer", " herbert "},
    {"LlamaTokenizer", " idefics idefics2 "},
    {"LayoutLMv2Tokenizer", " layoutlmv2 "},
    {"LayoutLMv3Tokenizer", " layoutlmv3 "},
    {"LayoutXLMTokenizer", " layoutxlm "},
    {"LEDTokenizer", " led "},
    {"LukeTokenizer", " luke "},
    {"LxmertTokenizer", " lxmert "},
    {"M2M100Tokenizer", " m2m_100 "},
    {"MarianTokenizer", " marian "},
    {"MarkupLMTokenizer", " markuplm "},
    {"MBartTokenizer", " mbart "},
    {"MBart50Tokenizer", " mbart50 "},
    {"MLukeTokenizer", " mluke "},
    {"MobileBertTokenizer", " mobilebert "},
    {"MPNetTokenizer", " mpnet "},
    {"T5Tokenizer", " mt5 musicgen musicgen_melody switch_transformers t5 "},
    {"MvpTokenizer", " mvp "},
    {"MyT5Tokenizer", " myt5 "},
    {"NllbTokenizer", " nllb nllb-moe "},
    {"OpenAIGPTTokenizer", " openai-gpt "},
    {"PegasusTokenizer", " pegasus "},
    {"PerceiverTokenizer", " perceiver "},
    {"PhobertTokenizer", " phobert "},
    {"PLBartTokenizer", " plbart "},
    {"ProphetNetTokenizer", " prophetnet "},
    {"Qwen3_5Tokenizer", " qwen3_5 qwen3_5_moe qwen3_5_moe_text qwen3_5_text qwen4_exp "},
    {"ReformerTokenizer", " reformer "},
    {"RemBertTokenizer", " rembert "},
    {"RoCBertTokenizer", " roc_bert "},
    {"RoFormerTokenizer", " roformer "},
    {"SeamlessM4TTokenizer", " seamless_m4t seamless_m4t_v2 "},
    {"SiglipTokenizer", " siglip "},
    {"Siglip2Tokenizer", " siglip2 "},
    {"SplinterTokenizer", " splinter "},
    {"TapasTokenizer", " tapas "},
    {"UdopTokenizer", " udop "},
    {"WhisperTokenizer", " whisper "},
    {"XGLMTokenizer", " xglm "},
    {"XLMTokenizer", " xlm "},
    {"XLNetTokenizer", " xlnet "}};

/// Types whose published files name a wrong class.
constexpr std::string_view kClassIsWrong =
    " arctic camembertv2-base chatlm cohere_asr ernie4_5 ernie4_5_moe fuyu h2ovl_chat hyperclovax "
    "hyperclovax_vision_v2 "
    "hyperclovax_vlm internlm2 internlm3 iquestcoder jamba llava llava_next minicpm3 minicpmv "
    "minimax_m2 modernbert "
    "modernbert-decoder molmo molmo2 nemotron nvfp4 opencua openvla paddleocr_vl phi3 phi3_v "
    "phimoe qwen2 qwen3_5 qwen3_5_moe "
    "qwen3_5_moe_text qwen4_exp siglip2 smolvlm step3_vl vipllava ";

/// Types that have a class and no configuration of their own, so that a tokenizer.json or
/// tokenizer.model is taken as it is.
constexpr std::string_view kWithoutConfig =
    " barthez bartpho bert-japanese bertweet byt5 code_llama cpm herbert mbart50 mega mluke myt5 "
    "nezha nllb phobert qdqbert realm "
    "retribert ";

constexpr std::string_view kMistralTypes =
    " ministral ministral3 mistral mistral3 mistral_large4 mixtral pixtral voxtral "
    "voxtral_realtime ";

bool lists(std::string_view list, const std::string& name) {
  return !name.empty() && list.find(" " + name + " ") != std::string_view::npos;
}

std::string without_fast(std::string name) {
  if (name != "PreTrainedTokenizerFast" && name.ends_with("Fast")) name.resize(name.size() - 4);
  return name;
}

bool is_plain(const std::string& name) {
  return name == kPlainClass || name == "PreTrainedTokenizerFast" ||
         name == "PreTrainedTokenizer" || name == "PythonBackend" || name == "BloomTokenizer";
}

std::string registered_class(const std::string& model_type) {
  const auto* found =
      std::find_if(std::begin(kRegistered), std::end(kRegistered),
                   [&](const TypesOfClass& entry) { return lists(entry.model_types, model_type); });
  return found == std::end(kRegistered) ? "" : std::string(found->name);
}

bool is_byte_level(const ModelDirectory& directory) {
  return directory.has("tokenizer.json") &&
         read_text_file(directory.path() / "tokenizer.json", std::size_t{512} << 20)
                 .find("\"ByteLevel\"") != std::string::npos;
}

}  // namespace

TokenizerClass find_tokenizer_class(const ModelDirectory& directory, const Settings& config) {
  const Settings model_config = directory.read_if_there("config.json");
  const std::string model_type = json_string(model_config, "model_type", "");
  const std::string registered = registered_class(model_type);
  const bool own_code = config.has("auto_map");
  config.value("auto_map");

  TokenizerClass out;
  out.stated = without_fast(json_string(config, "tokenizer_class", ""));
  out.file = config.file();
  out.source = "tokenizer_class \"" + json_string(config, "tokenizer_class", "") + "\"";
  if (out.stated.empty()) {
    out.stated = without_fast(json_string(model_config, "tokenizer_class", ""));
    out.file = model_config.file();
    out.source = "tokenizer_class \"" + json_string(model_config, "tokenizer_class", "") + "\"";
  }
  if (out.stated.empty()) {
    const bool whole = directory.has("tokenizer.json") || directory.has("tokenizer.model");
    const bool plain = registered.empty() || (lists(kWithoutConfig, model_type) && whole);
    out.name = plain && !model_type.empty() ? kPlainClass : registered;
    out.source = "model_type \"" + model_type + "\"";
    return out;
  }

  out.name = is_plain(out.stated) ? kPlainClass : out.stated;
  const bool wrong = lists(kClassIsWrong, model_type);
  if (out.stated == "LlamaTokenizer" && !wrong && !lists(kMistralTypes, model_type) && !own_code &&
      is_byte_level(directory)) {
    out.name = kPlainClass;
  } else if (!own_code && !registered.empty() && registered != out.stated) {
    if (registered == kPlainClass)
      out.name = kPlainClass;
    else if (wrong)
      out.name = registered;
  }
  return out;
}

}  // namespace quell
