"""The local stack: PostgreSQL, Prefect's server, MLflow's server and the workers, kept running by one supervisor.

```
infra/stack.yaml   what runs, in which order, how its health is asked
config.py          that file as a checked configuration
credentials.py     user names, passwords and ports, made once
database.py        a PostgreSQL cluster of our own, or the one that CCLM_DATABASE_URL names
supervisor.py      starts, watches, restarts and stops the services (service.py, health.py, logs.py)
state.py           what the supervisor tells: files under .cclm/stack
control.py         up, down, status: what `cclm stack` does (cli.py)
accounts.py        MLflow's user
pools.py           Prefect's work pools, the limit of devices, the deployments
```

No library fits. Of those that are alive, supervisor 4.3.0 starts in an order but waits for no health, and leaves what a
killed process had started; honcho 2.0.0 restarts nothing; circus 0.19.0 knows no health either.
"""
