"""Looks at an orchestrator's code while it runs, for calls that a replay would answer otherwise:
``durable_guard``.

Nothing is replaced. While an orchestrator takes an event, its thread has a profile function, which
Python tells of each call; it is taken away again at the end of that. With ``"off"`` this module is
not imported.

Who called decides: the function is looked up on the stack, outwards to where the engine runs the
orchestrator's code. What the engine, ``ctx.run``, a logger or an import does on the way is no
business of a replay; nor is what runs when garbage is collected, at a moment that nothing decides.
Of what libraries call, effects count (a connection, a file, a thread) and values do not: a tracing
library may look at the clock.

It does not see what C code calls, such as ``functools.partial(time.time)()``.
"""

from __future__ import annotations

import datetime
import gc
import io
import os
import random
import socket
import subprocess
import sys
import sysconfig
import tempfile
import threading
import time
import uuid
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from enum import Enum
from functools import cache
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

from ._errors import DeterminismWarning, ForbiddenOperation
from .core.guard import running_orchestrator
from .core.loop import is_collecting
from .replacements import CALLED, EFFECT, GIVEN, RANDOM
from .replacements import THREAD as THREADS

__all__ = ["guarded"]


class _Call(NamedTuple):
    """What must not be called."""

    what: str
    instead: str

    @property
    def is_effect(self) -> bool:
        """Whether it does something, and does not only give a value."""
        return self.instead in (EFFECT, THREADS, CALLED["time.sleep"])


#: What is named by its module.
_WHOLE = frozenset({"subprocess", "tempfile"})


def _named(name: str, *functions: Any) -> dict[Any, _Call]:
    call = _Call(name if name in _WHOLE else f"{name}()", CALLED.get(name, EFFECT))
    return {getattr(function, "__code__", function): call for function in functions}


def _random() -> dict[Any, _Call]:
    """Return the methods of the generator that the functions of ``random`` share."""
    shared: Any = random.seed.__self__  # type: ignore[attr-defined]
    call = _Call("a function of random", RANDOM)
    return {shared.random: call, shared.getrandbits: call, super(random.Random, shared).seed: call}


def _optional(name: str, module: Any, *functions: str) -> dict[Any, _Call]:
    found = [each for each in (getattr(module, f, None) for f in functions) if each is not None]
    return _named(name, *found)


_CLOCKS = (
    "time",
    "time_ns",
    "monotonic",
    "monotonic_ns",
    "perf_counter",
    "perf_counter_ns",
    "process_time",
    "process_time_ns",
)
_environ = type(os.environ)
_FILES = (
    "listdir",
    "scandir",
    "stat",
    "lstat",
    "open",
    "remove",
    "unlink",
    "rename",
    "replace",
    "mkdir",
    "system",
)


def _watched() -> dict[Any, _Call]:
    """Return what is looked for: functions of C by themselves, those of Python by their code."""
    found: dict[Any, _Call] = {}
    for name in _CLOCKS:
        found |= _named(f"time.{name}", getattr(time, name))
    for name in _FILES:
        found |= _optional(f"os.{name}", os, name)
    return (
        found
        | _named("time.sleep", time.sleep)
        | _random()
        | _named("os.urandom", os.urandom)
        | _named("uuid.uuid1", uuid.uuid1)
        | _named("uuid.uuid4", uuid.uuid4)
        | {_environ.__getitem__.__code__: _Call("os.environ", GIVEN)}
        | {_environ.__iter__.__code__: _Call("os.environ", GIVEN)}
        | _named("open", io.open)
        | _optional("open", io, "open_code")
        | _named("tempfile", tempfile.mkstemp, tempfile.mkdtemp)
        | _named("subprocess", subprocess.Popen.__init__)
        | _optional("os.fork", os, "fork", "posix_spawn", "posix_spawnp")
        | _named("socket.getaddrinfo", socket.getaddrinfo)
        | {threading.Thread.start.__code__: _Call("threading.Thread.start()", THREADS)}
    )


