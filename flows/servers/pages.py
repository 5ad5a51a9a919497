"""`python -m flows.servers.pages DATABASE PORT`: MLflow's pages and API, behind `Guard`.

`mlflow ui` cannot ask for a password without a second database of users and another package, so its application runs
here, in one process, with the token of `CCLM_UI_TOKEN` as the password.
"""

import os
import sys

from flows.servers.guard import USER, Guard, bound_socket

TOKEN_VARIABLE = "CCLM_UI_TOKEN"


def main(database: str, port: int) -> int:
    """Serves MLflow's pages until SIGINT or SIGTERM; returns the exit code.

    Args:
        database: the URI of MLflow's store, `sqlite:///...`.
        port: on 127.0.0.1.
    """
    try:
        socket = bound_socket(port)
    except OSError as error:
        print(f"error: port {port} must be free: {error.strerror}. Choose another one with --port.", file=sys.stderr)
        return 2
    import uvicorn
    from mlflow.server.constants import BACKEND_STORE_URI_ENV_VAR, REGISTRY_STORE_URI_ENV_VAR

    # Its application reads them when it is imported. Jobs would need a task queue; this project has none.
    os.environ |= {BACKEND_STORE_URI_ENV_VAR: database, REGISTRY_STORE_URI_ENV_VAR: database}
    os.environ["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] = "false"
    os.environ.setdefault("MLFLOW_ENABLE_AI_GATEWAY", "false")  # pages and API for chat models, which are not used here
    from mlflow.server.fastapi_app import app
    from mlflow.server.handlers import initialize_backend_stores

    initialize_backend_stores(database, database, None)
    guarded = Guard(app, os.environ[TOKEN_VARIABLE])
    print(f"ready; user {USER}", file=sys.stderr, flush=True)
    uvicorn.Server(uvicorn.Config(guarded, log_level="error", timeout_graceful_shutdown=3)).run(sockets=[socket])
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2])))
