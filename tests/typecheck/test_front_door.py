"""The front door's types, and those between engine and store: documented forms pass
``mypy --strict``, mistakes are found.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from mypy import api

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
_ERROR = re.compile(r"(\w+\.py):(\d+): error: (.*)")
_EXPECTED = re.compile(r"#\s*expect: (.*)$")


FILES = ["documented.py", "engine_calls.py", "mistakes.py"]
#: With Celery's classes as stubs have them.
STUBBED = ["plain_tasks.py"]
LEAST_MISTAKES = {"mistakes.py": 70}

Errors = dict[str, dict[int, list[str]]]


def look(files: list[str], place: Path, *options: str, stubs: Path | None = None) -> Errors:
    """The errors in each file by their lines; mypy looks at all of them in one run, for most of its
    time goes into the package.
    """
    config = place / "mypy.ini"
    config.write_text("[mypy]\n" if stubs is None else f"[mypy]\nmypy_path = {stubs}\n")
    out, err, _ = api.run(
        [
            "--strict",
            "--follow-imports=silent",
            f"--python-executable={sys.executable}",
            f"--config-file={config}",
            "--ignore-missing-imports",
            "--disable-error-code=unused-ignore",
            "--disable-error-code=untyped-decorator",
            f"--cache-dir={place}",
            *options,
            *(str(HERE / name) for name in files),
        ]
    )
    assert not err, err
    errors: Errors = {name: {} for name in files}
    for error in _ERROR.finditer(out):
        errors[error[1]].setdefault(int(error[2]), []).append(error[3])
    return errors


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Errors:
    stubbed = look(STUBBED, tmp_path_factory.mktemp("stubbed"), stubs=HERE / "stubs")
    return {**look(FILES, tmp_path_factory.mktemp("plain")), **stubbed}


def expected_in(name: str) -> dict[int, str]:
    lines = (HERE / name).read_text().splitlines()
    return {
        number: told[1] for number, line in enumerate(lines, 1) if (told := _EXPECTED.search(line))
    }


@pytest.mark.parametrize("name", [*FILES, *STUBBED])
def test_type_checkers_find_the_mistakes_and_nothing_else(name: str, found: Errors) -> None:
    errors, expected = found[name], expected_in(name)
    assert errors.keys() == expected.keys(), {
        line: told for line, told in errors.items() if line not in expected
    }
    for number, text in expected.items():
        assert any(text in told for told in errors[number]), (number, errors[number])
    assert len(expected) >= LEAST_MISTAKES.get(name, 4)


@pytest.mark.full
def test_pyright_finds_the_same_mistakes(tmp_path: Path) -> None:
    names = ["documented.py", "mistakes.py"]
    for name in names:
        (tmp_path / name).write_text((HERE / name).read_text())
    settings = {"include": names, "extraPaths": [str(ROOT)]}
    (tmp_path / "pyrightconfig.json").write_text(json.dumps(settings))
    command = ["-m", "pyright", "--outputjson", "--pythonpath", sys.executable]
    done = subprocess.run([sys.executable, *command], cwd=tmp_path, capture_output=True, text=True)
    told = json.loads(done.stdout[done.stdout.index("{") :])["generalDiagnostics"]
    errors = {
        (Path(each["file"]).name, each["range"]["start"]["line"] + 1): each["message"]
        for each in told
        if each["severity"] == "error"
    }
    expected = {(name, line) for name in names for line in expected_in(name)}
    assert errors.keys() == expected, [errors.get(each, each) for each in errors.keys() ^ expected]
