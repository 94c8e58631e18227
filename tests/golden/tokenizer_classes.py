#!/usr/bin/env python3
"""Writes tokenizer_classes.json: small vocabularies, settings beside them, and what transformers makes of them.

    python3 tests/golden/tokenizer_classes.py tests/golden/tokenizer_classes.json
"""
import json,os,shutil,sys
os.environ['TRANSFORMERS_VERBOSITY']='critical'
import logging; logging.disable(logging.CRITICAL)
from transformers import AutoTokenizer
from sentencepiece import sentencepiece_model_pb2 as pb
import tempfile
D=tempfile.mkdtemp()
WP=["[PAD]","[UNK]","[CLS]","[SEP]","[MASK]","<s>","</s>","<pad>","<mask>","<unk>","<cls>","<sep>","hello","world","##s","Hello","a","b","##b","caf","##e","##\u00e9","\u6f22","\u5b57","h","e","l","o","[","]","ent","##2","<",">",",","!","cafe"]
def byte_bpe(specials):
    from tokenizers import pre_tokenizers
    alpha=sorted(pre_tokenizers.ByteLevel.alphabet())
    v={}
    for s in specials: v[s]=len(v)
    for a in alpha:
        if a not in v: v[a]=len(v)
    merges=[('h','e'),('l','l'),('he','ll'),('hell','o'),('\u0120','w'),('o','r'),('\u0120w','or'),('l','d'),('\u0120wor','ld'),('1','2'),('\u0120','hello'),('\u0120','\u0120')]
    for a,b in merges: v.setdefault(a+b,len(v))
    return v,merges
GPT,MERGES=byte_bpe(["<|endoftext|>","<s>","</s>","<unk>","<pad>","<mask>","[CLS]","[SEP]","[PAD]","[UNK]","[MASK]"])
def word_bpe():
    v={}
    for s in ["<unk>","<s>","</s>","<pad>","<mask>","<|startoftext|>","<|endoftext|>"]: v[s]=len(v)
    for a in "helowrd12!,": 
        v[a]=len(v); v[a+'</w>']=len(v)
    m=[('h','e'),('l','l'),('he','ll'),('hell','o</w>'),('w','o'),('r','l')]
    for a,b in m: v.setdefault(a+b,len(v))
    return v,m
WB,WBM=word_bpe()
def uni(front,back=()):
    P=list(front)
    for s,x in (("\u2581",-3),("\u2581hello",-2),("\u2581world",-2.5),("\u2581he",-3),("ll",-3),("o",-4),("h",-5),("e",-5),("l",-5),("w",-5),("r",-5),("d",-5),("1",-5),("2",-5),("12",-4),("H",-5),(",",-4),("!",-4),("\u00e9",-6),("caf",-5),("s",-5)): P.append([s,x,1])
    return P+list(back)
def bpe_spm(front,extra=()):
    P=list(front)
    for s in ("\u2581","h","e","l","o","w","r","d","1","2",",","!"): P.append([s,0.0,1])
    for i,s in enumerate(("he","ll","hell","hello","\u2581hello","\u2581w","or","\u2581wor","ld","\u2581world","12","\u2581\u2581")): P.append([s,-float(i),1])
    P+=[["<0x%02X>"%b,0.0,6] for b in (0x0A,0x3C,0x3E,0xC3,0xA9,0x74,0x61,0x62,0x63,0x70)]
    return P+list(extra)
U=["<unk>",0.0,2]; S=["<s>",0.0,3]; E=["</s>",0.0,3]
def spm(pieces,unigram=True,byte_fallback=False,dummy=True,extra_ws=True,ids=(0,1,2)):
    return {"pieces":pieces,"unigram":unigram,"byte_fallback":byte_fallback,"add_dummy_prefix":dummy,"remove_extra_whitespaces":extra_ws,"unk_id":ids[0],"bos_id":ids[1],"eos_id":ids[2]}
def write_spm(m,path):
    p=pb.ModelProto()
    for t,s,k in m["pieces"]: q=p.pieces.add(); q.piece=t; q.score=s; q.type=k
    p.trainer_spec.model_type=1 if m["unigram"] else 2; p.trainer_spec.byte_fallback=m["byte_fallback"]; p.trainer_spec.unk_id,p.trainer_spec.bos_id,p.trainer_spec.eos_id=m["unk_id"],m["bos_id"],m["eos_id"]
    p.normalizer_spec.add_dummy_prefix=m["add_dummy_prefix"]; p.normalizer_spec.remove_extra_whitespaces=m["remove_extra_whitespaces"]
    open(path,'wb').write(p.SerializeToString())
