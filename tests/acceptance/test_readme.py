"""README and documentation: short enough, and every example does what it says."""

import json
import re
from dataclasses import fields

import pytest

from celery_durable.settings import Settings

from .conftest import ROOT, kill

PAGES = [
    ROOT / "README.md",
    ROOT / "example_project" / "README.md",
    *sorted((ROOT / "docs").rglob("*.md")),
]


PARTS = ("clock", "crashes", "cases", "histories")


def snippets(page, language="python"):
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 120


def test_the_readme_has_two_commands():
    assert len([s for s in snippets(ROOT / "README.md", "sh") if "venv" in s]) == 2


def test_the_example_of_the_readme_runs(place):
    shop, client, *_ = snippets(ROOT / "README.md")
    place.write(shop=shop, client=client)
    place.start_worker()
    (expected,) = re.findall(r"print\(.*\)  # (.*)", client)
    assert place.printed("client.py").strip() == expected


def test_the_quickstart_runs(place):
    shop, start, finish = snippets(ROOT / "docs" / "quickstart.md")
    place.write(shop=shop, start=start, finish=f"{finish}print(run.output)\n")
    worker = place.start_worker()
    place.printed("start.py")
    kill(worker)
    place.start_worker()
    printed = place.printed("finish.py")
    assert "ExecutionCompleted" in printed
    assert (
        printed.splitlines()[-1] == "{'receipt': '42 paid 99', 'parcel': 'parcel-42', 'by': 'ada'}"
    )


def test_the_way_to_test_orchestrators_works(place):
    clock, own_app, crashes, cases, _, histories = snippets(ROOT / "docs" / "howto" / "testing.md")
    place.write(
        shop=snippets(ROOT / "docs" / "quickstart.md")[0],
        conftest=own_app,
        test_clock=clock,
        test_crashes=crashes,
        test_cases=cases,
        test_histories=histories,
    )
    (place.directory / "tests" / "histories").mkdir(parents=True)
    code = "from shop import *\nfrom celery_durable.testing import durable_environment\n" + (
        "with durable_environment(durable) as env:\n"
        "    print(env.start(fulfil_order.s('1', 99)).export_history())"
    )
    history = place.printed("-c", code)
    (place.directory / "tests" / "histories" / "order.json").write_text(history)
    plugin = ["-p", "celery_durable.testing.plugin"]
    options = ["-q", "-p", "no:cacheprovider", *plugin, *map("test_{}.py".format, PARTS)]
    printed = place.printed("-m", "pytest", *options, PYTEST_DISABLE_PLUGIN_AUTOLOAD="1")
    assert "4 passed" in printed


USES_API = """
import json
from celery_durable.testing import durable_environment
from fastapi.testclient import TestClient
from api import api
from shop import durable

with durable_environment(durable) as env, TestClient(api) as client:
    begun = client.post("/orders", json={"id": "42", "amount": 99}).json()
    answer = client.post("/orders/42/approve", params={"by": "ada"}).json()
    missing = client.get("/orders/43")
print(json.dumps([begun, answer, missing.status_code]))
"""


def test_the_views_of_fastapi_work(place):
    api, joined, _ = snippets(ROOT / "docs" / "howto" / "async.md")
    assert "AsyncSession" in joined
    place.write(shop=snippets(ROOT / "docs" / "quickstart.md")[0], api=api, use=USES_API)
    begun, answer, missing = json.loads(place.printed("use.py").splitlines()[-1])
    assert begun == {"id": "42", "status": "PENDING"}
    assert answer == {"receipt": "42 paid 99", "parcel": "parcel-42", "by": "ada"}
    assert missing == 404


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_snippets_compile_and_links_lead_somewhere(page):
    for snippet in snippets(page):
        compile(snippet, str(page), "exec")
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text()):
        assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_every_setting_is_described():
    text = (ROOT / "docs" / "reference" / "settings.md").read_text()
    names = {f"durable_{field.name}" for field in fields(Settings)}
    assert set(re.findall(r"`(durable_\w+)`", text)) == names
    assert set(re.findall(r"`(durable_\w+)`", (ROOT / "README.md").read_text())) <= names


def test_described_defaults_are_the_real_ones():
    text = (ROOT / "docs" / "reference" / "settings.md").read_text()
    rows = dict(re.findall(r"^\| `durable_(\w+)` \| `(.*?)` \|", text, re.MULTILINE))
    for field in fields(Settings):
        if field.name in rows:
            described, real = rows[field.name].strip('"'), field.default
            assert described == (f"{real:g}" if isinstance(real, float) else str(real)), field.name
