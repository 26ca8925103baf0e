"""The front door's types, and those between engine and store: documented forms pass
``mypy --strict``, mistakes are found.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
from mypy import api

HERE = Path(__file__).parent
_ERROR = re.compile(r"(\w+\.py):(\d+): error: (.*)")
_EXPECTED = re.compile(r"#\s*expect: (.*)$")


#: SQLAlchemy is no part of what is looked at, and its types take longer than all others.
CONFIG = """
[mypy]
[mypy-sqlalchemy.*]
follow_imports = skip
"""
FILES = ["documented.py", "engine_calls.py"]


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[int, str]]:
    """The errors in each file by their lines; mypy looks at all of them in one run, for most of its
    time goes into the package.
    """
    config = tmp_path_factory.mktemp("config") / "mypy.ini"
    config.write_text(CONFIG)
    out, err, _ = api.run(
        [
            "--strict",
            "--follow-imports=silent",
            f"--python-executable={sys.executable}",
            f"--config-file={config}",
            "--ignore-missing-imports",
            "--disable-error-code=unused-ignore",
            "--disable-error-code=untyped-decorator",
            f"--cache-dir={tmp_path_factory.mktemp('mypy')}",
            *(str(HERE / name) for name in FILES),
        ]
    )
    assert not err, err
    errors: dict[str, dict[int, str]] = {name: {} for name in FILES}
    for error in _ERROR.finditer(out):
        errors[error[1]][int(error[2])] = error[3]
    return errors


@pytest.mark.parametrize("name", FILES)
def test_type_checkers_find_the_mistakes_and_nothing_else(
    name: str, found: dict[str, dict[int, str]]
) -> None:
    lines, errors = (HERE / name).read_text().splitlines(), found[name]
    expected = {
        number: told[1] for number, line in enumerate(lines, 1) if (told := _EXPECTED.search(line))
    }
    assert errors.keys() == expected.keys(), errors
    for number, text in expected.items():
        assert text in errors[number], (number, errors[number])
    assert len(expected) >= 5
