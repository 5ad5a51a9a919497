"""CCLM in Hugging Face transformers: `import cclm_core.huggingface` registers the Auto classes.

```
from_cclm, to_cclm      convert a model, a fitted pretrainer or a published folder, and back
export                  write a folder for `from_pretrained`, with tokenizer and model card
tokenizer_from          the tokenizer of a vocabulary
align_word_labels       labels of words as labels of characters; chars_to_words is the reverse
```
"""

from cclm_core.runtime.extras import require

require("transformers", "huggingface")

from cclm_core.huggingface.classifiers import CclmForSequenceClassification, CclmForTokenClassification  # noqa: E402
from cclm_core.huggingface.configuration import CclmConfig, config_of  # noqa: E402
from cclm_core.huggingface.convert import from_cclm, to_cclm, tokenizer_of  # noqa: E402
from cclm_core.huggingface.export import export  # noqa: E402
from cclm_core.huggingface.language_models import CclmForCausalLM, CclmForMaskedLM  # noqa: E402
from cclm_core.huggingface.modeling import CclmModel  # noqa: E402
from cclm_core.huggingface.registration import register  # noqa: E402
from cclm_core.huggingface.tokenizer import CclmTokenizer, tokenizer_from  # noqa: E402
from cclm_core.huggingface.words import align_word_labels, chars_to_words  # noqa: E402

__all__ = [
    "CclmConfig",
    "CclmForCausalLM",
    "CclmForMaskedLM",
    "CclmForSequenceClassification",
    "CclmForTokenClassification",
    "CclmModel",
    "CclmTokenizer",
    "align_word_labels",
    "chars_to_words",
    "config_of",
    "export",
    "from_cclm",
    "to_cclm",
    "tokenizer_from",
    "tokenizer_of",
]

register()