V={
 "word_piece":{"vocab.txt":"\n".join(WP)+"\n"},
 "bytes":{"vocab.json":GPT,"merges.txt":"#version: 0.2\n"+"\n".join("%s %s"%m for m in MERGES)+"\n"},
 "words":{"vocab.json":WB,"merges.txt":"#version: 0.2\n"+"\n".join("%s %s"%m for m in WBM)+"\n"},
 "llama":spm(bpe_spm([U,S,E]),False,True,True,False),
 "llama_user":spm(bpe_spm([U,S,E],[["<fim>",0.0,4],["<ctl>",0.0,3]]),False,True),
 "gemma":spm(bpe_spm([["<pad>",0.0,3],["<eos>",0.0,3],["<bos>",0.0,3],["<unk>",0.0,2],["<mask>",0.0,4]]),False,True,False,False,(3,2,1)),
 "albert":spm(uni([["<pad>",0.0,3],["<unk>",0.0,2],["[CLS]",0.0,3],["[SEP]",0.0,3],["[MASK]",0.0,3]]),ids=(1,-1,-1)),
 "t5":spm(uni([["<pad>",0.0,3],["</s>",0.0,3],["<unk>",0.0,2]]),ids=(2,-1,1)),
 "xlnet":spm(uni([U,S,E,["<cls>",0.0,3],["<sep>",0.0,3],["<pad>",0.0,3],["<mask>",0.0,3],["<eop>",0.0,4]])),
 "fairseq":spm(uni([U,S,E])),
 "deberta":spm(uni([["[PAD]",0.0,3],["[CLS]",0.0,3],["[SEP]",0.0,3],["[UNK]",0.0,2]]),ids=(3,1,2)),
 "big_bird":spm(uni([U,S,E,["<pad>",0.0,3],["[SEP]",0.0,3],["[MASK]",0.0,3],["[CLS]",0.0,3]])),
}
T=["hello world","  Hello,  hello 1212!","caf\u00e9 [MASK] <mask> \u6f22\u5b57\n[ENT] <ent2> Quux"]
P=["hello","world 12"]
cases=[]
def case(name,vocab,model_type,file=None,config=None,extra=None):
    shutil.rmtree(D,ignore_errors=True); os.makedirs(D)
    files=dict(extra or {})
    if config is not None: files["tokenizer_config.json"]=config
    if model_type: files["config.json"]={"model_type":model_type}
    v=V[vocab]
    if file: write_spm(v,D+'/'+file)
    else:
        for n,c in v.items(): open(D+'/'+n,'w').write(c if isinstance(c,str) else json.dumps(c))
    for n,c in files.items(): json.dump(c,open(D+'/'+n,'w'))
    a=AutoTokenizer.from_pretrained(D)
    def row(t): i=a(t)['input_ids']; return {"text":t,"ids":i,"decoded":a.decode(i,skip_special_tokens=True)}
    e=a(P[0],P[1],return_token_type_ids=True)
    cases.append({"name":name,"vocabulary":vocab,"model_file":file or "","files":files,"texts":[row(t) for t in T],"pair":{"ids":e['input_ids'],"type_ids":e['token_type_ids']}})
def both(cls,vocab,mt,file=None,**c):
    base=cls.replace('Tokenizer','')
    case(base,vocab,mt,file,{"tokenizer_class":cls,**c}); 
