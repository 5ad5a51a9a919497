"""Running the pipeline: the chain from Prefect over DVC to the process of one stage.

```
pipeline      the flow; tasks: what it runs
dvc_repro     one task -> `dvc repro -s STAGE`
stage_runner  DVC -> `python -m flows.stage ...` -> the stage's own process
```
"""
