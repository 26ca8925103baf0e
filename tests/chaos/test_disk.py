"""A disk without space under an SQLite store and the embedded broker: all goes on once there is
space again.
"""

from __future__ import annotations

import resource
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

import psutil

from tests.conftest import wait_until

from .cluster import Cluster
from .report import Figures
from .scene import Scene, plays

SIZE = 16 << 20


class SmallDisk:
    """A file system of its own, of a few megabytes, that a file of ballast can fill."""

    kind = "full file system"

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    @classmethod
    def mount(cls, scene: Scene) -> SmallDisk | None:
        directory = Path(tempfile.mkdtemp(prefix="durable-disk-"))
        scene.callback(shutil.rmtree, directory, ignore_errors=True)
        options = f"size={SIZE},mode=0777"
        if subprocess.run(
            ["mount", "-t", "tmpfs", "-o", options, "tmpfs", directory], capture_output=True
        ).returncode:
            return None
        scene.callback(subprocess.run, ["umount", "-l", directory], capture_output=True)
        return cls(directory)

    def fill(self, cluster: Cluster) -> None:
        with (self.directory / "ballast").open("wb", buffering=0) as ballast:
            try:
                while True:
                    ballast.write(b"\0" * 4096)
            except OSError:
                pass

    def empty(self, cluster: Cluster) -> None:
        (self.directory / "ballast").unlink()


class FileLimit:
    """Where nothing can be mounted: no file of the workers may grow, by their resource limit."""

    kind = "file size limit"

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def fill(self, cluster: Cluster) -> None:
        # the write-ahead logs are reset at 4 MB; with no growth of any file there is no space left
        # for anything
        self._limit(cluster, 4096)

    def empty(self, cluster: Cluster) -> None:
        self._limit(cluster, resource.RLIM_INFINITY)

    def _limit(self, cluster: Cluster, size: int) -> None:
        for slot in cluster.running():
            assert slot.process is not None
            for pid in cluster.pids(slot.process):
                try:
                    resource.prlimit(pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
                except (ProcessLookupError, psutil.NoSuchProcess):
                    pass


def full_disk(scene: Scene) -> Figures:
    disk = SmallDisk.mount(scene) or FileLimit(scene.path())
    cluster = scene.cluster("durable://", scene.sqlite(disk.directory), pace=2)
    cluster.workers(2)
    refusals: list[str] = []

    def fill() -> None:
        """Full until somebody has noticed, and for two seconds more."""
        disk.fill(cluster)
        noticed = wait_until(lambda: _refusals(cluster), 60, "a refusal for want of space")
        time.sleep(2)
        refusals.append(str(noticed))
        disk.empty(cluster)

    figures = cluster.storm(16, 6, {disk.kind: (1, fill)})
    figures.facts["refusals"] = refusals
    return figures


def _refusals(cluster: Cluster) -> str:
    for path in cluster.directory.glob("worker-*.log"):
        for line in path.read_text(errors="replace").splitlines():
            if "is full" in line or "disk I/O error" in line:
                return line
    return ""


@plays(full_disk)
def test_a_full_disk_under_sqlite_and_the_embedded_broker(outcome):
    assert all(outcome.facts["refusals"])
    assert outcome.faults.total() == len(outcome.facts["refusals"]) > 0
