"""Kinds of models by `model_type` of their config: those that can be trained, for services without transformers.

A test compares the two lists with what the installed transformers calls causal language models.
"""

from __future__ import annotations

_TRAINABLE = """
    afmoe apertus arcee aria_text axk1 axk2 bamba biogpt bitnet bloom blt codegen cohere cohere2 cohere2_moe
    cohere_compass_text cpmant ctrl cwm dbrx deepseek_v2 deepseek_v3 deepseek_v32 deepseek_v4 diffllama doge dots1
    ernie4_5 ernie4_5_moe exaone4 exaone_moe falcon falcon_h1 falcon_mamba flex_olmo gemma gemma2 gemma3 gemma3_text
    gemma3n gemma3n_text gemma4 gemma4_assistant gemma4_text gemma4_unified gemma4_unified_assistant
    gemma4_unified_text glm glm4 glm4_moe glm4_moe_lite glm_moe_dsa gpt-sw3 gpt2 gpt_bigcode gpt_neo gpt_neox
    gpt_neox_japanese gpt_oss gptj granite granite_swa granitemoe granitemoe_swa granitemoehybrid granitemoeshared
    helium hrm_text hunyuan_v1_dense hunyuan_v1_moe hy_v3 hy_v4 hyperclovax inkling_text jais2 jamba jetmoe
    kimi_linear laguna lfm2 lfm2_moe llama llama4 llama4_text longcat_flash mamba mamba2 mellum mimo_v2_flash
    minicpm3 minimax minimax_m2 minimax_m3_vl_text ministral ministral3 mistral mixtral modernbert-decoder mpt
    nanochat nemotron nemotron_h olmo olmo2 olmo3 olmo_hybrid olmoe openai-gpt opt persimmon phi phi3
    phi4_multimodal phimoe qwen2 qwen2_moe qwen3 qwen3_5 qwen3_5_moe qwen3_5_moe_text qwen3_5_text qwen3_moe
    qwen3_next qwen4_exp qwen4_exp_text recurrent_gemma rwkv seed_oss smollm3 solar_open stablelm starcoder2
    vaultgemma xglm xlstm youtu zamba zamba2 zaya
    """
TRAINABLE = frozenset(_TRAINABLE.split())
"""Decoders that write one token after the other."""

_NO_POLICIES = """
    bart bert bert-generation big_bird bigbird_pegasus blenderbot blenderbot-small camembert data2vec-text electra
    emu3 ernie fuyu git got_ocr2 marian mbart megatron-bert mllama moshi musicgen musicgen_melody mvp pegasus plbart
    prophetnet reformer rembert roberta roberta-prelayernorm roc_bert roformer trocr whisper xlm xlm-roberta
    xlm-roberta-xl xlnet xmod
    """
NO_POLICIES = frozenset(_NO_POLICIES.split())
"""transformers gives these a head for words too, but they read both ways, translate, or need an image or a sound."""
