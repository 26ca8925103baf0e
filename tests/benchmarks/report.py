"""The table for people, and what the two cost before they do anything."""

from __future__ import annotations

import subprocess
import sys
from statistics import median
from typing import Any

from .meters import ROLES

HEADINGS = (
    "workload",
    "",
    "wall ms",
    "ratio",
    *ROLES,
    "CPU ms",
    "ratio",
    "messages",
    "p50 ms",
    "p95 ms",
)


def table(rows: list[dict[str, Any]]) -> str:
    """Return all figures; times are for one unit of the workload, ratios are to plain Celery."""
    lines: list[tuple[str, ...]] = []
    notes = []
    for row in rows:
        if "memory" in row:
            ratio = {
                kind: row["memory"][kind] / row["plain_memory"][kind] for kind in ("rss", "pss")
            }
            notes.append(
                f"{row['place']}, {row['pool']}: worker {_mib(row['memory'])},"
                f" plain worker {_mib(row['plain_memory'])},"
                f" ratio {ratio['rss']:.2f} (pss {ratio['pss']:.2f})"
            )
            continue
        for form in ("plain", "durable"):
            if form in row:
                lines.append(_line(row, form))
    widths = [max(len(line[at]) for line in (HEADINGS, *lines)) for at in range(len(HEADINGS))]
    texts = [
        "  ".join(
            cell.ljust(width) if at < 2 else cell.rjust(width)
            for at, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        for line in (HEADINGS, *lines)
    ]
    return "\n".join([*texts, *notes])


def _line(row: dict[str, Any], form: str) -> tuple[str, ...]:
    found, plain, size = row[form], row.get("plain"), row["size"]

    def ratio(what: str) -> str:
        return f"{found[what] / plain[what]:.2f}" if form == "durable" and plain else ""

    def each(seconds: float) -> str:
        return f"{seconds * 1e3 / size:.2f}"

    percentiles = [f"{found[name] * 1e3:.1f}" if name in found else "" for name in ("p50", "p95")]
    name = (
        f"{row['workload']} ({row['place']}, {row['pool']})" if form == "plain" or not plain else ""
    )
    return (
        name,
        form,
        each(found["seconds"]),
        ratio("seconds"),
        *(each(found["cpu_by_role"][role]) for role in ROLES),
        each(found["cpu"]),
        ratio("cpu"),
        f"{sum(found['received'].values()) / size:.2f}",
        *percentiles,
    )


def _mib(memory: dict[str, int]) -> str:
    return f"{memory['rss'] / 2**20:.0f} MiB (pss {memory['pss'] / 2**20:.0f})"


def footprint() -> str:
    """Return what an import costs: processor time, and memory."""
    celery = "from celery import Celery; Celery"
    durable = f"{celery}; from celery_durable import Durable; Durable"
    found: dict[str, list[tuple[float, int]]] = {celery: [], durable: []}
    for _ in range(5):
        for code, values in found.items():
            values.append(_import_of(code))
    (plain, less), (ours, more) = (
        (median(seconds for seconds, _ in values), median(peak for _, peak in values))
        for values in found.values()
    )
    return (
        f"import: Celery {plain:.2f} s CPU, with Durable {ours:.2f} s (+{ours - plain:.2f}),"
        f" +{(more - less) / 1024:.0f} MiB"
    )


def _import_of(code: str) -> tuple[float, int]:
    # what getrusage says of memory is at least what the process had that started this one
    measure = (
        "; import resource as r; u = r.getrusage(r.RUSAGE_SELF); print(u.ru_utime + u.ru_stime);"
        " print(*(line.split()[1] for line in open('/proc/self/status') if 'VmHWM' in line))"
    )
    printed = subprocess.run(
        [sys.executable, "-c", code + measure], capture_output=True, text=True, check=True
    ).stdout
    seconds, peak = printed.split()
    return float(seconds), int(peak)
