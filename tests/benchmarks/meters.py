"""What work costs, whoever does it: processor time by process, messages received, memory."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

import psutil

from .places import Place

ROLES = ("client", "main", "children", "database", "broker")


@dataclass
class Cost:
    """What one run of a workload took."""

    seconds: float = 0
    #: Seconds of processor time by role.
    cpu: dict[str, float] = field(default_factory=dict)
    #: Messages received by the worker, by the last part of the task's name.
    received: dict[str, int] = field(default_factory=dict)
    #: What the workload measured itself, in seconds.
    values: list[float] = field(default_factory=list)
    #: What the store's server has committed and written to its log, where it tells.
    written: dict[str, float] = field(default_factory=dict)

    @property
    def all_cpu(self) -> float:
        return sum(self.cpu.values())


class Meter:
    """Reads the counters of the worker, of the servers and of this process."""

    def __init__(self, worker: int, place: Place) -> None:
        self._worker, self._place = psutil.Process(worker), place
        self._servers = {"database": place.store_processes, "broker": place.broker_processes}

    @contextmanager
    def reading(self) -> Iterator[Cost]:
        """Fill in what the block costs; what is received is counted from the last reading on."""
        cost = Cost()
        self._received()
        written = self._place.written()
        before, began = self._cpu(), time.perf_counter()
        yield cost
        cost.seconds = time.perf_counter() - began
        cost.cpu = {role: spent - before[role] for role, spent in self._cpu().items()}
        cost.received = self._received()
        cost.written = {
            name: count - written[name] for name, count in self._place.written().items()
        }

    def _cpu(self) -> dict[str, float]:
        main = self._worker.cpu_times()
        children = [_with_ended(child) for child in self._worker.children(recursive=True)]
        ended = main.children_user + main.children_system
        return {
            "client": sum(os.times()[:2]),
            "main": main.user + main.system,
            "children": sum(children) + ended,
            **{role: _of_named(names) for role, names in self._servers.items()},
        }

    def _received(self) -> dict[str, int]:
        from .app import app

        answers = app.control.broadcast("bench_received", reply=True, limit=1, timeout=30)
        return dict(next(iter(answers[0].values())))

    def memory(self) -> dict[str, int]:
        """Return the resident and the proportional memory of the whole worker, in bytes."""
        whole = [self._worker, *self._worker.children(recursive=True)]
        infos = [process.memory_full_info() for process in whole]
        return {"rss": sum(info.rss for info in infos), "pss": sum(info.pss for info in infos)}


def _with_ended(process: psutil.Process) -> float:
    with suppress(psutil.Error):
        times = process.cpu_times()
        return float(times.user + times.system + times.children_user + times.children_system)
    return 0.0


def _of_named(names: tuple[str, ...]) -> float:
    """Add up the processes of a server; those of them that have ended count with their parent."""
    found = [process for process in psutil.process_iter(["name"]) if process.info["name"] in names]
    return sum(_with_ended(process) for process in found)
