"""Servers and workers that a test starts, stops and kills itself: plain local processes, no
containers.

``WorkerProcess`` is a Celery worker in a process group of its own. The ``Own...`` servers listen on
a free port and keep their files in a directory of the test's. ``LocalRedis`` and ``LocalWorker``
are nodes for pytest-celery's clusters: a ``LocalProcess`` has the shape of a Docker container, as
far as that plugin looks at it.
"""

from __future__ import annotations

import glob
import importlib.util
import os
import pwd
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

import psutil
import sqlalchemy as sa
from celery import _state
from pytest_celery import CeleryWorkerContainer, RedisContainer

from tests import preloaded
from tests.conftest import absent, wait_until
from tests.leftovers import noted

ROOT = Path(__file__).resolve().parent.parent
APPLICATIONS = ROOT / "tests" / "integration"


def load_application(path: Path, environment: Mapping[str, str]) -> ModuleType:
    """Import a module with a Celery app anew, configured by an environment.

    The last one is in ``sys.modules``.

    Celery gives a task of one app to every app made later (``shared=True``); here that would mix
    the copies up.
    """
    shared = set(_state._on_app_finalizers)
    before = dict(os.environ)
    os.environ.update(environment)
    try:
        spec = importlib.util.spec_from_file_location(path.stem, path)
        assert spec is not None and spec.loader is not None
        module = sys.modules[path.stem] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    finally:
        os.environ.clear()
        os.environ.update(before)
    module.app.finalize()
    _state._on_app_finalizers.intersection_update(shared)
    return module


def interrupted(
    command: Sequence[str], line: str, number: int, timeout: float, **options: Any
) -> tuple[int, str]:
    """Start a command, send it a signal when it has printed a line, and return its exit code and
    what it printed after that.
    """
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        preexec_fn=heed_interrupts,
        start_new_session=True,
        **options,
    )
    assert process.stdout is not None
    try:
        for printed in process.stdout:
            if line in printed:
                break
        process.send_signal(number)
        output, _ = process.communicate(timeout=timeout)
    except BaseException:  # what it leaves when all goes well is for the test to find
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        raise
    return process.returncode, output


def heed_interrupts() -> None:
    """A shell lets what it starts in the background ignore them, and whatever is started by
    that.
    """
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def is_listening(port: int) -> bool:
    with socket.socket() as client:
        client.settimeout(1)
        return client.connect_ex(("127.0.0.1", port)) == 0


