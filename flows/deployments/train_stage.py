"""The flow of a worker without the shared disk: one stage, in its own clone."""

from prefect import flow, get_run_logger

from flows import environment
from flows.devices.slots import ensure_limit
from flows.project import Project
from flows.remote.clones import Order, train_in_clone


@flow(name="train-stage", persist_result=False)
def train_stage(stage: str, revision: str, lock: str, parent: str | None = None, tracked: bool = False) -> None:
    """Brings one stage up to date in a clone at a revision, and pushes the result to DVC's remote.

    Started by a pipeline that runs with CCLM_TRAINING=workers, not manually.

    Args:
        stage: Its name in dvc.yaml.
        revision: The full git commit.
        lock: The content of the requesting clone's dvc.lock.
        parent: The pipeline's run in MLflow.
        tracked: Whether to track the stage in MLflow.
    """
    project = Project.find()
    environment.apply(project)
    logger = get_run_logger()
    if message := ensure_limit():
        logger.warning(message)
    train_in_clone(project, Order(stage, revision, lock, parent, tracked), logger.info)
