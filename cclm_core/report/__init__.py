"""HTML pages about everything that a run has published, made from the published folders alone.

```
published.py     the published folders, their cards and how they belong together
differences.py   how two models differ in their metrics, with intervals
findings.py      which composition and which task is best, and what to do next
charts.py        charts as inline SVG
pipeline.py      the graph of the pipeline
data.py          the data and the vocabulary
scores.py        comparisons, learning curves, noise curves, contributions
mistakes.py      confused labels and wrong examples
maps.py          the map of the embedded test texts
lineage.py       what was made from what, and how to make it again
rendering.py     templates to pages
model_page.py    the page of one composition, task or ensemble
page.py          the page that compares all models
```

A page loads nothing: charts, styles and the script are in it. Without its script, everything is still readable; the
script sorts tables, shows tooltips and zooms.
"""

from pathlib import PurePosixPath

KIND = "report"
"""Kind of a published report."""

FILE, ANSWER = "report.html", "answer.json"
"""The files of a published report, next to the pages of the models."""

FACTS_PLACE = '<script type="application/json" id="run">null</script>'
"""Where the pipeline puts facts about the run, such as times, into a copy of the page."""


def page_of(path: str) -> str:
    """The file of a model's page in the folder of the report.

    Args:
        path: the model's folder, relative to the project.

    >>> page_of("models/compositions/full")
    'compositions/full.html'
    """
    return f"{PurePosixPath(*PurePosixPath(path).parts[1:])}.html"
