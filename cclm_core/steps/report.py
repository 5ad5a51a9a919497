"""The stage `report`: HTML pages about everything that the other stages have published."""

from pathlib import Path

from cclm_core.evaluation.promotion import PromotionConfig
from cclm_core.report import ANSWER, FILE, KIND
from cclm_core.report.page import render
from cclm_core.report.published import Collection
from cclm_core.runtime.artifacts import publishing, write_json, write_text
from cclm_core.runtime.reporting import Report
from cclm_core.steps.params import Params


def report(params: Params, data: Path, models: Path, results: Path, out: Path, progress: Report) -> None:
    """Publishes the pages. They load nothing, and have no time and no host in them, so equal inputs give equal bytes.

    ```
    report.html               compares all models
    compositions/NAME.html    a page for each measured composition, task and ensemble
    tasks/NAME.html
    ensembles/NAME.html
    answer.json               `lines` about what is better, and what to do `next`
    ```

    Args:
        params: the parameters; reads the section `promotion`, for its margins.
        data: folder that contains the corpus, the encoded corpus, the noise sets and the labeled sets.
        models: folder that contains the base, the components, the compositions and the tasks.
        results: folder that contains the evaluations.
        out: folder to publish the pages at.
        progress: receives the number of maps.

    Raises:
        CclmError: an input is missing or damaged. `out` is not changed.
    """
    rules = params.section(PromotionConfig)
    page = render(Collection.find([data, models, results]), rules, progress)
    with publishing(out, KIND) as folder:
        write_text(folder / FILE, page.html)
        for name, html in page.pages.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            write_text(folder / name, html)
        write_json(folder / ANSWER, page.answer)
