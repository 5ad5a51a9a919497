"""The local stack: PostgreSQL, Prefect's server, MLflow's server and the workers, run by supervisord.

```
../stack.conf  the services in start order: supervisord's own configuration, with a few keys for the keeper
__main__.py    up, down, ps
settings.py    the environment of the services: ports, addresses, passwords generated once
database.py    our own PostgreSQL cluster, an external server, or SQLite
register.py    what a server needs before others can use it: databases, MLflow's user, Prefect's work pools
keeper.py      runs under supervisord: starts services in order, restarts those that no longer respond
processes.py   finds and ends the processes of a stack
```
"""
