"""The wheel: what is in it, and that it works alone and with each extra, in environments that know
nothing of this checkout.

Each extra has a script in ``extras``, which uses one real thing of it, as a user would, and says in
its last line what came out. It runs in an environment that holds the wheel with this extra and no
other, in a directory of its own: one environment, which is brought to exactly that before each test.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import uuid
import zipfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.leftovers import MARK
from tests.servers import own_keys

pytestmark = [pytest.mark.full, pytest.mark.timeout(900)]

ROOT = Path(__file__).resolve().parents[2]
EXTRAS = Path(__file__).parent / "extras"
UV = [sys.executable, "-m", "uv"]
# extra: the module that it brings
BRINGS = {
    "postgres": "psycopg",
    "mysql": "pymysql",
    "redis": "redis",
    "django": "django",
    "flower": "flower",
    "cli": "rich",
    "http": "itsdangerous",
    "otel": "opentelemetry.sdk",
    "prometheus": "prometheus_client",
}
BRINGS_TOO = {"flower": {"prometheus_client"}}
LOOK = """
import sys, celery_durable, importlib.util as util
def is_there(name):
    return (name.partition(".")[0] == name or is_there(name.rpartition(".")[0])) and util.find_spec(name) is not None
print(celery_durable.__file__, *filter(is_there, sys.argv[1:]), sep="\\n")
"""
# Python that knows its own environment and the directory it runs in
ALONE = ("-s", "-E")


# -- the wheel -------------------------------------------------------------------------------------


@dataclass
class Built:
    """What was built, and the files that it was built from."""

    sources: Path
    wheel: Path

    def names(self) -> list[str]:
        with zipfile.ZipFile(self.wheel) as archive:
            return archive.namelist()


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Built]:
    """Build an sdist, and the wheel from that; uv's cache forgets the wheel in the end."""
    directory = tmp_path_factory.mktemp("wheel")
    sources, dist = directory / "source", directory / "dist"
    copy_sources(sources)
    done(sys.executable, "-m", "build", "--installer", "uv", "--outdir", str(dist), str(sources))
    (wheel,) = dist.glob("*.whl")
    yield Built(sources, wheel)
    done(*UV, "cache", "clean", "--quiet", "celery-durable")


def copy_sources(target: Path) -> None:
    """Copy what git knows or would add: a build leaves traces, and must not see what is ignored."""
    if not (ROOT / ".git").exists():
        shutil.copytree(
            ROOT,
            target,
            ignore=shutil.ignore_patterns(".venv", ".tox", "*.egg-info", "build", "dist"),
        )
        return
    listed = done(
        "git", "-C", str(ROOT), "ls-files", "-z", "--cached", "--others", "--exclude-standard"
    )
    for name in filter(None, listed.split("\0")):
        with suppress(FileNotFoundError):  # removed, and git does not know yet
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target / name)


def done(*command: str) -> str:
    """Run a command to a good end; return what it printed."""
    ended = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert ended.returncode == 0, f"{command}\n{ended.stdout[-4000:]}\n{ended.stderr[-4000:]}"
    return ended.stdout


def test_the_package_is_whole(built: Built) -> None:
    written = {
        path.relative_to(built.sources).as_posix()
        for path in (built.sources / "celery_durable").rglob("*")
        if path.is_file()
    }
    assert written - set(built.names()) == set()


@pytest.mark.parametrize(
    "pattern",
    [
        r"celery_durable/__init__\.py",
        r"celery_durable/__main__\.py",
        r"celery_durable/py\.typed",
        r"celery_durable/store/alembic/env\.py",
        r"celery_durable/store/alembic/script\.py\.mako",
        r"celery_durable/store/alembic/versions/\d+\w*\.py",
        r"celery_durable/contrib/django/templates/.+\.html",
        r"celery_durable/contrib/django/static/.+\.js",
        r"celery_durable/contrib/flower/templates/.+\.html",
        r"celery_durable/static/.+",
        r"celery_durable/telemetry/grafana/.+\.json",
        r".*\.dist-info/licenses/LICENSE",
        r".*\.dist-info/entry_points\.txt",
    ],
)
def test_it_has(built: Built, pattern: str) -> None:
    assert [name for name in built.names() if re.fullmatch(pattern, name)]


def test_nothing_else_is_in_it(built: Built) -> None:
    ours = r"celery_durable(/|-[^/]+\.dist-info/)"
    traces = r"(^|/)tests?/|\.pyc$|\.db$"
    names = built.names()
    assert [name for name in names if not re.match(ours, name)] == []
    assert [name for name in names if re.search(traces, name)] == []


# -- environments ----------------------------------------------------------------------------------


