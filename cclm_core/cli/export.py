"""The output of `cclm export`."""

from pathlib import Path

from cclm_core.composition.store import CARDS
from cclm_core.runtime.errors import ArtifactError
from cclm_core.runtime.extras import require
from cclm_core.runtime.terminal import printable_json, printed


def show_export(
    folder: Path,
    out: Path,
    base: Path,
    results: Path | None,
    license: str,
    remote_code: bool,
    drop_ngrams: bool,
    as_json: bool,
) -> None:
    """Exports a published model to Hugging Face's format, and prints what was written and how to load it.

    Args:
        folder: a published base, component, composition or task.
        out: the folder to write.
        base: the folder of the base; read for a component only.
        results: the folder of the evaluation, for the model card, if any.
        license: license of the model; "" if it is not stated.
        remote_code: whether to add the code of the model.
        drop_ngrams: whether to leave out the n-grams of a task.
        as_json: print one JSON object.

    Raises:
        MissingExtraError: transformers is not installed.
        CclmError: see `huggingface.export`.
    """
    require("transformers", "huggingface")
    from cclm_core.huggingface import export

    if not folder.is_dir():
        raise ArtifactError(f"{folder} not found. Name the folder of a base, a component, a composition or a task.")
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    needed = base if (folder / CARDS["component"]).is_file() else None
    model = export(
        folder, out, base=needed, remote_code=remote_code, results=results, license=license, drop_ngrams=drop_ngrams
    )
    name = type(model).__name__
    files = sorted(path.name for path in out.iterdir())
    if as_json:
        print(printable_json({"folder": str(out), "class": name, "remote_code": remote_code, "files": files}))
        return
    trust = ", trust_remote_code=True" if remote_code else ""
    auto = "AutoModel" + name.removeprefix("Cclm").removeprefix("Model")
    print(printed(f"Wrote {name} to {out} ({len(files)} files). Load it with:"))
    if not remote_code:
        print("    import cclm_core.huggingface")
    print(printed(f'    {auto}.from_pretrained("{out}"{trust})'))
    if not license:
        print("The model card states no license. Add --license, e.g. --license Apache-2.0.")
