"""The stage `report`: one HTML page about everything that the other stages have published."""

from pathlib import Path

from cclm_core.evaluation.promotion import PromotionConfig
from cclm_core.report import ANSWER, FILE
from cclm_core.report.page import render
from cclm_core.report.published import Collection
from cclm_core.runtime.artifacts import publishing, write_json, write_text
from cclm_core.runtime.reporting import Report
from cclm_core.steps.params import Params


def report(params: Params, data: Path, models: Path, results: Path, out: Path, progress: Report) -> None:
    """Publishes the page. It loads nothing, and has no time and no host in it, so equal inputs give equal bytes.

    Args:
        params: the parameters; reads the section `promotion`, for its margins.
        data: folder that contains the corpus, the encoded corpus, the noise sets and the labeled sets.
        models: folder that contains the base, the components, the compositions and the tasks.
        results: folder that contains the evaluations.
        out: folder to publish `report.html` at, and `answer.json`: its `lines` about what is better, and what to do
            `next`.
        progress: receives the number of maps.

    Raises:
        CclmError: an input is missing or damaged. `out` is not changed.
    """
    rules = params.section(PromotionConfig)
    page = render(Collection.find([data, models, results]), rules, progress)
    with publishing(out, "report") as folder:
        write_text(folder / FILE, page.html)
        write_json(folder / ANSWER, page.answer)
