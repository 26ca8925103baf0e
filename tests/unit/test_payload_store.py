"""Payloads in a bucket: no folder is made there, and a bucket that there is not is told of."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import pytest
from fsspec.implementations.memory import MemoryFileSystem

from celery_durable import StoreError
from celery_durable.payload_store import PayloadStore


class Buckets(MemoryFileSystem):
    """Objects in buckets, as s3fs has them: a folder is only made by making its bucket."""

    protocol: ClassVar[Any] = ("s3", "s3a")
    store: ClassVar[dict[str, Any]] = {}
    pseudo_dirs: ClassVar[list[str]] = [""]
    known: ClassVar[set[str]] = {"bucket"}

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return "/" + path.removeprefix("s3://").strip("/")

    def makedirs(self, path: str, exist_ok: bool = False) -> None:
        raise PermissionError(f"{path}: who may write objects may make no buckets")

    def pipe_file(self, path: str, value: bytes, mode: str = "overwrite", **kwargs: Any) -> None:
        if self._strip_protocol(path).split("/")[1] not in self.known:
            raise FileNotFoundError("The specified bucket does not exist")
        super().pipe_file(path, value, mode=mode, **kwargs)


@pytest.fixture
def buckets(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setitem(sys.modules["fsspec.registry"]._registry, "s3", Buckets)
    yield
    Buckets.store.clear()


@pytest.mark.usefixtures("buckets")
def test_a_bucket_is_written_without_making_anything_of_it() -> None:
    store = PayloadStore("s3://bucket/durable")
    store.write("a/b/c", b"large")
    assert store.read("a/b/c") == b"large"
    assert [key for key, _ in store.keys()] == ["a/b/c"]
    store.delete(["a/b/c", "gone"])
    with pytest.raises(FileNotFoundError):
        store.read("a/b/c")


@pytest.mark.usefixtures("buckets")
def test_a_start_into_a_misspelt_bucket_writes_nothing(new_app: Callable[..., Any]) -> None:
    app = new_app(durable_payload_store=PayloadStore("s3://buket/durable", above=10))

    @app.durable.orchestrator(name="bucket.flow")
    async def flow(ctx: Any, text: str) -> None: ...

    with pytest.raises(StoreError, match="bucket does not exist"):
        app.durable.start(flow.s("x" * 1000))
    assert app.durable.count() == 0
    assert Buckets.store == {}
