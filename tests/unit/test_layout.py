"""The unit tests mirror the package: each folder, and each file by its name, has its counterpart."""

from __future__ import annotations

from pathlib import Path

import pytest

import celery_durable
from celery_durable.engine.verbs import VERBS

HERE = Path(__file__).parent
PACKAGE = Path(celery_durable.__file__).parent

#: Folders of what tests read.
DATA = {"inspection/corpus"}
#: What several tests of a folder share.
SHARED = {
    "core/harness.py",
    "core/programs.py",
    "core/kinds/looks.py",
    "engine/rows.py",
    "engine/compilers/drafts.py",
    "engine/verbs/scene.py",
}
#: Tests whose subject is no module, and why there is none.
OTHERS = {
    "test_docs.py": "the folder docs",
    "test_examples.py": "the examples in docstrings, of whatever module",
    "test_house.py": "the sizes of all modules",
    "test_imports.py": "what an import of the package loads",
    "test_layout.py": "these tests",
    "test_private_names.py": "names that no other module reads",
    "test_public_modules.py": "the list of public modules",
    "test_type_completeness.py": "the types of all public names",
    "test_words.py": "the words in all modules and pages",
    "test_wrong_arguments.py": "what users mistype, over all that they call",
    "test_wrong_texts.py": "names and ids that cannot be, over all that take one",
    "test_wrong_numbers.py": "numbers and times that cannot be, over all that take one",
    "test_wrong_flags.py": "what is True or False, over all that is public",
    "store/test_tables.py": "where the SQL of a table stands, over the whole store",
}
#: The folder with a file for each verb, whatever module holds its function.
OF_VERBS = Path("engine/verbs")


def is_data(path: Path) -> bool:
    return any(path.is_relative_to(each) for each in DATA)


FILES = sorted(path for each in HERE.rglob("*.py") if not is_data(path := each.relative_to(HERE)))


def is_module(folder: Path, name: str) -> bool:
    return (folder / f"{name}.py").is_file() or (folder / name / "__init__.py").is_file()


def subjects(test: Path) -> list[str]:
    """Return what a test may be of: ``test_retry_conditions`` is of ``retry_conditions``, or of the
    conditions of ``retry``.
    """
    words = test.stem.removeprefix("test_").split("_")
    return ["_".join(words[:number]) for number in range(len(words), 0, -1)]


@pytest.mark.parametrize("path", FILES, ids=str)
def test_each_file_has_its_counterpart_in_the_package(path: Path) -> None:
    if str(path) in SHARED or str(path) in OTHERS or path.name == "conftest.py":
        return
    assert path.name.startswith("test_"), "what tests share is declared above"
    if path.parent == OF_VERBS:
        assert path.stem.removeprefix("test_") in VERBS
        return
    folder = PACKAGE / path.parent
    assert any(is_module(folder, name) for name in subjects(path)), (
        f"{folder} has none of {', '.join(subjects(path))}: name the test after the module that it"
        " is of, test_<module>.py or test_<module>_<what of it>.py, in the folder of that"
    )


def test_each_folder_is_a_package() -> None:
    folders = {path.parent for path in FILES} - {Path(".")}
    assert [
        str(each) for each in sorted(folders) if not (PACKAGE / each / "__init__.py").is_file()
    ] == []


def test_what_is_declared_is_there_and_needs_it() -> None:
    for path in (*DATA, *SHARED, *OTHERS):
        assert (HERE / path).exists(), path
    for path in map(Path, OTHERS):
        assert not any(is_module(PACKAGE / path.parent, name) for name in subjects(path)), path
