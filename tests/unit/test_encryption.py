"""The codec of keys, the folder of large payloads, and what the two settings take."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest
from celery import Celery
from cryptography.fernet import Fernet, InvalidToken

from celery_durable import Durable
from celery_durable.app.vaults import codec_of, payload_store_of
from celery_durable.encryption import Codec, FernetCodec
from celery_durable.errors import ConfigurationError
from celery_durable.payload_store import LargePayloads, PayloadStore

OLD, NEW = Fernet.generate_key().decode(), Fernet.generate_key().decode()
codec = FernetCodec(OLD)


def test_the_first_key_encrypts_and_any_decrypts() -> None:
    old, both, new = FernetCodec(OLD), FernetCodec(NEW, OLD), FernetCodec(NEW)
    assert isinstance(old, Codec)
    assert b"text" not in old.encode(b"text")
    assert both.decode(old.encode(b"text")) == new.decode(both.encode(b"text")) == b"text"
    with pytest.raises(InvalidToken):
        new.decode(old.encode(b"text"))
    assert both.is_current(both.encode(b"")) is True
    assert both.is_current(old.encode(b"")) is False
    assert both.is_current(b"text") is False


def test_a_damaged_value_is_refused() -> None:
    data = bytearray(codec.encode(b"text"))
    data[-5] ^= 1
    with pytest.raises(InvalidToken):
        codec.decode(bytes(data))


@pytest.mark.parametrize("keys", [(), ("",), ("short",), (b"\xff" * 44,), (None,), (OLD, "x")])
def test_what_is_no_key_is_refused_and_not_shown(keys: tuple[Any, ...]) -> None:
    with pytest.raises(ConfigurationError, match="key") as refused:
        FernetCodec(*keys)
    assert OLD not in str(refused.value)
    assert refused.value.__cause__ is None


def test_keys_are_not_shown_and_travel_with_the_app() -> None:
    assert OLD not in repr(codec)
    assert pickle.loads(pickle.dumps(codec)).decode(codec.encode(b"x")) == b"x"  # noqa: S301


def test_a_folder_keeps_what_is_written(tmp_path: Path) -> None:
    store = PayloadStore(str(tmp_path / "large"), above=1)
    assert isinstance(store, LargePayloads)
    assert list(store.keys()) == []
    store.write("a/b", b"\x00text")
    store.write("a/c", b"")
    for each in (store, pickle.loads(pickle.dumps(store))):  # noqa: S301
        assert each.read("a/b") == b"\x00text"
        assert sorted(key for key, _ in each.keys("a/")) == ["a/b", "a/c"]
    store.delete(["a/b", "a/b", "nothing"])
    with pytest.raises(FileNotFoundError):
        store.read("a/b")
    assert store.read("a/c") == b""


def test_any_file_system_of_fsspec_will_do() -> None:
    store = PayloadStore("memory://durable-test", above=1)
    store.write("a/b", b"text")
    assert store.read("a/b") == b"text"
    assert [key for key, _ in store.keys()] == ["a/b"]
    store.delete(["a/b"])
    assert list(store.keys()) == []


def test_options_of_a_file_system_are_not_shown() -> None:
    assert "hidden" not in repr(PayloadStore("memory://x", token="hidden"))  # noqa: S106


def test_what_the_settings_take(tmp_path: Path) -> None:
    assert codec_of(None) is None
    assert codec_of(codec) is codec
    assert codec_of(f"{__name__}:codec" if "." not in __name__ else f"{__name__}.codec") == codec
    assert payload_store_of(None) is None
    found = payload_store_of(f"file://{tmp_path}")
    assert isinstance(found, PayloadStore)
    assert found.above == 128 * 1024


@pytest.mark.parametrize("given", [3, "nowhere.at.all", "json.dumps", FernetCodec, object()])
def test_what_is_no_codec_is_refused(given: Any) -> None:
    with pytest.raises(ConfigurationError, match="durable_codec"):
        codec_of(given)


@pytest.mark.parametrize("given", [3, "nowhere.at.all", "json.dumps", PayloadStore, object()])
def test_what_is_no_payload_store_is_refused(given: Any) -> None:
    with pytest.raises(ConfigurationError, match="durable_payload_store"):
        payload_store_of(given)


def test_a_setting_that_cannot_be_used_is_told_when_the_engine_is_made() -> None:
    with Celery("refusing", set_as_current=False) as app:
        app.conf.durable_codec = "nowhere.codec"
        with pytest.raises(ConfigurationError, match=r"nowhere\.codec"):
            _ = Durable(app).runtime
