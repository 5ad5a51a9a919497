"""The flow for workers without the shared disk: runs one stage in the worker's own clone."""

from prefect import flow, get_run_logger

from flows import environment
from flows.devices.slots import ensure_limit
from flows.project import Project
from flows.remote.clones import Order, train_in_clone


@flow(name="train-stage", persist_result=False)
def train_stage(
    stage: str,
    revision: str,
    lock: str,
    parent: str | None = None,
    tracked: bool = False,
    inputs: list[str] = [],  # noqa: B006 - the form's own type
) -> None:
    """Brings one stage up to date in a clone at the given commit, and pushes the result to DVC's remote.

    A pipeline with CCLM_TRAINING=workers starts this flow. Do not start it manually.

    Args:
        stage: Name of the stage in dvc.yaml.
        revision: Full hash of the git commit.
        lock: Content of the pipeline's dvc.lock.
        parent: MLflow run ID of the pipeline.
        tracked: Whether to track the stage in MLflow.
        inputs: Paths that the stage reads and that DVC does not fetch by itself.
    """
    project = Project.find()
    environment.apply(project)
    logger = get_run_logger()
    if message := ensure_limit():
        logger.warning(message)
    train_in_clone(project, Order(stage, revision, lock, parent, tracked, tuple(inputs)), logger.info)
