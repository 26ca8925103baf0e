"""Flow control and retention: what a new instance waits for, who lets it in, and what its end sets in motion.

A limited instance is inserted with a start message that nobody sees, and with a row that waits. Whoever commits a start or
an end tries to let the next ones in after that commit; a try finds the limits' row locked only by another that looks
again after its own commit. What dies in between is found by recovery, which looks once a second.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Protocol

from ..conf import Settings
from ..core.context import EPOCH
from ..core.flow import Debounce, Limit, Rate, check_key, key_of
from ..core.replay import Codec, Decision
from ..core.retry import in_microseconds
from ..errors import ConfigurationError, StoreError
from .observation import Observation
from .protocols import Publisher
from .records import Admission, InstanceRow, NewInstance, Place, TurnAddress, TurnCommit, Waiting

if TYPE_CHECKING:
    from .registry import Definition, Registry

__all__ = ["AdmissionStore", "Flow", "Flows", "declared_flow", "waits_in_words"]

log = logging.getLogger("celery_durable.flow")
_LARGEST = 2**31 - 1
_TRIES = 3


class AdmissionStore(Protocol):
    """What admission needs of a store."""

    def admit(self, name: str, terms: Mapping[str, int] | None, *, notes_look: bool = False) -> list[str] | None:
        """Let in those of an orchestrator that have room; None if another is about it."""

    def may_admit(self, name: str, terms: Mapping[str, int] | None) -> bool:
        """Tell whether one of an orchestrator that waits has room."""

    def turn_addresses(self, ids: Sequence[str]) -> list[TurnAddress]:
        """Return where the turns of these instances are sent."""


# -- what is declared -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Flow:
    """What an orchestrator declares about its beginnings."""

    function: Callable[..., Any]
    limits: tuple[Limit | Rate, ...] = ()
    debounce: Debounce | None = None
    priority: int = 0

    @property
    def terms(self) -> dict[str, int]:
        """Return the number of each limit, by its label."""
        return {limit.label: limit.most for limit in self.limits}

    def admission(
        self, name: str, args: Sequence[Any], kwargs: Mapping[str, Any], priority: int | None, *, debounces: bool
    ) -> Admission | None:
        """Return what an instance with these arguments waits for, or None if it is nothing.

        Raises:
            ValueError: a key cannot be told.
        """
        debounce = self.debounce if debounces else None
        found: list[Place] = []
        for limit in self.limits:
            key = None if limit.key is None else self._key(limit.label, limit.key, args, kwargs)
            if key is not None or limit.key is None:
                found.append(Place(limit.label, key, limit.most, limit.period))
        chosen = min(max(self.priority if priority is None else priority, -_LARGEST), _LARGEST)
        if debounce is None:
            return Admission(tuple(found), chosen) if found else None
        key = None if debounce.key is None else self._key("debounce", debounce.key, args, kwargs)
        return Admission(
            tuple(found), chosen, hashlib.sha256(json.dumps([name, key]).encode()).hexdigest()[:40],
            in_microseconds(debounce.quiet), None if debounce.max_wait is None else in_microseconds(debounce.max_wait),
        )  # fmt: skip

    def _key(self, label: str, key: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> str | None:
        try:
            return key_of(key, self.function, args, kwargs)
        except Exception as error:
            raise ValueError(
                f"the key of its limit {label!r} cannot be told: {type(error).__name__}: {error}"
            ) from error


def declared_flow(function: Callable[..., Any], options: Mapping[str, Any]) -> Flow | None:
    """Check the options ``limit`` and ``debounce`` of a declaration; None if there is neither.

    Raises:
        ConfigurationError: they cannot be used.
    """
    given, debounce, priority = options.get("limit"), options.get("debounce"), options.get("priority")
    if given is None and debounce is None:
        return None
    what = f"orchestrator {getattr(function, '__name__', function)}"
    limits: list[Limit | Rate] = []
    for each in [] if given is None else given if isinstance(given, (list, tuple)) else [given]:
        limit = Limit(each) if isinstance(each, int) and not isinstance(each, bool) else each
        if not isinstance(limit, (Limit, Rate)):
            raise ConfigurationError(f"{what}: limit takes a number, Limit, Rate, or a list of these, not {limit!r}")
        if limit.label in {other.label for other in limits}:
            raise ConfigurationError(f"{what}: two limits have the same key ({limit.label}); name the keys' functions")
        check_key(limit.key, function, what)
        limits.append(limit)
    if debounce is not None and not isinstance(debounce, Debounce):
        raise ConfigurationError(f"{what}: debounce takes Debounce(seconds, key=...), not {debounce!r}")
    if debounce is not None:
        check_key(debounce.key, function, what)
    return Flow(function, tuple(limits), debounce, priority if isinstance(priority, int) else 0)


# -- what is kept with an instance for its end -------------------------------------------------------------------


def _policy_text(keep: Mapping[str, int], *, is_limited: bool) -> str | None:
    policy = {**({"keep": dict(keep)} if keep else {}), **({"limited": True} if is_limited else {})}
    return json.dumps(policy) if policy else None


def _read_policy(text: str | None) -> tuple[Mapping[str, Any], bool]:
    """Return how long an instance is kept by its status, and whether it is limited; damage is nothing of both."""
    try:
        found = json.loads(text) if text else {}
        keep, is_limited = found.get("keep") or {}, found.get("limited") is True
        return (keep if isinstance(keep, dict) else {}), is_limited
    except (ValueError, AttributeError, RecursionError):
        log.error("the policy of an orchestration is damaged: %.80r", text)
        return {}, True


def _settle(commit: TurnCommit, instance: InstanceRow) -> None:
    """Add to a commit what the end of an instance brings with it."""
    if instance.policy is None or commit.status is None or not commit.status.is_terminal:
        return
    keep, commit.frees_place = _read_policy(instance.policy)
    period = keep.get(str(commit.status))
    commit.keeps_for = period if isinstance(period, int) and not isinstance(period, bool) else None


# -- what the engine does ------------------------------------------------------------------------------------------


class _Engine(Protocol):
    @property
    def store(self) -> Any: ...
    @property
    def registry(self) -> Registry: ...
    @property
    def codec(self) -> Codec: ...
    @property
    def settings(self) -> Settings: ...
    @property
    def publisher(self) -> Publisher: ...
    @property
    def observation(self) -> Observation: ...


@dataclass(slots=True)
class Flows:
    """Flow control of this process, over its engine."""

    engine: _Engine

    def dress(self, new: NewInstance, definition: Definition | None, *, debounces: bool = False) -> None:
        """Give a new instance what its orchestrator declares.

        Raises:
            ValueError: a key cannot be told from its arguments, or it cannot be debounced.
        """
        declared = None if definition is None else definition.retention
        keep = self.engine.settings.kept if declared is None else declared
        if definition is not None and definition.flow is not None:
            args, kwargs = self.engine.codec.decode(new.input)
            canvas = self.engine.codec.decode(new.canvas) if new.canvas else {}
            priority = (canvas.get("options") or {}).get("priority")
            try:
                new.admission = definition.flow.admission(
                    new.name, args, kwargs, priority if isinstance(priority, int) else None, debounces=debounces
                )
                if new.admission is not None and new.admission.debounce is not None and "finish" in canvas:
                    raise ValueError("it is debounced, so it cannot be part of a canvas or carry link, chain or chord")
            except ValueError as error:
                raise ValueError(f"orchestration {new.id!r} ({new.name}) cannot start: {error}") from error
        new.policy = _policy_text(keep, is_limited=new.admission is not None)

    def complete(self, commit: TurnCommit, instance: InstanceRow, decision: Decision | None, now: int) -> None:
        """Add to a commit what flow control and retention know."""
        for child in list(commit.children):
            try:
                self.dress(child, self.engine.registry.get(child.name, child.version))
            except ValueError as error:
                log.warning("%s", error)
                commit.children.remove(child)
                if child.refusal is not None and decision is not None and decision.final is None:
                    failure = self.engine.codec.encode_failure(error)
                    message = replace(child.refusal, payload=failure, visible_at=now, facts={"refused": True})
                    commit.own_inbox.append(message)
        _settle(commit, instance)

    def after(self, name: str, commit: TurnCommit, children: Sequence[NewInstance]) -> None:
        """Let in what a commit made room for, and the children that it started."""
        for limited in sorted({child.name for child in children if child.admission is not None}):
            self.admit(limited)
        if commit.frees_place:
            self.admit(name, is_likely=False)

    def admit(self, name: str, *, is_likely: bool = True, notes_look: bool = False) -> None:
        """Let in those of an orchestrator that have room, and send their first turns; a failure is left to recovery.

        Args:
            name: of the orchestrator.
            is_likely: whether to try at once, or to look first.
            notes_look: whether other workers may spare their own look for a while.
        """
        store: AdmissionStore = self.engine.store
        definition = self.engine.registry.newest(name)
        terms = None if definition is None else {} if definition.flow is None else definition.flow.terms
        tries = _TRIES
        try:
            while tries and (is_likely or store.may_admit(name, terms)):
                admitted = store.admit(name, terms, notes_look=notes_look)
                if admitted is None:
                    return
                is_likely, tries = False, _TRIES if admitted else tries - 1
                for address in store.turn_addresses(admitted):
                    self.engine.publisher.publish_turn(address)
        except StoreError:
            log.warning("nothing could be let in of %s; recovery will", name, exc_info=True)


def waits_in_words(waiting: Waiting, now: int) -> str:
    """Say what an instance waits for that has not been let in."""
    if waiting.ready_at > now:
        return f"its time to begin, {(EPOCH + timedelta(microseconds=waiting.ready_at)).isoformat(' ', 'seconds')}"
    full = [(place, taken) for place, taken in waiting.places if taken >= place.most]
    parts = [
        f"{taken} of {place.most}{_kind(place)} of orchestrator {waiting.name!r}"
        + (f" for key {place.key!r}" if place.key is not None else "")
        + " are taken"
        for place, taken in full
    ]
    where = "; ".join(parts) or "there is room"
    return f"a place: {where}, {waiting.before} before it"


def _kind(place: Place) -> str:
    return "" if place.period is None else f" starts in {timedelta(microseconds=place.period)}"
