"""`python -m cclm_core.cli` runs the command line."""

from cclm_core.cli.app import main

main()