#: Methods whose owner differs from call to call: what it has to be, and what it is called.
_METHODS: dict[str, tuple[type, Callable[[Any], Any], str, str]] = {
    **{
        name: (datetime.date, lambda owner: owner, f"datetime.{name}()", CALLED["time.time"])
        for name in ("now", "utcnow", "today")
    },
    **{
        name: (socket.socket, type, f"socket.{name}()", EFFECT)
        for name in ("connect", "connect_ex", "sendto")
    },
}


def _method(function: Any) -> _Call | None:
    known = _METHODS.get(function.__name__)
    if known is None:
        return None
    wanted, type_of, what, instead = known
    owner = type_of(getattr(function, "__self__", None))
    is_it = isinstance(owner, type) and issubclass(owner, wanted)
    return _Call(what, instead) if is_it else None


# -- who called ------------------------------------------------------------------------------------


class _Whose(Enum):
    """Whose a file is."""

    STEPS = "the engine's, where it runs an orchestrator's code"
    NO_BUSINESS = "what does other things on the way"
    STANDARD = "Python's, or of a library that only passes a value on"
    LIBRARY = "a library's"
    APPLICATION = "the application's"


_OURS = Path(__file__).parent
_STEPS = {str(_OURS / each) for each in ("core/driver.py", "core/loop.py", "core/futures.py")}
_PASSED = {str(_OURS / "azure/running.py")}
_STANDARD = sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib")
_INSTALLED = sysconfig.get_path("purelib"), sysconfig.get_path("platlib")
#: Of Python's own: they look at clocks, files and the environment for what no replay depends on.
_HARMLESS = (
    "logging",
    "warnings.py",
    "linecache.py",
    "traceback.py",
    "zoneinfo",
    "importlib",
    "inspect.py",
    "gettext.py",
    "locale.py",
    "sysconfig",
    "encodings",
    "pdb.py",
    "bdb.py",
)
#: Of libraries: they give what they get from Python's own.
_PASSING = (
    "django/utils/timezone.py",
    "django/utils/crypto.py",
    "pendulum/",
    "arrow/",
    "ulid/",
    "ksuid/",
    "shortuuid/",
    "nanoid/",
    "uuid6/",
    "uuid_utils/",
)


@cache
def _whose(file: str) -> _Whose:
    if file in _STEPS:
        return _Whose.STEPS
    if file in _PASSED:
        return _Whose.STANDARD
    if file.startswith((f"{_OURS}/", "<frozen importlib")):
        return _Whose.NO_BUSINESS
    for place in _INSTALLED:  # within the standard library's place
        if file.startswith(f"{place}/"):
            is_passing = file[len(place) + 1 :].startswith(_PASSING)
            return _Whose.STANDARD if is_passing else _Whose.LIBRARY
    for place in _STANDARD:
        if file.startswith(f"{place}/"):
            is_harmless = file[len(place) + 1 :].startswith(_HARMLESS)
            return _Whose.NO_BUSINESS if is_harmless else _Whose.STANDARD
    return _Whose.STANDARD if file.startswith("<frozen") else _Whose.APPLICATION


def _steps(frame: FrameType | None) -> list[tuple[FrameType, _Whose]] | None:
    """Return the frames from a call out to where the engine runs an orchestrator's code.

    None if it is no orchestrator's code that called.
    """
    if is_collecting():
        return None
    found: list[tuple[FrameType, _Whose]] = []
    listeners = _listeners()
    while frame is not None:
        if frame.f_code in listeners:
            return None
        whose = _whose(frame.f_code.co_filename)
        if whose is _Whose.STEPS:
            return found
        if whose is _Whose.NO_BUSINESS or frame.f_code.co_name == "<module>":
            return None
        found.append((frame, whose))
        frame = frame.f_back
    return None


