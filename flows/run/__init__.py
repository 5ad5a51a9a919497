"""Running the pipeline: from the Prefect flow through DVC to the process of a stage.

```
pipeline      the Prefect flow, which runs the tasks in `tasks`
dvc_repro     task -> `dvc repro -s STAGE`
stage_runner  DVC -> `python -m flows.stage ...` -> the process of the stage
```
"""
