"""``python -m lorefuse`` and the command ``lorefuse``."""

import sys


def main() -> None:
    """Run the command line, where its packages are there: the client alone is installed without them."""
    try:
        from lorefuse.cli.main import main as run
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("lorefuse"):
            raise
        print(f"The command line needs the package {error.name}.\n  fix: pip install 'lorefuse[all]'", file=sys.stderr)
        sys.exit(2)
    run()


if __name__ == "__main__":
    main()
