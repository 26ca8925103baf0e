"""The journal of a world: after each step, which rows have changed, and what was sent.

Ids and times are written so that two runs are equal: an id by the number of its first appearance,
a moment in seconds since the beginning of the world. What a payload or a header holds is shown by
its structure, so that a difference is found within it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

__all__ = ["KEYS", "Journal", "coarse"]

#: What tells rows apart whose ``id`` no two databases number alike.
KEYS = {
    "durable_inbox": ["instance", "dedup"],
    "durable_places": ["name", "scope", "instance"],
    "durable_activity_waiting": ["execution", "command", "attempt", "lane"],
    "durable_activity_places": ["execution", "command", "attempt", "scope"],
}
#: Digests of names: what is stored of them is the same everywhere, and stays as it is.
_DIGESTS = {"lane", "scope", "debounce", "permit"}
#: Moments that tell of the pace of a world, and not of a program.
_PACE = {"last_seen", "told_at", "looked_at"}
#: What a line of the code moves, and how long a body has run.
_VARYING = {"traceback": "a traceback", "ran": "a while"}
_MOMENT = re.compile(r"(?<![0-9a-f])1[789]\d{14}(?![0-9a-f])")
_ISO = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?(?:\+00:00|Z)?")
_UUID = re.compile(
    r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
    r"|(?<![0-9a-z])[0-9a-f]{12,64}(?![0-9a-z])"
    r"|(?<=:)[0-9a-f]{8}(?=:)"  # the beginning of one, in the ids of children
)
_TRACEBACK = re.compile(r"Traceback \(most recent call last\):.*", re.DOTALL)
_SECONDS = re.compile(r"-*\d+ s\b")


class Journal:
    """What has happened in one world."""

    def __init__(self, begin: int) -> None:
        #: Microseconds since the epoch.
        self.begin = begin
        self.steps: list[dict[str, Any]] = []
        self._ids: dict[str, str] = {}
        self._before: dict[str, dict[str, dict[str, Any]]] = {}

    def note(
        self,
        step: str,
        tables: Mapping[str, tuple[list[str], list[Mapping[str, Any]]]],
        sent: Iterable[Any],
        told: Mapping[str, Any],
    ) -> None:
        """Note what a step has changed; nothing if it has changed nothing.

        Args:
            step: what was done.
            tables: for each the names of its key, and its rows in the order of what they belong to.
            sent: the messages that were published.
            told: what the result backend was told.
        """
        now: dict[str, dict[str, dict[str, Any]]] = {}
        for table, (keys, rows) in tables.items():
            plain = [self._row(table, row) for row in rows]
            found = now[table] = {}
            for row in sorted(plain, key=lambda row: self._masked(row, keys)):
                row = self._numbered(row)
                key = " ".join(str(row.get(name)) for name in keys)
                while key in found:  # rows that only their numbers tell apart
                    key += "'"
                found[key] = row
        changes = {
            table: changed
            for table, rows in now.items()
            if (changed := _changes(self._before.get(table, {}), rows))
        }
        self._before = now
        entry: dict[str, Any] = {"after": self._numbered(self._plain(step))}
        if changes:
            entry["rows"] = changes
        if messages := [self._numbered(self._plain(each)) for each in sent]:
            entry["sent"] = messages
        if told:
            entry["results"] = self._numbered(self._plain(dict(sorted(told.items()))))
        if len(entry) > 1:
            self.steps.append(entry)

    # -- values ------------------------------------------------------------------------------------

    def _row(self, table: str, row: Mapping[str, Any]) -> dict[str, Any]:
        return {
            name: "a moment" if name in _PACE else self._plain(value)
            for name, value in row.items()
            if value is not None and not (name == "id" and table in KEYS)
        }

    def _plain(self, value: Any) -> Any:
        """Return a value with moments as seconds, and JSON text as what it holds."""
        if isinstance(value, (bytes, memoryview)):
            value = bytes(value).decode()
        if isinstance(value, bool) or value is None or isinstance(value, float):
            return value
        if isinstance(value, int):
            text = str(abs(value))
            if not _MOMENT.fullmatch(text):
                return value
            return ("-" if value < 0 else "") + self._moment(int(text))
        if isinstance(value, Mapping):
            return {
                str(self._plain(key)): _VARYING.get(key) or self._plain(each)
                for key, each in value.items()
                if each is not None or key not in _VARYING
            }
        if isinstance(value, (list, tuple)):
            return [self._plain(each) for each in value]
        text = str(value)
        if text[:1] in "[{":
            try:
                return self._plain(json.loads(text))
            except ValueError:
                pass
        text = _TRACEBACK.sub("a traceback", text)
        text = _ISO.sub(lambda found: self._iso(found[0]), text)
        return _MOMENT.sub(lambda found: self._moment(int(found[0])), text)

    def _moment(self, micros: int) -> str:
        return f"{round((micros - self.begin) / 1_000_000)} s"

    def _iso(self, text: str) -> str:
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is None:
            moment = moment.astimezone()
        return self._moment(round(moment.timestamp() * 1_000_000))

    # -- ids ---------------------------------------------------------------------------------------

    def _masked(self, row: dict[str, Any], keys: list[str]) -> str:
        """Return by what a row is sorted: ids that have no number yet do not count."""
        known = self._ids

        def mask(found: re.Match[str]) -> str:
            return known.get(found[0], "~")

        first = [row.get(name) for name in keys]
        return _UUID.sub(mask, json.dumps([*first, row], sort_keys=True))

    def _numbered(self, value: Any, name: str = "") -> Any:
        if name in _DIGESTS:
            return value
        if isinstance(value, dict):
            return {self._numbered(key): self._numbered(each, key) for key, each in value.items()}
        if isinstance(value, list):
            return [self._numbered(each) for each in value]
        if not isinstance(value, str):
            return value
        return _UUID.sub(lambda found: self._number(found[0]), value)

    def _number(self, id_: str) -> str:
        whole = next((known for known in self._ids if known[:8] == id_), id_)
        number = self._ids.setdefault(whole, f"<id {len(self._ids) + 1}>")
        return number if whole == id_ else f"{number[:-1]} begins>"


def _changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, Any]:
    """Return what has changed of the rows of a table, by their keys."""
    found: dict[str, Any] = {}
    for key in [*now, *(key for key in before if key not in now)]:
        if key not in now:
            found[key] = "deleted"
        elif key not in before:
            found[key] = {"inserted": now[key]}
        elif before[key] != now[key]:
            old, new = before[key], now[key]
            names = sorted({name for name in {*old, *new} if old.get(name) != new.get(name)})
            found[key] = {name: [old.get(name), new.get(name)] for name in names}
    return found


def coarse(steps: Any) -> Any:
    """Return a journal without its seconds: the clock of a server goes on by itself.

    What is changed to another moment only is left out with them.
    """
    return [step for step in map(_coarse_step, steps) if len(step) > 1]


def _coarse_step(step: dict[str, Any]) -> dict[str, Any]:
    found = json.loads(_SECONDS.sub("a moment", json.dumps(step)))
    rows = {
        table: kept
        for table, changed in found.pop("rows", {}).items()
        if (kept := dict(filter(None, (_moved(*each) for each in changed.items()))))
    }
    return {**found, "rows": rows} if rows else found


def _moved(key: str, change: Any) -> tuple[str, Any] | None:
    if change == "deleted" or "inserted" in change:
        return key, change
    kept = {name: each for name, each in change.items() if each[0] != each[1]}
    return (key, kept) if kept else None
