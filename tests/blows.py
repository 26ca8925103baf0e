"""Exceptions out of nowhere: raised at every line, and at every return from C, of chosen source
files.

A signal handler, another thread and an exhausted memory raise wherever the process happens to be. A
test counts the places that a call passes, and lets one after the other be struck.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Container
from types import FrameType
from typing import Any

__all__ = ["Watch", "places", "struck_at"]


class Watch:
    """Counts the places that are passed while its block runs, also in several blocks, and strikes
    at one of them, once.
    """

    def __init__(
        self, files: Container[str], at: int | None = None, blow: Callable[[], None] = lambda: None
    ) -> None:
        self._files, self._at, self._blow = files, at, blow
        self.passed = 0

    def __enter__(self) -> Watch:
        self._before = sys.gettrace(), sys.getprofile()
        sys.setprofile(self._profile)
        sys.settrace(self._trace)
        return self

    def __exit__(self, *_: object) -> None:
        sys.settrace(self._before[0])
        sys.setprofile(self._before[1])

    @property
    def has_struck(self) -> bool:
        """Whether the place to strike at was passed."""
        return self._at is not None and self.passed >= self._at

    def _trace(self, frame: FrameType, event: str, _argument: Any) -> Callable[..., Any] | None:
        if frame.f_code.co_filename not in self._files:
            return None
        if event == "line":
            self._pass()
        return self._trace

    def _profile(self, frame: FrameType, event: str, _argument: Any) -> None:
        if event == "c_return" and frame.f_code.co_filename in self._files:
            self._pass()

    def _pass(self) -> None:
        self.passed += 1
        if self.passed == self._at:
            sys.settrace(None)
            sys.setprofile(None)
            self._blow()


def places(call: Callable[[], object], files: Container[str]) -> int:
    """Return how many places of these source files a call passes."""
    with Watch(files) as watch:
        call()
    return watch.passed


def struck_at(
    place: int, call: Callable[[], object], blow: Callable[[], None], files: Container[str]
) -> Any:
    """Make a call, let ``blow`` strike at one place, and return the exception that came out of the
    call, if any.
    """
    try:
        with Watch(files, place, blow):
            call()
    except BaseException as error:  # noqa: BLE001
        return error.with_traceback(None)
    return None
