"""`python -m infra.stack.register databases|users|pools`: prepares a server for its clients; repeatable."""

import os
import subprocess
import sys
from contextlib import closing, suppress

from flows.devices.slots import ensure_limit


def databases() -> None:
    """Creates the databases of CCLM_DATABASES that are missing."""
    import psycopg2  # type: ignore[import-untyped]

    for url in os.environ["CCLM_DATABASES"].split():
        server, _, name = url.rpartition("/")
        with closing(psycopg2.connect(f"{server}/postgres", connect_timeout=60)) as connection:
            connection.autocommit = True
            cursor = connection.cursor()
            cursor.execute("SELECT 1 FROM pg_database WHERE datname = %s", (name,))
            if cursor.fetchone() is None:
                cursor.execute(f"CREATE DATABASE \"{name}\" ENCODING 'UTF8' TEMPLATE template0")


def users() -> None:
    """Creates MLflow's user, or sets its current password, before MLflow's server starts."""
    from mlflow.server.auth.config import read_auth_config
    from mlflow.server.auth.sqlalchemy_store import SqlAlchemyStore

    name, password = os.environ["MLFLOW_TRACKING_USERNAME"], os.environ["MLFLOW_TRACKING_PASSWORD"]
    store = SqlAlchemyStore()
    store.init_db(read_auth_config().database_uri)
    if not store.has_user(name):
        store.create_user(name, password)
    store.update_user(name, password=password, is_admin=True)


def pools() -> None:
    """Creates Prefect's work pools, the limit of devices and the alerts; registers the deployments of prefect.yaml."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.actions import WorkPoolCreate
    from prefect.exceptions import ObjectAlreadyExists

    with get_client(sync_client=True) as client:
        for pool in ("cclm-cpu", "cclm-gpu"):
            with suppress(ObjectAlreadyExists):
                client.create_work_pool(WorkPoolCreate(name=pool, type="process"))
    print(ensure_limit() or "")
    subprocess.run([sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--all"], check=True)
    subprocess.run([sys.executable, "-m", "flows.deployments.alerts"], check=True)


if __name__ == "__main__":
    {"databases": databases, "users": users, "pools": pools}[sys.argv[1]]()
