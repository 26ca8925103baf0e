import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from django.core.management.base import BaseCommand

MANAGE = Path(__file__).resolve().parents[3] / "manage.py"
NAMES = ("SHOP_DATABASE", "SHOP_BROKER", "SHOP_RESULTS", "SHOP_DEBUG", "SHOP_QUEUE")


class Command(BaseCommand):
    help = (
        "Place 20 orders, kill the worker half-way, and show that all of them finish. Needs no"
        " server."
    )
    requires_system_checks = ()

    def add_arguments(self, parser):
        parser.add_argument(
            "--configured",
            action="store_true",
            help=(
                "use the database and the broker of the environment, and leave there what was"
                " ordered"
            ),
        )

    def handle(self, *args, configured, **options):
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        try:
            sys.exit(self.run_here() if configured else self.run_apart())
        except KeyboardInterrupt:
            self.stderr.write("\nInterrupted; what ran is stopped.")
            sys.exit(130)

    def run_here(self):
        from shop.demo import Show

        with Show(self.stdout, self.stderr) as show:
            return show.run()

    def run_apart(self):
        """Run in another process, whose settings are those of an empty directory."""
        environment = {name: value for name, value in os.environ.items() if name not in NAMES}
        with tempfile.TemporaryDirectory(
            prefix="shop-demo-", ignore_cleanup_errors=True
        ) as directory:
            environment["SHOP_DIRECTORY"] = directory
            self.stdout.write(
                f"In {directory}, which is removed in the end. No server is needed.\n"
            )
            self.stdout.flush()
            inner = subprocess.Popen(
                [sys.executable, MANAGE, "demo", "--configured"], env=environment
            )
            try:
                return inner.wait()
            except KeyboardInterrupt:
                inner.send_signal(signal.SIGTERM)
                inner.wait()
                raise
