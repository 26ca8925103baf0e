"""What is kept of the options of a start: for the messages of its turns, and for its end.

The store keeps it as one JSON object (the column ``canvas``), which only this module reads and
writes:

* ``options``: options of ``apply_async`` for each message of a turn;
* ``finish``: what Celery does with the end (callbacks, chain, chord, group, parent);
* ``reply``: where a result backend sends the result, if that is a queue;
* ``ignore_result``: true if no result is to be stored;
* ``shown``: how the caller wants the arguments to be shown;
* ``context``: what travels with it: ``headers`` of messages, and ``values`` of propagators;
* ``plain_task``: how a plain task is run (``plain_task.TaskOptions``);
* ``timeout``: how long the whole run may take, in microseconds, where the start says so;
* ``expires``, of a schedule only: ``{"within": ..}`` microseconds from its start a tick must begin,
  or ``{"at": ..}`` a moment.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Protocol

from .._errors import PayloadError
from .commands import shown_in
from .options import AT_THE_END, NEEDLESS, OF_THE_START

__all__ = ["CanvasOptions"]


class _Codec(Protocol):
    def decode(self, payload: str) -> Any: ...


class CanvasOptions:
    """The kept options of one orchestration; a part is looked at when it is asked for.

    Raises:
        PayloadError: a part, when it is read, is not what it should be.
    """

    __slots__ = ("kept",)

    def __init__(self, kept: Mapping[str, Any] | None = None) -> None:
        #: The JSON object, as it is stored.
        self.kept: Mapping[str, Any] = {} if kept is None else kept

    @classmethod
    def read(cls, codec: _Codec, text: str | None) -> CanvasOptions:
        """Return what is stored.

        Raises:
            PayloadError: it is damaged.
        """
        found = codec.decode(text) if text else {}
        if not isinstance(found, dict):
            raise PayloadError(f"stored options are {type(found).__name__}, not a dict")
        return cls(found)

    @staticmethod
    def may_have(text: str | None, name: str) -> bool:
        """Tell, without decoding, whether what is stored may have a name in it."""
        return text is not None and text != "" and (text[0] != "{" or f'"{name}"' in text)

    @staticmethod
    def of_replay(text: str | None) -> str | None:
        """Return, as they are stored, those of them that a replay depends on; all, where they
        cannot be told apart.
        """
        try:
            kept = json.loads(text or "{}")
        except (ValueError, RecursionError):  # another serializer, or damaged
            return text
        if not isinstance(kept, dict):
            return text
        seen = {name: kept[name] for name in ("context", "plain_task") if name in kept}
        return json.dumps(seen) if seen else None

    @classmethod
    def of_start(cls, options: Mapping[str, Any]) -> CanvasOptions:
        """Return what is kept of the options of a start."""
        kept: dict[str, Any] = {}
        passed = OF_THE_START.union(AT_THE_END, NEEDLESS)
        turns = {
            key: value for key, value in options.items() if key not in passed and value is not None
        }
        for key in turns.keys() & {"queue", "exchange"}:
            turns[key] = getattr(turns[key], "name", turns[key])
        if turns:
            kept["options"] = turns
        finish = {key: options[key] for key in AT_THE_END if options.get(key)}
        if options.get("group_index") is not None and "group_id" in finish:
            finish["group_index"] = options["group_index"]
        if finish:
            parent_id = options.get("parent_id")
            kept["finish"] = finish | ({"parent_id": parent_id} if parent_id else {})
        if options.get("ignore_result"):
            kept["ignore_result"] = True
        if shown := shown_in(options):
            kept["shown"] = shown
        return cls(kept)

    @classmethod
    def of_parts(
        cls,
        *,
        options: Mapping[str, Any],
        finish: Mapping[str, Any],
        reply: Mapping[str, Any] | None,
        ignores_result: bool,
        shown: Mapping[str, str],
    ) -> CanvasOptions:
        """Return what is kept of a start that came as a message; what is empty is left out."""
        parts = {
            "options": dict(options),
            "finish": dict(finish),
            "reply": dict(reply or {}),
            "ignore_result": ignores_result,
            "shown": dict(shown),
        }
        return cls({name: part for name, part in parts.items() if part})

    def with_end(
        self, *, reply: Mapping[str, Any] | None = None, ignores_result: bool = False
    ) -> CanvasOptions:
        """Return the same, with where the result goes, or that it goes nowhere."""
        return CanvasOptions(
            {
                **self.kept,
                **({"reply": dict(reply)} if reply else {}),
                **({"ignore_result": True} if ignores_result else {}),
            }
        )

    def with_context(self, context: Mapping[str, Any] | None) -> CanvasOptions:
        """Return the same, with what travels."""
        return CanvasOptions({**self.kept, "context": dict(context)}) if context else self

    def with_timeout(self, timeout: int | None) -> CanvasOptions:
        """Return the same, with how long the whole run may take, in microseconds."""
        return self if timeout is None else CanvasOptions({**self.kept, "timeout": timeout})

    def with_task(self, task: Mapping[str, Any]) -> CanvasOptions:
        """Return the same, with how a plain task is run."""
        return CanvasOptions({**self.kept, "plain_task": dict(task)})

    def with_expiry(self, *, within: int | None = None, at: int | None = None) -> CanvasOptions:
        """Return the same of a schedule, with when what it starts is not to begin any more.

        Args:
            within: microseconds from when each is to start.
            at: the moment for all, in microseconds; one of the two.
        """
        expires = {"within": within} if at is None else {"at": at}
        return CanvasOptions({**self.kept, "expires": expires})

    def of_tick(self, start: int) -> tuple[CanvasOptions, int | None]:
        """Return what is kept of one start by a schedule, and after which moment that is not to
        begin; None is no limit.

        Args:
            start: when it is to start, in microseconds.
        """
        expires = self._part("expires")
        kept = {key: value for key, value in self.kept.items() if key != "expires"}
        if not expires:
            return CanvasOptions(kept), None
        moment = expires["at"] if "at" in expires else start + expires["within"]
        if self.is_of_task:
            kept["plain_task"] = {**self.task, "expires": moment}
        return CanvasOptions(kept), moment

    def without_reply(self) -> CanvasOptions:
        """Return the same for a start whose result no client waits for."""
        return CanvasOptions({key: value for key, value in self.kept.items() if key != "reply"})

    def for_another_start(self) -> CanvasOptions:
        """Return what holds for a new orchestration in place of this one: its callbacks are called
        once, so they are left out.
        """
        kept = ("options", "ignore_result", "shown", "context", "timeout", "plain_task")
        found = {key: self.kept[key] for key in kept if key in self.kept}
        if self.is_of_task:  # it expires as the first start did
            found["plain_task"] = {
                name: value for name, value in self.task.items() if name != "expires"
            }
        return CanvasOptions(found)

    # -- parts -------------------------------------------------------------------------------------

    @property
    def options(self) -> Mapping[str, Any]:
        """Options of ``apply_async`` for each message of a turn."""
        return self._part("options")

    @property
    def finish(self) -> Mapping[str, Any]:
        """What Celery does with the end."""
        return self._part("finish")

    @property
    def reply(self) -> Mapping[str, Any]:
        """Where the result is sent: ``reply_to``, ``correlation_id``."""
        return self._part("reply")

    @property
    def shown(self) -> Mapping[str, Any]:
        """How the caller wants the arguments to be shown: ``argsrepr``, ``kwargsrepr``."""
        return self._part("shown")

    @property
    def context(self) -> Mapping[str, Any]:
        """What travels with it: ``headers``, ``values``."""
        return self._part("context")

    @property
    def task(self) -> Mapping[str, Any]:
        """How a plain task is run."""
        return self._part("plain_task")

    @property
    def is_of_task(self) -> bool:
        """Whether a plain task is started."""
        return "plain_task" in self.kept

    @property
    def timeout(self) -> int | None:
        """How long the whole run may take, in microseconds; None where the start does not say."""
        timeout = self.kept.get("timeout")
        return timeout if isinstance(timeout, int) else None

    @property
    def ignores_result(self) -> bool:
        """Whether no result is to be stored."""
        return bool(self.kept.get("ignore_result"))

    @property
    def priority(self) -> int | None:
        """The priority of its messages; None if the start gave none."""
        priority = self.options.get("priority")
        return priority if isinstance(priority, int) else None

    def _part(self, name: str) -> Mapping[str, Any]:
        part = self.kept.get(name) or {}
        if not isinstance(part, Mapping):
            raise PayloadError(f"stored options have {name} of the type {type(part).__name__}")
        return part
