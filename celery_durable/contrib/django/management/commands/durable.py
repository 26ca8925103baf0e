"""``manage.py durable ...``: the command group of ``celery durable``, on the project's
Celery app.
"""

from __future__ import annotations

import argparse
import sys
from types import SimpleNamespace
from typing import Any

from django.core.management.base import BaseCommand

from celery_durable.cli import durable
from celery_durable.contrib.django.project import app_of_project
from celery_durable.errors import ConfigurationError

_CONFIGURATION = 78  # EX_CONFIG, as everywhere in the command group


class Command(BaseCommand):
    """Hands everything to click, so that options, help and exit codes are the same."""

    help = (
        "Durable orchestrations: start, look, steer, repair. The same as: celery -A <project>"
        " durable"
    )
    requires_system_checks: list[str] = []

    def run_from_argv(self, argv: list[str]) -> None:
        """Run with the arguments as they were typed."""
        self._run(argv[2:], f"{argv[0].rpartition('/')[2]} {argv[1]}")

    def add_arguments(self, parser: Any) -> None:
        """Take anything: click knows what fits."""
        parser.add_argument("arguments", nargs=argparse.REMAINDER)

    def handle(self, *args: str, arguments: list[str] | None = None, **options: Any) -> None:
        """Run for ``call_command("durable", "list", "--status", ...)``."""
        self._run([*args, *(arguments or [])], "manage.py durable")

    def _run(self, arguments: list[str], name: str) -> None:
        try:
            app = app_of_project()
        except ConfigurationError as error:
            self.stderr.write(f"Error: {error}")
            sys.exit(_CONFIGURATION)
        durable.main(args=arguments, prog_name=name, obj=SimpleNamespace(app=app, no_color=False))
