"""Replaying finished histories in processes with other hash seeds: what the order of a set decides
comes out otherwise there.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Collection
from importlib import import_module
from typing import TYPE_CHECKING, Any

from celery import _state

from ..core.status import RuntimeStatus
from ..errors import ConfigurationError, DurableError
from ..handles.fields import record_of

if TYPE_CHECKING:
    from ..app.durable import Durable

__all__ = ["Rehash"]

_MOST = 1_000
_FINISHED = [status for status in RuntimeStatus if status.is_terminal]


class Rehash:
    """Keeps finished histories, to replay them at the end.

    Args:
        seeds: in how many processes.

    Raises:
        ValueError: there cannot be so many.
    """

    def __init__(self, seeds: int) -> None:
        if seeds < 0:
            raise ValueError(f"hash_seeds is a number of processes, not {seeds}")
        self._seeds = seeds
        self._kept: dict[tuple[str, str], str] = {}

    def keep(self, durable: Durable, stood_in: Collection[str] = ()) -> None:
        """Keep the histories that are finished by now, but of instances that a stand-in was."""
        if not self._seeds:
            return
        for run in durable.find(status=_FINISHED, limit=_MOST).items:
            key = run.id, record_of(run).execution
            if key not in self._kept and run.id not in stood_in and run.name in durable.registry:
                self._kept[key] = run.export_history()

    def check(self, durable: Durable) -> None:
        """Replay what was kept.

        Raises:
            AssertionError: a history does not fit.
            ConfigurationError: an orchestrator cannot be imported by another process.
        """
        if not self._kept:
            return
        names = {json.loads(history)["name"] for history in self._kept.values()}
        job = {
            "path": [os.path.abspath(folder) for folder in sys.path],
            "modules": sorted({_module_of(durable, name) for name in names}),
            "histories": list(self._kept.values()),
        }
        code = f"from {__name__} import replay_all; replay_all()"
        processes = [
            subprocess.Popen(  # noqa: S603
                [sys.executable, "-c", code],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                env={
                    **os.environ,
                    "PYTHONHASHSEED": str(seed),
                    "PYTHONPATH": os.pathsep.join(job["path"]),
                },
            )
            for seed in range(1, self._seeds + 1)
        ]
        for process in processes:
            output, errors = process.communicate(json.dumps(job))
            assert process.returncode == 0, f"histories could not be replayed elsewhere:\n{errors}"
            problems = json.loads(output.splitlines()[-1])
            assert not problems, (
                "with another hash seed the code asks for something else:\n" + "\n".join(problems)
            )


def _module_of(durable: Durable, name: str) -> str:
    for version in durable.registry.versions(name):
        definition = durable.registry.get(name, version)
        function: Any = definition.function if definition is not None else None
        if "<locals>" in function.__qualname__ or function.__module__ == "__main__":
            raise ConfigurationError(
                f"{name} is declared in {function.__module__}.{function.__qualname__}, which no"
                " other process can import: declare it at the top of a module, or"
                " check_determinism(hash_seeds=0)"
            )
        return str(function.__module__)
    raise ConfigurationError(f"{name} is not registered here")


def replay_all() -> None:
    """Replay the histories of the job on standard input, and print what does not fit, as JSON."""
    job = json.load(sys.stdin)
    if "DJANGO_SETTINGS_MODULE" in os.environ:
        import_module("django").setup()
    for module in job["modules"]:
        import_module(module)
    problems = []
    for history in job["histories"]:
        document = json.loads(history)
        name = document["name"]
        try:
            _durable_with(name).replay(history, check_arguments=True)
        except DurableError as error:
            problems.append(f"{name} {document.get('id', '')}: {error}")
    print(json.dumps(problems))


def _durable_with(name: str) -> Durable:
    for app in _state._get_active_apps():
        durable: Durable | None = getattr(app, "durable", None)
        if durable is not None and name in durable.registry:
            return durable
    raise DurableError(f"no application that was imported has the orchestrator {name!r}")
