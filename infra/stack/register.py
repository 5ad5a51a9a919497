"""`python -m infra.stack.register databases|users|pools`: what a server needs before others can use it; repeatable."""

import os
import subprocess
import sys
import time

from flows.devices.slots import ensure_limit

CONNECT_SECONDS = 60.0


def databases() -> None:
    """Creates those databases of CCLM_DATABASES that are missing; their server may still be starting."""
    import psycopg2  # type: ignore[import-untyped]

    deadline = time.monotonic() + CONNECT_SECONDS
    for url in os.environ["CCLM_DATABASES"].split():
        server, _, name = url.rpartition("/")
        while True:
            try:
                connection = psycopg2.connect(f"{server}/postgres", connect_timeout=5)
                break
            except psycopg2.OperationalError:  # its message has no password
                if time.monotonic() > deadline:
                    raise
                time.sleep(1)
        connection.autocommit = True
        cursor = connection.cursor()
        cursor.execute("SELECT 1 FROM pg_database WHERE datname = %s", (name,))
        if cursor.fetchone() is None:
            cursor.execute(f"CREATE DATABASE \"{name}\" ENCODING 'UTF8' TEMPLATE template0")
        connection.close()


def users() -> None:
    """Creates MLflow's user, or gives it the current password, before MLflow's server starts."""
    from mlflow.server.auth.config import read_auth_config
    from mlflow.server.auth.sqlalchemy_store import SqlAlchemyStore

    name, password = os.environ["MLFLOW_TRACKING_USERNAME"], os.environ["MLFLOW_TRACKING_PASSWORD"]
    store = SqlAlchemyStore()
    store.init_db(read_auth_config().database_uri)
    if store.has_user(name):
        store.update_user(name, password=password, is_admin=True)
    else:
        store.create_user(name, password, is_admin=True)


def pools() -> None:
    """Creates Prefect's work pools and the limit of devices, registers prefect.yaml's deployments."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.actions import WorkPoolCreate
    from prefect.exceptions import ObjectAlreadyExists

    with get_client(sync_client=True) as client:
        for pool in ("cclm-cpu", "cclm-gpu"):
            try:
                client.create_work_pool(WorkPoolCreate(name=pool, type="process"))
            except ObjectAlreadyExists:
                print(f"work pool {pool} exists")
    print(ensure_limit() or "")
    subprocess.run([sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--all"], check=True)


if __name__ == "__main__":
    {"databases": databases, "users": users, "pools": pools}[sys.argv[1]]()
