"""``celery -A app durable ...`` as a person meets it: a real process on a real terminal."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import wait_until

pytestmark = pytest.mark.full  # each is a process with a terminal
ROOT = Path(__file__).parents[2]
APP = """
from celery import Celery
from celery_durable import Durable
from tests.contract.test_terminal import declare

app = Celery("shop", broker="memory://")
app.conf.durable_backend_url = "sqlite:///{path}"
declare(Durable(app))
"""

AS_CELERY = "import sys; sys.argv[0] = 'celery'; from celery.__main__ import main; main()"


def declare(durable: Any) -> None:
    @durable.orchestrator(name="shop.sale")
    async def sale(ctx: Any) -> Any:
        ctx.set_status({"done": 1, "of": 4})
        return await ctx.wait_event("approved")


class Terminal:
    """A process whose standard streams are a terminal of 100 columns."""

    def __init__(self, *args: str, cwd: Path, **env: str) -> None:
        master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 100, 0, 0))
        kept = {
            key: value for key, value in os.environ.items() if key not in ("NO_COLOR", "CI", "TERM")
        }
        self.process = subprocess.Popen(
            [sys.executable, "-m", "celery", *args],
            cwd=cwd,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env=kept | {"TERM": "xterm", "PYTHONPATH": f"{cwd}:{ROOT}"} | env,
        )
        os.close(slave)
        self.said = ""
        self._master = master
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        while True:
            try:
                data = os.read(self._master, 65536)
            except OSError:  # the process has closed its end
                return
            if not data:
                return
            self.said += data.decode(errors="replace")

    def end(self) -> int:
        code = self.process.wait(60)
        self._reader.join(10)
        return code

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self._reader.join(10)
        os.close(self._master)


@pytest.fixture
def shop(tmp_path: Path, new_app: Callable[..., Any]) -> Any:
    """The application of the processes, here too."""
    app = new_app(durable_start_inline=True)
    (tmp_path / "terminal_shop.py").write_text(APP.format(path=tmp_path / "app.db"))
    declare(app.durable)
    return app


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Callable[..., Terminal]]:
    made: list[Terminal] = []

    def make(*args: str, **env: str) -> Terminal:
        made.append(Terminal(*args, cwd=tmp_path, **env))
        return made[-1]

    yield make
    for each in made:
        each.close()


@pytest.mark.long
def test_without_rich_there_are_lines_and_a_hint(
    shop: Any, terminal: Callable[..., Terminal], tmp_path: Path
) -> None:
    run = shop.durable.start(shop.tasks["shop.sale"].s(), instance_id="order-1")
    run.terminate(reason="enough")
    (tmp_path / "rich.py").write_text("raise ImportError('not installed')")
    watch = terminal("-A", "terminal_shop", "-C", "durable", "watch", "order-1")
    assert watch.end() == 5
    assert "pip install 'celery-durable[cli]'" in watch.said
    assert "order-1 is TERMINATED  [#####...............] 1 of 4" in watch.said


COLOUR = re.compile("\x1b\\[[0-9;]*m")


@pytest.mark.long  # from the wheel: tests/packaging
def test_a_live_view_shows_progress_waits_and_events_until_the_end(
    shop: Any, terminal: Callable[..., Terminal]
) -> None:
    shop.durable.start(shop.tasks["shop.sale"].s(), instance_id="order-1")
    watch = terminal("-A", "terminal_shop", "durable", "watch", "order-1", "--interval", "0.05")
    wait_until(lambda: "waits for event 'approved'" in COLOUR.sub("", watch.said), what="the view")
    seen = COLOUR.sub("", watch.said)
    assert "order-1  shop.sale  RUNNING" in seen
    assert "1 of 4" in seen
    assert "ExecutionStarted" in seen
    assert COLOUR.search(watch.said)
    shop.durable.raise_event("order-1", "approved", True)
    shop.durable.runtime.runner.run("order-1")
    assert watch.end() == 0
    assert "COMPLETED" in watch.said
    assert "EventRaised" in watch.said


def test_tables_are_coloured_on_a_terminal_unless_that_is_refused(
    shop: Any, terminal: Callable[..., Terminal]
) -> None:
    shop.durable.start(shop.tasks["shop.sale"].s(), instance_id="order-" + "1" * 100)
    table = ("durable", "list")
    coloured = terminal("-A", "terminal_shop", *table)
    plain = terminal("-A", "terminal_shop", "-C", *table)
    by_environment = terminal("-A", "terminal_shop", *table, NO_COLOR="1")
    assert [each.end() for each in (coloured, plain, by_environment)] == [0, 0, 0]
    assert "\x1b[34mRUNNING" in coloured.said
    assert "\x1b" not in plain.said + by_environment.said
    lines = plain.said.replace("\r", "").splitlines()
    assert lines[0].split() == "id name status age waits for reason".split()
    assert all(len(line) <= 100 for line in lines), "no line is longer than the terminal is wide"


def test_the_shell_completes_ids_of_the_app_that_is_named(shop: Any, tmp_path: Path) -> None:
    shop.durable.start(shop.tasks["shop.sale"].s(), instance_id="order-1")
    done = subprocess.run(
        [sys.executable, "-c", AS_CELERY],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env={
            **os.environ,
            "_CELERY_COMPLETE": "bash_complete",
            "COMP_CWORD": "5",
            "PYTHONPATH": f"{tmp_path}:{ROOT}",
            "COMP_WORDS": "celery -A terminal_shop durable show ord",
        },
    )
    assert done.stdout == "plain,order-1\n", done.stderr
