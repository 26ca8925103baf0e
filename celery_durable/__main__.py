"""``python -m celery_durable``: see it work before you use it."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m celery_durable", description="Durable orchestrations for Celery."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    demo = commands.add_parser(
        "demo",
        help="fulfil two orders, and kill a worker half-way",
        description=(
            "Fulfil two orders and kill the worker half-way. Needs no server; with the options"
            " below it runs on yours, with a queue, a key prefix and a schema or database of its"
            " own that it removes at the end."
        ),
    )
    demo.add_argument("--broker", metavar="URL", help="a Celery broker (default: the embedded one)")
    demo.add_argument(
        "--store", metavar="URL", help="an SQLAlchemy URL (default: an SQLite file that is removed)"
    )
    demo.add_argument("--backend", metavar="URL", help="a Celery result backend (default: none)")
    options = parser.parse_args(arguments)
    from .demo import run_demo

    return run_demo(options.broker, options.store, options.backend)


if __name__ == "__main__":
    sys.exit(main())