W='word_piece'
for cls,mt in (("BertTokenizer","bert"),("DistilBertTokenizerFast","distilbert"),("ElectraTokenizer","electra"),("MPNetTokenizer","mpnet"),("FunnelTokenizer","funnel")): both(cls,W,mt)
case("BertByModelType",W,"bert"); case("NomicByModelType",W,"nomic_bert")
case("BertCased",W,"bert",None,{"tokenizer_class":"BertTokenizer","do_lower_case":False}); case("BertAccentsAndChinese",W,"bert",None,{"tokenizer_class":"BertTokenizerFast","strip_accents":False,"tokenize_chinese_chars":False})
case("BertJapaneseCharacter",W,"bert",None,{"tokenizer_class":"BertJapaneseTokenizer","word_tokenizer_type":"basic","subword_tokenizer_type":"character"})
for cls,mt in (("GPT2Tokenizer","gpt2"),("GPTNeoXTokenizerFast","gpt_neox"),("CodeGenTokenizer","phi"),("RobertaTokenizer","roberta"),("BartTokenizer","bart"),("LongformerTokenizerFast","longformer"),("DebertaTokenizer","deberta"),("BlenderbotTokenizer","blenderbot"),("Qwen2Tokenizer","qwen2")): both(cls,"bytes",mt)
case("GPT2PrefixAndBos","bytes","gpt2",None,{"tokenizer_class":"GPT2Tokenizer","add_prefix_space":True,"add_bos_token":True}); case("OptByModelType","bytes","opt",None,{"bos_token":"</s>","add_bos_token":True})
for cls,mt in (("CLIPTokenizer","clip"),("HerbertTokenizer","herbert"),("OpenAIGPTTokenizer","openai-gpt")): both(cls,"words",mt)
case("Llama","llama","llama","tokenizer.model",{"tokenizer_class":"LlamaTokenizer","add_bos_token":True}); case("LlamaLegacy","llama","llama","tokenizer.model",{"tokenizer_class":"LlamaTokenizerFast","legacy":True,"add_bos_token":True,"add_eos_token":True})
case("LlamaNoPrefix","llama","llama","tokenizer.model",{"tokenizer_class":"LlamaTokenizer","add_prefix_space":False}); case("LlamaByModelType","llama_user","llama","tokenizer.model",{"add_bos_token":True})
case("CodeLlama","llama",None,"tokenizer.model",{"tokenizer_class":"CodeLlamaTokenizer"}); case("MistralAsLlama","llama_user","mistral","tokenizer.model",{"tokenizer_class":"LlamaTokenizer","add_bos_token":True})
case("Gemma","gemma","gemma","tokenizer.model",{"tokenizer_class":"GemmaTokenizer","add_bos_token":True})
case("Albert","albert","albert","spiece.model",{"tokenizer_class":"AlbertTokenizer"}); case("AlbertKeepsAccents","albert","albert","spiece.model",{"keep_accents":True,"do_lower_case":False})
case("T5","t5","t5","spiece.model",{"tokenizer_class":"T5TokenizerFast","extra_ids":5}); case("XLNet","xlnet","xlnet","spiece.model",{"tokenizer_class":"XLNetTokenizer"})
case("Camembert","fairseq","camembert","sentencepiece.bpe.model",{"tokenizer_class":"CamembertTokenizer"}); case("XLMRoberta","fairseq","xlm-roberta","sentencepiece.bpe.model",{"tokenizer_class":"XLMRobertaTokenizerFast"})
case("MBart","fairseq","mbart","sentencepiece.bpe.model",{"tokenizer_class":"MBartTokenizer","src_lang":"ro_RO"}); case("MBart50","fairseq","mbart","sentencepiece.bpe.model",{"tokenizer_class":"MBart50Tokenizer","src_lang":"af_ZA"})
case("DebertaV2ByModelType","deberta","deberta-v2","spm.model",{"vocab_type":"spm"}); case("DebertaV2Lower","deberta","deberta-v2","spm.model",{"tokenizer_class":"DebertaV2Tokenizer","do_lower_case":True,"split_by_punct":True})
# added and special tokens
A=lambda c,**k:{"content":c,"lstrip":False,"rstrip":False,"single_word":False,"normalized":False,"special":True,**k}
case("AddedTokensJson",W,"bert",None,{"tokenizer_class":"BertTokenizer"},{"added_tokens.json":{"[ENT]":37,"<ent2>":38}})
case("AddedTokensDecoder",W,"bert",None,{"tokenizer_class":"BertTokenizer","added_tokens_decoder":{"37":A("[ENT]"),"40":A("<ent2>",lstrip=True),"41":A("Quux",special=False,normalized=True,single_word=True)}})
case("AdditionalSpecialTokens",W,"bert",None,{"tokenizer_class":"BertTokenizer","additional_special_tokens":["[ENT]",{"__type":"AddedToken",**A("<ent2>",rstrip=True)}]})
case("ExtraSpecialTokensByName",W,"bert",None,{"tokenizer_class":"BertTokenizer","extra_special_tokens":{"entity_token":"[ENT]"},"other_token":"<ent2>"})
case("SpecialTokensMap",W,"bert",None,{"tokenizer_class":"BertTokenizer"},{"special_tokens_map.json":{"mask_token":{"content":"<mask>","lstrip":True,"rstrip":False,"single_word":False,"normalized":False},"cls_token":"<s>","additional_special_tokens":["[ENT]"]}})
case("NamedTokensAsObjects",W,"bert",None,{"tokenizer_class":"BertTokenizer","sep_token":{"__type":"AddedToken",**A("</s>")},"cls_token":"<s>","pad_token":"<newpad>"})
case("SplitSpecialTokens","bytes","gpt2",None,{"tokenizer_class":"GPT2Tokenizer","split_special_tokens":True,"bos_token":"<mask>"})
case("CleanUpSpaces","fairseq","xlm-roberta","sentencepiece.bpe.model",{"tokenizer_class":"XLMRobertaTokenizer","clean_up_tokenization_spaces":True})
# the same beside tokenizer.json
def with_json(name,vocab,mt,file,config,change,extra=None,drop=()):
    shutil.rmtree(D,ignore_errors=True); os.makedirs(D)
    if file: write_spm(V[vocab],D+'/'+file)
    else:
        for n,c in V[vocab].items(): open(D+'/'+n,'w').write(c if isinstance(c,str) else json.dumps(c))
    json.dump(config,open(D+'/tokenizer_config.json','w')); json.dump({"model_type":mt},open(D+'/config.json','w'))
    a=AutoTokenizer.from_pretrained(D); j=json.loads(a.backend_tokenizer.to_str())
    shutil.rmtree(D); os.makedirs(D)
    files={"tokenizer.json":j,"tokenizer_config.json":change,"config.json":{"model_type":mt},**(extra or {})}
    for n,c in files.items(): json.dump(c,open(D+'/'+n,'w'))
    a=AutoTokenizer.from_pretrained(D)
    def row(t): i=a(t)['input_ids']; return {"text":t,"ids":i,"decoded":a.decode(i,skip_special_tokens=True)}
    e=a(P[0],P[1],return_token_type_ids=True)
    cases.append({"name":name,"vocabulary":"","model_file":"","files":files,"texts":[row(t) for t in T],"pair":{"ids":e['input_ids'],"type_ids":e['token_type_ids']}})
