"""MLflow's user: `python -m flows.stack.accounts` makes it, or gives it the password that the stack's clients have."""

import os


def main() -> None:
    """Brings MLflow's table of users up to date, before its server starts."""
    from mlflow.server.auth.config import read_auth_config
    from mlflow.server.auth.sqlalchemy_store import SqlAlchemyStore

    name, password = os.environ["MLFLOW_TRACKING_USERNAME"], os.environ["MLFLOW_TRACKING_PASSWORD"]
    store = SqlAlchemyStore()
    store.init_db(read_auth_config().database_uri)
    if store.has_user(name):
        store.update_user(name, password=password, is_admin=True)
    else:
        store.create_user(name, password, is_admin=True)


if __name__ == "__main__":
    main()