def _listeners() -> set[Any]:
    """Return the code that is told of collections of garbage, whatever code they interrupt."""
    found = (getattr(each, "__func__", each) for each in gc.callbacks)
    return {
        getattr(each, "__code__", getattr(type(each).__call__, "__code__", None)) for each in found
    }


def _package(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__")).partition(".")[0]


def _caller(frame: FrameType | None, call: _Call) -> FrameType | None:
    """Return the frame of the application that a replay would see do it; None if there is none.

    An orchestrator that is installed as a package is the application's, and so is its package.
    """
    steps = [each for each in _steps(frame) or () if each[1] is not _Whose.STANDARD]
    if not steps:
        return None
    own = _package(steps[-1][0])
    for each, whose in steps:
        if whose is _Whose.APPLICATION or _package(each) == own:
            return each
        if not call.is_effect:
            return None
    return None


# -- looking ---------------------------------------------------------------------------------------


class _Look:
    """The profile function of a thread while it runs one orchestrator's code."""

    def __init__(self, instance_id: str, raises: bool) -> None:
        self._instance_id, self._raises = instance_id, raises
        self._watched = _all_watched()
        self.problem: ForbiddenOperation | None = None
        #: The lines that it has told of: what they call calls others.
        self._reported: set[tuple[str, int]] = set()

    def __call__(self, frame: FrameType, event: str, argument: Any) -> None:
        """Be told of a call, before it is done."""
        call: _Call | None
        if event == "c_call":
            call = self._watched.get(argument) or _method(argument)
            caller: FrameType | None = frame
        elif event == "call":
            call, caller = self._watched.get(frame.f_code), frame.f_back
        else:
            return
        if call is not None and (found := _caller(caller, call)) is not None:
            self._report(call, found)

    def _report(self, call: _Call, frame: FrameType) -> None:
        file, line = frame.f_code.co_filename, frame.f_lineno
        if (file, line) in self._reported:
            return
        text = (
            f"{file}:{line} uses {call.what} in an orchestrator, and a replay would get something"
            f" else, or do it again: {call.instead}"
        )
        if self._raises:
            self.problem = self.problem or self._refusal(text, call, f"{file}:{line}")
            raise self.problem
        self._reported.add((file, line))
        names = frame.f_globals
        warnings.warn_explicit(
            text,
            DeterminismWarning,
            file,
            line,
            module=names.get("__name__"),
            registry=names.setdefault("__warningregistry__", {}),
        )

    def _refusal(self, text: str, call: _Call, line: str) -> ForbiddenOperation:
        return ForbiddenOperation(
            f"{text} (durable_guard). Fix the code, then resume it",
            operation=call.what,
            line=line,
            instance_id=self._instance_id,
        )


@cache
def _all_watched() -> dict[Any, _Call]:
    return _watched()


@contextmanager
def _looking(instance_id: str, *, raises: bool) -> Iterator[None]:
    """Run an orchestrator's code, and look at it.

    Another profiler is left where it is, and then nothing is looked at.
    """
    outer = sys.getprofile()
    if outer is not None and not isinstance(outer, _Look):
        with running_orchestrator(instance_id):
            yield
        return
    look = _Look(instance_id, raises)
    with running_orchestrator(instance_id):
        sys.setprofile(look)
        try:
            yield
        finally:
            sys.setprofile(outer)
    if look.problem is not None:
        raise look.problem  # caught there or not: what was decided after it does not count


def guarded(mode: str) -> Callable[[str], AbstractContextManager[None]]:
    """Return what an orchestrator's code is run in.

    Args:
        mode: "warn" or "raise".

    Raises:
        DeterminismWarning: (as a warning, by the code) a line does what a replay would do
            otherwise.
        ForbiddenOperation: (by the code, and at its end) the same with "raise".
    """
    raises = mode == "raise"
    return lambda instance_id: _looking(instance_id, raises=raises)
