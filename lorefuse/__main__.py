"""``python -m lorefuse``: the command line."""

from lorefuse.cli.main import main

main()
