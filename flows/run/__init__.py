"""Running the pipeline: the chain from `cclm run` over Prefect and DVC to the process of one stage.

```
command       `cclm run`, `cclm retrain`, `cclm push`
pipeline      the flow; tasks: what it runs
dvc_repro     one task -> `dvc repro -s STAGE`
stage_runner  DVC -> `python -m flows.stage ...` -> the stage's own process
```
"""
