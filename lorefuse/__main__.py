"""``python -m lorefuse``: the command line."""

from lorefuse.cli import main

main()
