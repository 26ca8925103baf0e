"""The shop in a real browser: one stack for all tests, with a web server, a worker and Flower, in a
directory of its own.

With ``DURABLE_SCREENSHOTS=1`` the run writes its pictures to ``docs/images``; they are committed by
hand.
"""

import os
import socket
import urllib.error
import urllib.request
from pathlib import Path

import pytest

try:
    from playwright.sync_api import Error, expect, sync_playwright
except ImportError as error:
    sync_playwright, expect, Error, reason = None, None, Exception, error

from tests.conftest import absent, wait_until
from tests.preloaded import shared

__all__ = ["PATIENCE", "Error", "expect"]

ROOT = Path(__file__).resolve().parents[2]
PROJECT = ROOT / "example_project"
CHROMIUM = os.environ.get("DURABLE_TEST_CHROMIUM", "/usr/bin/chromium")
PATIENCE = 300_000  # milliseconds that only a page takes that hangs


class Stack:
    """The processes, and where they listen."""

    def __init__(self, python, directory):
        self.python, self.directory = python, directory
        self.shop, self.flower = (f"http://127.0.0.1:{port}" for port in free_ports(2))
        paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
        chosen = {
            "PYTHONPATH": os.pathsep.join(paths),
            "SHOP_DIRECTORY": str(directory),
            "SHOP_URL": self.shop,
            "SHOP_DAY": "3600",
            "SHOP_DELIVERY_DAYS": "0.0005",
            "SHOP_WORKER_LEASE": "3",
        }
        own = ("SHOP_", "FLOWER_", "CELERY_", "DJANGO_")
        others = {name: value for name, value in os.environ.items() if not name.startswith(own)}
        self.environment = {**others, **chosen}
        self._processes = []

    def run(self, *arguments):
        done = self.python.run(arguments, self.environment, PROJECT)
        assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"

    def start(self, name, *arguments):
        with open(self.directory / f"{name}.log", "ab") as log:
            self._processes.append(
                self.python.start(arguments, self.environment, PROJECT, log, log)
            )

    def is_up(self, url):
        for process in self._processes:
            assert process.poll() is None, self.logs()
        try:
            urllib.request.urlopen(url, timeout=300).close()
        except urllib.error.HTTPError:
            return True
        except OSError:
            return False
        return True

    def logs(self):
        return "\n".join(
            f"{file.name}:\n{file.read_text(errors='replace')[-3000:]}"
            for file in self.directory.glob("*.log")
        )

    def stop(self):
        for process in self._processes:
            process.kill()


def free_ports(count):
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


@pytest.fixture(scope="module")
def chromium():
    if sync_playwright is None:
        absent("playwright", reason)
    if not Path(CHROMIUM).exists():
        absent("chromium", f"there is no {CHROMIUM}")
    with sync_playwright() as playwright:  # while it is open, this thread has a running event loop
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def stack(chromium, tmp_path_factory):
    it = Stack(shared(), tmp_path_factory.mktemp("shop"))
    it.run("manage.py", "migrate", "-v", "0")
    it.run("manage.py", "seed", "--customers", "20")
    try:
        it.start("web", "manage.py", "runserver", "--noreload", it.shop.removeprefix("http://"))
        it.start("worker", "-m", "celery", "-A", "config", "worker", "-c", "2", "-l", "INFO")
        port = it.flower.rpartition(":")[2]
        it.start(
            "flower",
            "-m",
            "celery",
            "-A",
            "config",
            "flower",
            "--address=127.0.0.1",
            f"--port={port}",
        )
        wait_until(
            lambda: it.is_up(it.shop) and it.is_up(it.flower), 300, "the answer of the web servers"
        )
        yield it
    finally:
        it.stop()


@pytest.fixture
def visitor(chromium, stack):
    """Open browser windows of people who do not know each other.

    An error in a page's script fails the test.
    """
    contexts, problems = [], []

    def open_window(**options):
        context = chromium.new_context(
            base_url=stack.shop, viewport={"width": 1180, "height": 820}, **options
        )
        context.set_default_timeout(PATIENCE)
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on(
            "console",
            lambda message: problems.append(message.text) if message.type == "error" else None,
        )
        return page

    yield open_window
    for context in contexts:
        context.close()
    assert not problems


@pytest.fixture(scope="module")
def sessions():
    """Keep who is logged in: each does it once, by the form."""
    return {}


@pytest.fixture
def log_in(visitor, sessions):
    def enter(name, **options):
        page = visitor(storage_state=sessions.get(name), **options)
        if name in sessions:
            return page
        page.goto("/login/")
        page.get_by_label("Username").fill(name)
        page.get_by_label("Password").fill("demo")
        page.get_by_role("button", name="Log in").click()
        page.get_by_role("button", name=f"Log out {name}").wait_for()
        sessions[name] = page.context.storage_state()
        return page

    return enter


@pytest.fixture
def picture():
    """Keep a picture of a page for the documentation, if this run is asked for it."""

    def take(page, name, **options):
        if os.environ.get("DURABLE_SCREENSHOTS") == "1":
            page.screenshot(
                path=ROOT / "docs" / "images" / f"{name}.png", animations="disabled", **options
            )

    return take