@dataclass
class Environment:
    """An installation, and a directory to use it in."""

    python: Path
    directory: Path

    def run(self, *arguments: str, **variables: str) -> list[str]:
        """Run Python to a good end, with nothing of this process's environment.

        Return the lines that it printed.
        """
        process = subprocess.Popen(
            [self.python, *ALONE, *arguments],
            cwd=self.directory,
            env={**self._variables(), **variables},
            start_new_session=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            output, errors = process.communicate(timeout=400)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        assert process.returncode == 0, f"{output[-4000:]}\n{errors[-4000:]}\n{self._logs()}"
        return output.splitlines()

    def script(self, extra: str, **variables: str) -> list[str]:
        """Run the script of an extra; return the lines that it printed."""
        shutil.copy(EXTRAS / f"{extra}.py", self.directory / "script.py")
        return self.run("script.py", **variables)

    def _variables(self) -> dict[str, str]:
        path = os.pathsep.join((str(self.python.parent), os.defpath))
        return {
            "PATH": path,
            "HOME": str(self.directory),
            "TMPDIR": str(self.directory),
            MARK: os.environ[MARK],
        }

    def _logs(self) -> str:
        return "\n".join(
            f"{log.name}: {log.read_text()[-4000:]}" for log in self.directory.glob("*.log")
        )

    def modules(self) -> set[str]:
        """Return which of the modules that extras bring, or that only this process knows, are here.

        The package has to be.
        """
        place, *found = self.run("-c", LOOK, *BRINGS.values(), "pytest", "tests")
        assert Path(place).is_relative_to(self.python.parents[1])
        return set(found)


@pytest.fixture(scope="session")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """One environment for all extras in turn: what they share need be compiled only once."""
    place = tmp_path_factory.mktemp("installed") / "environment"
    done(sys.executable, "-m", "venv", "--without-pip", str(place))
    yield place
    shutil.rmtree(place, ignore_errors=True)


def install(built: Built, python: Path, extra: str = "") -> None:
    """Let an environment have the wheel, with an extra or without, what these ask for, and nothing
    else.
    """
    what = f"celery-durable{extra and f'[{extra}]'} @ {built.wheel.as_uri()}"
    done(*UV, "pip", "install", "--quiet", "--exact", "--python", str(python), what)
    done(*UV, "pip", "check", "--quiet", "--python", str(python))


@pytest.fixture
def environment(
    request: pytest.FixtureRequest, built: Built, place: Path, tmp_path: Path
) -> Environment:
    """An environment that has one extra, or none, and nothing of the others.

    What runs in it is in its directory.
    """
    extra = request.param
    python, work = place / "bin" / "python", tmp_path / "work"
    install(built, python, extra)
    work.mkdir()
    environment = Environment(python, work)
    assert environment.modules() == expected(extra)
    for name in ("beside.py", "shop.py"):
        shutil.copy(EXTRAS / name, work)
    return environment


def expected(extra: str) -> set[str]:
    return {BRINGS[extra], *BRINGS_TOO.get(extra, ())} if extra else set()


def alone_with(extra: str) -> pytest.MarkDecorator:
    """Let a test have the environment of an extra."""
    return pytest.mark.parametrize("environment", [extra], indirect=True, ids=[extra or "nothing"])


def block(page: str, containing: str) -> str:
    """Return the one block of Python in a page that contains some text."""
    found = re.findall(
        r"^```python\n(.*?)^```", (ROOT / page).read_text(), re.DOTALL | re.MULTILINE
    )
    (chosen,) = [each for each in found if containing in each]
    return str(chosen)


# -- what works in them ----------------------------------------------------------------------------


@alone_with("")
def test_without_extras_the_demo_runs(environment: Environment) -> None:
    assert "Everything was as it should be" in environment.run("-m", "celery_durable", "demo")[-1]


@alone_with("postgres")
def test_an_order_on_postgresql(environment: Environment, postgres_url: str) -> None:
    assert (
        environment.script("postgres", SHOP_STORE=postgres_url)[-1] == "42 paid 99, in postgresql"
    )


@alone_with("mysql")
def test_an_order_on_mariadb(environment: Environment, mariadb_url: str) -> None:
    assert environment.script("mysql", SHOP_STORE=mariadb_url)[-1] == "42 paid 99, in mysql"


@alone_with("redis")
def test_an_order_by_redis(environment: Environment, redis_url: str) -> None:
    prefix = f"durable-{uuid.uuid4().hex[:10]}:"
    with own_keys(redis_url, prefix):
        assert (
            environment.script("redis", SHOP_BROKER=redis_url, SHOP_PREFIX=prefix)[-1]
            == "42 paid 99, by redis"
        )


@alone_with("django")
def test_a_project_of_django(environment: Environment) -> None:
    (environment.directory / "more_settings.py").write_text(block("README.md", "INSTALLED_APPS +="))
    assert environment.script("django")[-1] == "order-1: not there, order-2: ann paid 99"


@alone_with("flower")
def test_the_tab_of_flower(environment: Environment) -> None:
    assert environment.script("flower")[-1] == "True True True"


@alone_with("cli")
def test_a_live_view_on_a_terminal(environment: Environment) -> None:
    assert environment.script("cli")[-1] == "a table of events 0"


@alone_with("http")
def test_a_signed_link_is_answered(environment: Environment) -> None:
    (environment.directory / "links.py").write_text(
        block("docs/howto/approval-links.md", "ItsDangerousSigner")
    )
    assert (
        environment.script("http")[-1]
        == "asked with 200, answered with 200, again with 410; Completed with True"
    )


@alone_with("otel")
def test_an_order_is_a_span(environment: Environment) -> None:
    for part in ("app.conf.durable_tracing", "ConsoleSpanExporter()"):
        with (environment.directory / "shop.py").open("a") as shop:
            shop.write(block("docs/howto/telemetry.md", part))
    *exported, spans = environment.script("otel", OTEL_BSP_SCHEDULE_DELAY="100")
    assert spans == "activity:shop.charge orchestration:shop.pay"
    assert '    "name": "create_orchestration:shop.pay",' in exported


@alone_with("prometheus")
def test_metrics_are_served(environment: Environment) -> None:
    (environment.directory / "page.py").write_text(
        block("docs/howto/telemetry.md", "import metrics")
    )
    assert environment.script("prometheus")[-1] == "1.0 in text/plain, 1.0 from the exporter"
