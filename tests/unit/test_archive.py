"""The folder of archived files."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from celery_durable.archive import ArchiveFolder, read_archived


def document(ended: str | None = "2026-05-04T10:00:00+00:00", **more: Any) -> str:
    return json.dumps({"completed_at": ended, **more})


def test_a_document_is_a_file_of_its_month(tmp_path: Path) -> None:
    write = ArchiveFolder(tmp_path / "a" / "b")
    file = write(document(n="ü"), "order/42@abc.3")
    assert file.parent == tmp_path / "a" / "b" / "2026-05"
    assert file.name.startswith("order_42-") and file.name.endswith(".json.gz")
    assert json.loads(read_archived(file))["n"] == "ü"
    assert write(document(None), "x@y.1").parent.name == "0000-00"


def test_the_same_key_is_the_same_file_and_another_another(tmp_path: Path) -> None:
    write = ArchiveFolder(tmp_path)
    first = write(document(), "a@x.3")
    before = first.read_bytes()
    assert write(document(), "a@x.3") == first
    assert first.read_bytes() == before
    assert write(document(), "a@x.4") != first
    assert len([*tmp_path.rglob("*")]) == 3


@pytest.mark.parametrize("id_", ["..", "../../etc", ".hidden", "a" * 150, "\udc80", "é/\n", "con"])
def test_no_id_leaves_the_folder(tmp_path: Path, id_: str) -> None:
    file = ArchiveFolder(tmp_path)(document(), f"{id_}@x.1")
    assert file.resolve().parent == tmp_path.resolve() / "2026-05"
    assert not file.name.startswith(".") and len(file.name) < 120


def test_what_cannot_be_written_leaves_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="no space"):
        ArchiveFolder(tmp_path)(document(), "a@x.1")
    assert [each for each in tmp_path.rglob("*") if each.is_file()] == []


def test_plain_files_are_read_as_well(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(document())
    assert read_archived(tmp_path / "a.json") == document()
