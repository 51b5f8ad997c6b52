"""`python -m scratchcard` is the command line."""

from scratchcard.cli import main

main()