BT={"tokenizer_class":"BertTokenizer"}
with_json("JsonLowerCase",W,"bert",None,BT,{"tokenizer_class":"BertTokenizerFast","do_lower_case":False})
with_json("JsonAccentsAndChinese",W,"bert",None,BT,{**BT,"strip_accents":False,"tokenize_chinese_chars":False})
with_json("JsonAddedTokensDecoder",W,"bert",None,BT,{**BT,"added_tokens_decoder":{"37":A("[ENT]")}})
with_json("JsonAddedTokensJson",W,"bert",None,BT,BT,{"added_tokens.json":{"<ent2>":37}})
with_json("JsonPlainClass",W,"bert",None,BT,{"tokenizer_class":"PreTrainedTokenizerFast","do_lower_case":False,"additional_special_tokens":["[ENT]"],"mask_token":"<mask>"},{"special_tokens_map.json":{"pad_token":"<newpad>"}})
with_json("JsonPrefixSpace","bytes","gpt2",None,{"tokenizer_class":"GPT2Tokenizer"},{"tokenizer_class":"GPT2Tokenizer","add_prefix_space":True,"add_bos_token":True})
with_json("JsonLlamaLegacy","llama","llama","tokenizer.model",{"tokenizer_class":"LlamaTokenizer","add_bos_token":True},{"tokenizer_class":"LlamaTokenizer","legacy":True,"add_eos_token":True})
with_json("JsonXLMRoberta","fairseq","xlm-roberta","sentencepiece.bpe.model",{"tokenizer_class":"XLMRobertaTokenizer"},{"tokenizer_class":"XLMRobertaTokenizer","add_prefix_space":False})
out={"made_with":"transformers 5.24.0, tokenizers 0.23.3","vocabularies":V,"cases":cases}
s=json.dumps(out,ensure_ascii=True,separators=(',',':'))
# one case a line
s='{"made_with":%s,\n"vocabularies":{\n%s\n},\n"cases":[\n%s\n]}\n'%(json.dumps(out["made_with"]),',\n'.join(json.dumps(k)+':'+json.dumps(v,separators=(',',':')) for k,v in V.items()),',\n'.join(json.dumps(c,separators=(',',':')) for c in cases))
open(sys.argv[1],'w').write(s); print(len(cases),len(s))
