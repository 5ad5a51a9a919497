"""The machines: the local stack of servers and workers, containers, Kubernetes."""
