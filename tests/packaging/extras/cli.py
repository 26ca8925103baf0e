"""``celery durable watch`` on a terminal, which rich draws."""

import fcntl
import os
import pty
import re
import struct
import subprocess
import termios
from contextlib import suppress

from beside import PATIENCE, PYTHON, wait_until, worker

from shop import ask, durable


class Terminal:
    """A command on a terminal, and all that has been drawn on it."""

    def __init__(self, *arguments):
        self._ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
        os.set_blocking(self._ours, False)
        self._drawn = b""
        self.process = subprocess.Popen(
            [*PYTHON, *arguments],
            env={**os.environ, "TERM": "xterm-256color"},
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
        )
        os.close(theirs)

    def text(self):
        """Read what is new; return everything, without colours and movements."""
        with suppress(OSError):  # there is nothing, or the end
            while part := os.read(self._ours, 65536):
                self._drawn += part
        return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", self._drawn.decode(errors="replace"))


run = durable.start(ask.s(), instance_id="order-42")
watch = Terminal("-m", "celery", "-A", "shop", "durable", "watch", run.id)
wait_until(lambda: "PENDING" in watch.text(), "the first look")
with worker("shop"):
    wait_until(
        lambda: "RUNNING" in watch.text() and "waits for event 'approved'" in watch.text(),
        "the wait",
    )
    run.raise_event("approved", "yes")
    wait_until(lambda: "COMPLETED" in watch.text(), "the last look")
    watch.process.wait(PATIENCE)
heads = re.search(r"^at +event +of +error\s*$", watch.text(), re.MULTILINE)
print("a table of events" if heads else watch.text(), watch.process.returncode)
