"""Registers the classes with the Auto classes of transformers."""

from importlib import import_module

import transformers
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from cclm_core.huggingface.configuration import CclmConfig
from cclm_core.huggingface.remote_code import AUTO_CLASSES
from cclm_core.huggingface.tokenizer import CclmTokenizer


def register() -> None:
    """Makes `AutoConfig`, `AutoTokenizer` and `AutoModel...` load folders of CCLM; can be called again."""
    transformers.AutoConfig.register(CclmConfig.model_type, CclmConfig, exist_ok=True)
    transformers.AutoTokenizer.register(CclmConfig, tokenizer_class=CclmTokenizer, exist_ok=True)
    # `Trainer` looks up the name of a class here, to shift the labels when it smooths them.
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES[CclmConfig.model_type] = "CclmForCausalLM"
    for auto, (module, name) in AUTO_CLASSES.items():
        if auto != "AutoConfig":
            model = getattr(import_module(f"cclm_core.huggingface.{module}"), name)
            getattr(transformers, auto).register(CclmConfig, model, exist_ok=True)
