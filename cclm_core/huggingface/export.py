"""Exports a model to a folder for `from_pretrained`: configuration, weights, tokenizer, model card, and its code."""

import copy
from pathlib import Path

from cclm_core import __version__
from cclm_core.cards import Facts, facts_of, render
from cclm_core.composition.store import kind_of
from cclm_core.finetuning.store import CARD as TASK_CARD
from cclm_core.finetuning.store import KIND as TASK
from cclm_core.huggingface.convert import Source, from_cclm, tokenizer_of
from cclm_core.huggingface.language_models import CclmForCausalLM, CclmForMaskedLM
from cclm_core.huggingface.modeling import CclmPreTrainedModel
from cclm_core.huggingface.remote_code import auto_map, write_code
from cclm_core.huggingface.tokenizer import CclmTokenizer
from cclm_core.runtime.artifacts import MANIFEST, publishing, read_json, write_text
from cclm_core.runtime.errors import ArtifactError
from cclm_core.runtime.files import StrPath, as_path

KIND = "huggingface"
"""The kind of artifact in the manifest."""

_PIPELINES = {
    "CclmModel": "feature-extraction",
    "CclmForMaskedLM": "fill-mask",
    "CclmForCausalLM": "text-generation",
    "CclmForSequenceClassification": "text-classification",
    "CclmForTokenClassification": "token-classification",
}


def export(
    source: CclmPreTrainedModel | Source,
    folder: StrPath,
    *,
    base: StrPath | None = None,
    remote_code: bool = False,
    results: StrPath | None = None,
    license: str = "",
    drop_ngrams: bool = False,
    tokenizer: CclmTokenizer | None = None,
) -> CclmPreTrainedModel:
    """Writes config.json, model.safetensors, tokenizer.json, tokenizer_config.json and the model card README.md.

    The folder is replaced as a whole, and manifest.json has the digest of every file.

    Args:
        source: a model of transformers, e.g. after fine-tuning, or what `from_cclm` takes.
        folder: a new folder, an empty one, or an earlier export.
        base: the folder of the base, for the folder of a component.
        remote_code: whether to add the code of the model, so that `trust_remote_code=True` loads it where this package
            is not installed. It needs torch, transformers and pydantic.
        results: the folder of the evaluation, output of the stage `evaluate`, for the model card.
        license: license of the model, preferably an SPDX expression.
        drop_ngrams: see `from_cclm`.
        tokenizer: None for `tokenizer_of(model)`.

    Returns:
        The exported model.

    Raises:
        ArtifactError: `folder` holds other files, or an input is missing or damaged.
        CclmError: see `from_cclm`.
    """
    target = as_path(folder)
    _check_replaceable(target)
    if isinstance(source, CclmPreTrainedModel):
        model, origin = source, None
    else:
        model = from_cclm(source, base=base, drop_ngrams=drop_ngrams)
        origin = as_path(source) if isinstance(source, str | Path) else None
    facts = _facts(model, target.name, origin, None if results is None else as_path(results), license, remote_code)
    with publishing(target, KIND) as temporary:
        model.save_pretrained(temporary)
        (tokenizer_of(model) if tokenizer is None else tokenizer).save_pretrained(temporary)
        if remote_code:
            config = copy.deepcopy(model.config)
            config.auto_map = auto_map()
            config.save_pretrained(temporary)
            write_code(temporary, __version__)
        write_text(temporary / "README.md", render(facts, front_matter=True))
    return model


def _check_replaceable(folder: Path) -> None:
    """Refuses a folder with files that `export` did not write, since they would be deleted."""
    if not folder.is_dir() or not any(folder.iterdir()):
        return
    manifest = read_json(folder / MANIFEST) if (folder / MANIFEST).is_file() else {}
    if not isinstance(manifest, dict) or manifest.get("kind") != KIND:
        raise ArtifactError(f"{folder} must be empty or hold an earlier export, but has other files. Choose another.")


def _facts(
    model: CclmPreTrainedModel, name: str, origin: Path | None, results: Path | None, license: str, remote_code: bool
) -> Facts:
    encoder = model.base_model.encoder
    known = Facts(name=name, kind="model") if origin is None else facts_of(origin, _kind(origin), results)
    architecture = type(model).__name__
    size = sum(parameter.numel() for parameter in model.parameters())
    parts = {"parts": ", ".join(encoder.parts)} if hasattr(encoder, "parts") else {}
    return Facts(
        name=known.name,
        kind=known.kind,
        description="A language model of characters, trained with CCLM.",
        license=license,
        about={
            "class": architecture,
            "encoder": encoder.described,
            "parameters": f"{size:,}",
            "features per character": str(encoder.width),
            "alphabet": f"{len(encoder.preprocessor.alphabet)} characters",
            **parts,
            **known.about,
        },
        digests={"encoder": encoder.digest, "vocabulary": encoder.preprocessor.digest} | dict(known.digests),
        scores=known.scores,
        curve=known.curve,
        metrics=known.metrics,
        limits=[*_limits(model), *_without_ngrams(origin), *known.limits],
        usage=_usage(model, name, remote_code),
        configuration=known.configuration,
        tags=("cclm", "character-level"),
        pipeline=_PIPELINES[architecture],
    )


def _kind(folder: Path) -> str:
    return TASK if (folder / TASK_CARD).is_file() else kind_of(folder)


def _limits(model: CclmPreTrainedModel) -> list[str]:
    """What holds for all models of a class."""
    alphabet = model.base_model.encoder.preprocessor.alphabet
    limits = [
        f"It knows {len(alphabet)} characters. It reads all others as bytes, without having seen many of them.",
        "It was trained on the texts described under data and origin, and reflects their language and their biases.",
    ]
    if isinstance(model, CclmForMaskedLM):
        limits.append("It fills in single characters. For a longer gap, write one [MASK] per character.")
    if isinstance(model, CclmForCausalLM):
        limits.append(f"It reads the last {model.config.context_length or 'all'} ids of a text when it generates.")
    return limits


def _without_ngrams(folder: Path | None) -> list[str]:
    """What the export of a task with n-grams lacks."""
    if folder is None or not (folder / TASK_CARD).is_file() or not read_json(folder / TASK_CARD)["ngram_weight"]:
        return []
    return ["It is the network alone, without the character n-grams that it was measured with."]


def _usage(model: CclmPreTrainedModel, name: str, remote_code: bool) -> str:
    task = _PIPELINES[type(model).__name__]
    text = {"fill-mask": "To be or n[MASK]t to be"}.get(task, "To be or not to be")
    register, trust = ("", ", trust_remote_code=True") if remote_code else ("import cclm_core.huggingface\n", "")
    return f"{register}from transformers import pipeline\n\nrun = pipeline({task!r}, {name!r}{trust})\nrun({text!r})"
