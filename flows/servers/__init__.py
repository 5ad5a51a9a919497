"""The servers of `cclm ui` and `cclm serve`, on loopback and with credentials."""
