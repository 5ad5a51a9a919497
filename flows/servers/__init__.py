"""The servers of `cclm ui` and `cclm serve`: on loopback, with credentials. Their processes do not import `cclm_core`."""