class WorkerProcess:
    """``python -m celery -A testapp worker`` with its pool, in a process group of its own.

    It is forked from a process that has Celery imported already, except where something has to come
    before all imports.
    """

    def __init__(
        self,
        environment: Mapping[str, str],
        log: Path,
        *,
        app: str = "testapp",
        pool: str = "prefork",
        concurrency: int = 2,
        queues: Sequence[str] = (),
        options: Sequence[str] = (),
        paths: Sequence[str] = (),
    ) -> None:
        self.log = log
        self.name = f"worker-{uuid.uuid4().hex[:8]}@localhost"
        command = [
            "-m",
            "celery",
            "-A",
            app,
            "worker",
            "-P",
            pool,
            "-n",
            self.name,
            "-l",
            "INFO",
            "--without-gossip",
            "--without-mingle",
            *options,
        ]
        command += ["-c", str(concurrency)] if pool != "solo" else []
        command += ["-Q", ",".join(queues)] if queues else []
        begins_by_itself = pool == "gevent" or bool(paths)
        paths = [*paths, str(APPLICATIONS), str(ROOT)]
        environment = {
            **os.environ,
            **environment,
            "PYTHONPATH": os.pathsep.join(paths),
            "PYTHONUNBUFFERED": "1",
        }
        self.process: subprocess.Popen[bytes] | preloaded.Process
        with log.open("ab") as output:
            if begins_by_itself:
                self.process = subprocess.Popen(
                    [sys.executable, *command],
                    env=environment,
                    cwd=log.parent,
                    stdout=output,
                    stderr=output,
                    start_new_session=True,
                )
            else:
                self.process = preloaded.shared().start(
                    command, environment, log.parent, output, output
                )

    @property
    def is_running(self) -> bool:
        return self.process.poll() is None

    def text(self) -> str:
        return self.log.read_text(errors="replace")

    def wait_ready(self, timeout: float = 60) -> WorkerProcess:
        wait_until(
            lambda: f"{self.name} ready." in self.text() or not self.is_running,
            timeout,
            f"{self.name} ready",
        )
        assert self.is_running, self.text()
        return self

    def children(self) -> list[int]:
        """The processes of a prefork pool; none of a worker that has just died."""
        with suppress(psutil.NoSuchProcess):
            return [child.pid for child in psutil.Process(self.process.pid).children()]
        return []

    def write_stacks(self) -> None:
        """Have it and its pool write to the log where each of their threads stands."""
        if not isinstance(self.process, preloaded.Process) or not self.is_running:
            return
        for process in (self.process.pid, *self.children()):
            with suppress(ProcessLookupError):
                os.kill(process, preloaded.STACKS)
            time.sleep(0.3)  # one after the other: each writes by itself, into one file

    def freeze(self) -> None:
        """SIGSTOP for the main process and the whole pool: it keeps its connections and does
        nothing.
        """
        os.killpg(self.process.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """Let a frozen worker go on as if no time had passed."""
        os.killpg(self.process.pid, signal.SIGCONT)

    def kill(self) -> None:
        """SIGKILL for the main process and the whole pool at once."""
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.process.wait(30)

    def wait_dead(self, timeout: float = 60) -> None:
        wait_until(lambda: not self.is_running, timeout, f"the death of {self.name}")

    def stop(self, timeout: float = 20) -> None:
        """A warm shutdown, and SIGKILL for what is left of the group."""
        if self.is_running:
            self.process.terminate()
            try:
                self.process.wait(timeout)
            except subprocess.TimeoutExpired:
                pass
        self.kill()


class _OwnServer:
    """A server process of a test's own."""

    name: str

    def __init__(self) -> None:
        self.port = free_port()
        self.process: subprocess.Popen[bytes] | None = None
        self._folders, self._running = ExitStack(), ExitStack()

    def _folder(self) -> Path:
        """Make a folder that ``remove`` takes away."""
        path = Path(tempfile.mkdtemp(prefix=f"durable-{self.name}-"))
        self._folders.enter_context(noted("folder", path=str(path)))
        self._folders.callback(shutil.rmtree, path, ignore_errors=True)
        return path

    def command(self) -> Sequence[str]:
        raise NotImplementedError

    def environment(self) -> dict[str, str]:
        return {}

    def is_ready(self) -> bool:
        return is_listening(self.port)

    def start(self) -> None:
        self.process = subprocess.Popen(
            self.command(),
            env={**os.environ, **self.environment()},
            cwd="/",
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        self._running.enter_context(noted("group", leader=str(self.process.pid)))
        wait_until(self.is_ready, what=f"{self.name} on port {self.port}")

    def stop(self) -> None:
        """Kill it, as a power cut would."""
        if self.process is None:
            return
        for child in [
            *psutil.Process(self.process.pid).children(recursive=True),
            psutil.Process(self.process.pid),
        ]:
            try:
                child.kill()
            except psutil.NoSuchProcess:
                pass
        self.process.wait()
        self.process = None
        self._running.close()
        wait_until(lambda: not is_listening(self.port), what=f"the end of {self.name}")

    def remove(self) -> None:
        """Stop it, and take its files away."""
        self.stop()
        self._folders.close()


Server = TypeVar("Server", bound=_OwnServer)


@contextmanager
def running(server: Server) -> Iterator[Server]:
    """Start a server of one's own, and take it away at the end."""
    try:
        server.start()
        yield server
    finally:
        server.remove()


class OwnRedis(_OwnServer):
    """Redis that keeps nothing: a restart is a loss of everything."""

    name = "redis"

    def __init__(self, directory: Path) -> None:
        super().__init__()
        if shutil.which("redis-server") is None:
            absent("redis-server", "it is not installed")
        self.directory = directory

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def command(self) -> Sequence[str]:
        return [
            "redis-server",
            "--port",
            str(self.port),
            "--bind",
            "127.0.0.1",
            "--save",
            "",
            "--dir",
            str(self.directory),
        ]

    def flush(self) -> None:
        import redis

        with redis.Redis.from_url(self.url) as client:
            client.flushall()


def _as_user(name: str) -> list[str]:
    return ["runuser", "-u", name, "--"] if os.getuid() == 0 else []


class OwnPostgres(_OwnServer):
    """PostgreSQL with a data directory of its own; ``stop`` is a crash."""

    name = "postgres"

    def __init__(self) -> None:
        super().__init__()
        found = shutil.which("initdb") or next(
            iter(sorted(glob.glob("/usr/lib/postgresql/*/bin/initdb"))[-1:]), None
        )
        if found is None:
            absent("initdb", "PostgreSQL is not installed")
        self.programs = Path(str(found)).resolve().parent
        self.directory = self._folder()
        if os.getuid() == 0:
            os.chown(self.directory, pwd.getpwnam("postgres").pw_uid, -1)
        subprocess.run(
            [
                *_as_user("postgres"),
                str(self.programs / "initdb"),
                "-D",
                str(self.directory / "data"),
                "-U",
                "postgres",
                "-A",
                "trust",
                "--no-sync",
            ],
            check=True,
            capture_output=True,
            cwd="/",
        )

    @property
    def url(self) -> str:
        return f"postgresql+psycopg://postgres@127.0.0.1:{self.port}/postgres"

    def command(self) -> Sequence[str]:
        settings = {
            "unix_socket_directories": "",
            "listen_addresses": "127.0.0.1",
            "port": str(self.port),
        }
        given = [part for key, value in settings.items() for part in ("-c", f"{key}={value}")]
        return [
            *_as_user("postgres"),
            str(self.programs / "postgres"),
            "-D",
            str(self.directory / "data"),
            *given,
        ]

    def is_ready(self) -> bool:
        program = str(self.programs / "pg_isready")
        return (
            subprocess.run([program, "-q", "-h", "127.0.0.1", "-p", str(self.port)]).returncode == 0
        )

    def stop(self) -> None:
        super().stop()
        (self.directory / "data" / "postmaster.pid").unlink(missing_ok=True)

    def shut_down(self, mode: str) -> None:
        """Stop as an operator does: ``fast`` rolls every transaction back, ``immediate`` only ends
        the processes.
        """
        assert self.process is not None
        pid = int((self.directory / "data" / "postmaster.pid").read_text().split()[0])
        os.kill(pid, {"fast": signal.SIGINT, "immediate": signal.SIGQUIT}[mode])
        self.process.wait()
        self.process = None
        self._running.close()


class OwnPgBouncer(_OwnServer):
    """PgBouncer that pools by transaction, in front of every database of one PostgreSQL server."""

    name = "pgbouncer"

    def __init__(self, server: str, pool_size: int = 10) -> None:
        super().__init__()
        program = shutil.which("pgbouncer") or shutil.which("/usr/sbin/pgbouncer")
        if program is None:
            absent("pgbouncer", "it is not installed")
        self.program, self.server = str(program), sa.make_url(server)
        self.directory = self._folder()
        given = {
            "host": self.server.host or "127.0.0.1",
            "port": self.server.port or 5432,
            "user": self.server.username or "postgres",
            "password": self.server.password,
        }
        target = " ".join(f"{key}={value}" for key, value in given.items() if value is not None)
        settings = {
            "listen_addr": "127.0.0.1",
            "listen_port": self.port,
            "unix_socket_dir": "",
            "pool_mode": "transaction",
            "auth_type": "any",
            "max_client_conn": 1000,
            "default_pool_size": pool_size,
            "stats_users": given["user"],
            "admin_users": given["user"],
            "ignore_startup_parameters": "extra_float_digits",
        }
        lines = [
            "[databases]",
            f"* = {target}",
            "[pgbouncer]",
            *(f"{key} = {value}" for key, value in settings.items()),
        ]
        (self.directory / "pgbouncer.ini").write_text("\n".join(lines) + "\n")
        if os.getuid() == 0:
            os.chmod(self.directory, 0o755)

    def url(self, database: str = "postgres") -> str:
        """The URL of a database of the server behind it."""
        own = self.server.set(host="127.0.0.1", port=self.port, database=database)
        return own.render_as_string(hide_password=False)

    def command(self) -> Sequence[str]:
        return [*_as_user("postgres"), self.program, str(self.directory / "pgbouncer.ini")]

    def transactions(self) -> dict[str, int]:
        """How many transactions each database has had through it, by its own count."""
        import psycopg

        user, password = self.server.username or "postgres", self.server.password
        console = psycopg.connect(
            host="127.0.0.1",
            port=self.port,
            dbname="pgbouncer",
            user=user,
            password=password,
            autocommit=True,
        )
        with console:
            rows = psycopg.ClientCursor(console).execute("SHOW STATS_TOTALS").fetchall()
        return {row[0]: int(row[1]) for row in rows}


class OwnRabbit(_OwnServer):
    """RabbitMQ with files of its own; durable queues outlive ``stop``."""

    name = "rabbitmq"

    def __init__(self) -> None:
        super().__init__()
        if shutil.which("rabbitmq-server") is None:
            absent("rabbitmq-server", "it is not installed")
        self.directory = self._folder()
        self.node = f"durable-{uuid.uuid4().hex[:8]}@localhost"
        self._distribution = free_port()
        (self.directory / "plugins").write_text("[].\n")
        if os.getuid() == 0:
            user = pwd.getpwnam("rabbitmq")
            for path in (self.directory, self.directory / "plugins"):
                os.chown(path, user.pw_uid, user.pw_gid)

    @property
    def url(self) -> str:
        return f"amqp://guest:guest@127.0.0.1:{self.port}//"

    def command(self) -> Sequence[str]:
        return ["rabbitmq-server"]

    def environment(self) -> dict[str, str]:
        return {
            "RABBITMQ_NODENAME": self.node,
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODE_PORT": str(self.port),
            "RABBITMQ_DIST_PORT": str(self._distribution),
            "RABBITMQ_MNESIA_BASE": str(self.directory),
            "RABBITMQ_LOG_BASE": str(self.directory),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self.directory / "plugins"),
            "RABBITMQ_CONF_ENV_FILE": "/dev/null",
            "RABBITMQ_CONFIG_FILE": str(self.directory / "none"),
        }

    def is_ready(self) -> bool:
        from kombu import Connection

        if not is_listening(self.port):
            return False
        try:
            with Connection(self.url, connect_timeout=3) as connection:
                connection.connect()
        except Exception:
            return False
        return True


# -- nodes of pytest-celery ------------------------------------------------------------------------


class LocalProcess:
    """A process with the face of a Docker container."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        log: Path,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.id, self.name = uuid.uuid4().hex, name
        self.command, self.log, self.environment = list(command), log, dict(environment or {})
        self.process: subprocess.Popen[bytes] | None = None
        self._running = ExitStack()
        self.attrs = {
            "Config": {
                "Hostname": "127.0.0.1",
                "Env": [f"{key}={value}" for key, value in self.environment.items()],
            },
            "HostConfig": {"PortBindings": None},
            "NetworkSettings": {"Networks": {}, "Ports": {}},
        }

    def start(self) -> LocalProcess:
        with self.log.open("ab") as output:
            self.process = subprocess.Popen(
                self.command,
                env={**os.environ, **self.environment},
                cwd=self.log.parent,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._running.enter_context(noted("group", leader=str(self.process.pid)))
        return self

    @property
    def status(self) -> str:
        return "running" if self.process is not None and self.process.poll() is None else "exited"

    def reload(self) -> None:
        """There is nothing that could be out of date."""

    def logs(self) -> bytes:
        return self.log.read_bytes()

    def kill(self, signal: str | int | None = None) -> None:
        self._signal(signal or "SIGKILL")
        wait_until(lambda: self.status == "exited", what=f"the end of {self.name}")
        self._running.close()

    def _signal(self, name: str | int) -> None:
        assert self.process is not None
        os.killpg(self.process.pid, getattr(signal, name) if isinstance(name, str) else name)

    def stop(self, timeout: float = 10) -> None:
        if self.status == "running" and self.process is not None:
            self.process.terminate()
            try:
                self.process.wait(timeout)
            except subprocess.TimeoutExpired:
                self.kill()
        self._running.close()

    def restart(self, timeout: float = 10) -> None:
        self.stop(timeout)
        self.log.write_bytes(b"")
        self.start()

    def exec_run(self, command: str | Sequence[str], **_: Any) -> tuple[int, bytes]:
        words = shlex.split(command) if isinstance(command, str) else list(command)
        ended = subprocess.run(
            words, cwd=self.log.parent, env={**os.environ, **self.environment}, capture_output=True
        )
        return ended.returncode, ended.stdout + ended.stderr


class _LocalNode:
    _container: LocalProcess

    def teardown(self) -> None:
        self._container.stop()


class LocalRedis(_LocalNode, RedisContainer):
    """A Redis node."""

    _own_port: int

    @classmethod
    def launch(cls, directory: Path) -> LocalRedis:
        port = free_port()
        command = [
            "redis-server",
            "--port",
            str(port),
            "--bind",
            "127.0.0.1",
            "--save",
            "",
            "--dir",
            str(directory),
        ]
        node = cls(LocalProcess(f"redis-{port}", command, directory / "redis.log").start())
        node._own_port = port
        wait_until(lambda: is_listening(port), 30, "redis")
        return node

    @property
    def port(self) -> int:
        return self._own_port

    @property
    def url(self) -> str:
        return str(self.host_url)


class LocalWorker(_LocalNode, CeleryWorkerContainer):
    """A worker node."""
