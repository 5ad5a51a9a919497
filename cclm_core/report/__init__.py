"""One HTML page about everything that a run has published, made from the published folders alone.

```
published.py     the published folders, their cards and how they belong together
differences.py   how two models differ in their metrics, with intervals
findings.py      which composition and which task is best, and what to do next
charts.py        charts as inline SVG
pipeline.py      the graph of the pipeline
data.py          the data and the vocabulary
scores.py        comparisons, learning curves, noise curves, contributions
mistakes.py      confused labels and wrong examples
maps.py          the maps of the embedded test texts and of their authors
page.py          the page
```

The page loads nothing: charts, styles and the script are in it. Without its script, everything is still readable; the
script sorts tables, shows tooltips and zooms.
"""

FILE, ANSWER = "report.html", "answer.json"
"""The files of a published report."""

FACTS_PLACE = '<script type="application/json" id="run">null</script>'
"""Where the pipeline puts facts about the run, such as times, into a copy of the page."""
