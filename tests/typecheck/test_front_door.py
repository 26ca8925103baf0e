"""The front door's types: documented forms pass ``mypy --strict``, mistakes are found."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
from mypy import api

HERE = Path(__file__).parent
_ERROR = re.compile(r":(\d+): error: (.*)")
_EXPECTED = re.compile(r"#\s*expect: (.*)$")


@pytest.mark.parametrize("name", ["documented.py"])
def test_type_checkers_find_the_mistakes_and_nothing_else(name: str, tmp_path: Path) -> None:
    path = HERE / name
    out, err, _ = api.run(
        [
            "--strict",
            "--follow-imports=silent",
            f"--python-executable={sys.executable}",
            "--config-file=",
            "--ignore-missing-imports",
            "--disable-error-code=unused-ignore",
            "--disable-error-code=untyped-decorator",
            f"--cache-dir={tmp_path}",
            str(path),
        ]
    )
    assert not err, err
    lines = path.read_text().splitlines()
    expected = {
        number: found[1]
        for number, line in enumerate(lines, 1)
        if (found := _EXPECTED.search(line))
    }
    errors = {int(found[1]): found[2] for found in _ERROR.finditer(out)}
    assert errors.keys() == expected.keys(), out
    for number, text in expected.items():
        assert text in errors[number], (number, errors[number])
    assert len(expected) > 10
