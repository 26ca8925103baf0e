"""``celery durable ...``: what each command prints, changes and returns."""

from __future__ import annotations

import json
import os
import pwd
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.shell_completion import ShellComplete
from click.testing import CliRunner, Result

from celery_durable import Limit, Rate, RuntimeStatus, durable_context
from celery_durable.cli import durable as group
from celery_durable.cli.commands import commands
from celery_durable.engine.registry import Definition
from celery_durable.payload_store import PayloadStore
from celery_durable.store.schema import metadata

from .encoded_world import Scrambled

#: every command that a user may look for
NAMED = set(
    "start list count show history watch wait result ask query event suspend resume cancel"
    " terminate rewind"
    " restart fork purge tag explain override complete fail export replay verify debug lint schema orchestrators"
    " schedules entities pause unpause pauses limits ramp audit migrate reencrypt payloads check doctor adopt exporter".split()
)


class Shell:
    """Runs commands on one application, whose activities run at once."""

    def __init__(self, app: Any) -> None:
        self.app = app
        self.broken = {"bad"}

        @app.task(name="cli.charge")
        def charge(what: str) -> str:
            if what in self.broken:
                raise KeyError(what)
            return f"charged {what}"

        @app.durable.orchestrator(name="cli.sale")
        async def sale(ctx: Any, what: str, more: int = 0) -> Any:
            ctx.set_status({"done": 1, "of": 2})
            found = await ctx.call(charge.s(what))
            if what == "slow":
                return await ctx.wait_event("go")
            return [found, more]

    def run(self, *args: str, code: int | None = 0, **options: Any) -> Result:
        result = CliRunner().invoke(group, list(args), obj=SimpleNamespace(app=self.app), **options)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        assert code is None or result.exit_code == code, result.output
        return result

    def json(self, *args: str) -> Any:
        return json.loads(self.run(*args).stdout)

    def start(self, what: str, id_: str, *more: str) -> None:
        assert (
            self.run("start", "cli.sale", "--input", json.dumps(what), "--id", id_, *more).stdout
            == f"{id_}\n"
        )

    def status(self, id_: str) -> RuntimeStatus:
        return self.app.durable.get(id_).runtime_status


@pytest.fixture
def shell(new_app: Callable[..., Any]) -> Shell:
    return Shell(new_app(task_always_eager=True, task_ignore_result=True))


def test_every_command_is_there_and_says_what_it_does(shell: Shell) -> None:
    assert set(commands()) == NAMED
    listed = shell.run("--help").stdout
    for name in NAMED:
        assert f"\n  {name} " in listed
        assert "Usage:" in shell.run(name, "--help").stdout
    assert "\\" not in listed


# -- who did what ----------------------------------------------------------------------------------


def test_audit_lists_who_did_what(shell: Shell) -> None:
    user = pwd.getpwuid(os.getuid()).pw_name
    shell.start("slow", "s1")
    shell.run("suspend", "s1", "--reason", "the bank is down")
    shell.run("event", "s1", "go", "--data", '"4111-1111-1111"')
    shell.run("resume", "s1")
    shell.run("resume", "s1", code=4)
    shell.run("purge", "s1")
    paused = shell.run("pause", "--task", "cli.charge", "--reason", "stocktaking")
    assert (paused.stdout, paused.stderr) == ("", "task cli.charge: paused\n")
    assert shell.run("unpause", "--task", "cli.charge").stderr == "task cli.charge: unpaused\n"
    of_one = shell.json("audit", "s1", "--json")["items"]
    assert [(each["verb"], each["effect"]) for each in reversed(of_one)] == [
        ("start", "done"),
        ("suspend", "done"),
        ("raise_event", "done"),
        ("resume", "done"),
        ("resume", "refused"),
        ("purge", "done"),
    ]
    assert {(each["actor"], each["door"]) for each in of_one} == {(user, "cli")}
    assert "4111-1111" not in json.dumps(of_one)
    table = shell.run("audit", "--format", "table", "--limit", "2").stdout.splitlines()
    assert [line.split()[3:5] for line in table[1:]] == [
        ["unpause", "cli.charge"],
        ["pause", "cli.charge"],
    ]
    assert shell.json("audit", "--verb", "pause")["items"][0]["reason"] == "stocktaking"
    assert shell.json("audit", "--actor", "other", "--since", "1h")["items"] == []
    more = shell.run("audit", "--limit", "3", "--format", "json")
    assert json.loads(more.stdout)["next_cursor"] in more.stderr
    shell.run("audit", "--json", "--format", "table", code=2)
    shell.run("audit", "--cursor", "x", code=2)


def test_what_modules_declare_is_not_the_users_doing(shell: Shell) -> None:
    durable, sale = shell.app.durable, shell.app.tasks["cli.sale"]

    def declare() -> None:
        durable.schedule("nightly", sale.s("a"), interval=60)

    shell.app.loader.import_default_modules = declare
    shell.run("list")
    assert durable.get_schedule("nightly").interval == timedelta(minutes=1)
    assert shell.json("audit")["items"] == []


def test_metrics_go_nowhere_without_a_provider(shell: Shell) -> None:
    assert "opentelemetry-instrument" in shell.run("exporter", "--otel", code=2).output


def test_a_look_is_no_deed(shell: Shell) -> None:
    shell.start("a", "s1")
    for words in (("list",), ("show", "s1"), ("purge", "s1", "--dry-run"), ("audit",)):
        shell.run(*words)
    assert [each["verb"] for each in shell.json("audit")["items"]] == ["start"]


# -- start and look --------------------------------------------------------------------------------


def test_start_prints_the_id_alone(shell: Shell) -> None:
    shell.start("a", "s1", "--tag", "customer=7")
    run = shell.app.durable.get("s1")
    assert (run.output, run.tags) == (["charged a", 0], {"customer": "7"})
    assert (
        len(
            shell.run(
                "start", "cli.sale", "--args", '["a"]', "--kwargs", '{"more": 3}'
            ).stdout.strip()
        )
        == 36
    )


def test_start_of_each_line_is_one_commit(shell: Shell, tmp_path: Path) -> None:
    lines = tmp_path / "orders.jsonl"
    lines.write_text('"a"\n\n"b"\n')
    given = ["start", "cli.sale", "--each", str(lines), "--tag", "batch=1"]
    for _ in range(2):
        result = shell.run(*given, "--id", "import-{line}")
        assert result.stdout.split() == ["import-1", "import-3"]
    assert shell.app.durable.get("import-3").output == ["charged b", 0]
    assert shell.app.durable.count(tags={"batch": "1"}) == 2
    for refused, told in (
        (["--id", "same"], "needs {line}"),
        (["--input", "1"], "without --input"),
        (["--id", "import-{line}", "--if-exists", "raise"], "nothing was started"),
    ):
        assert told in shell.run(*given, *refused, code=None).output
    lines.write_text('"a"\n{')
    assert "line 2 is no JSON" in shell.run(*given, code=2).output
    assert shell.app.durable.count() == 2


def test_start_waits_and_prints_the_result(shell: Shell) -> None:
    result = shell.run("start", "cli.sale", "-a", '["a", 5]', "--wait", "--id", "s1")
    assert (json.loads(result.stdout), result.stderr) == (["charged a", 5], "s1\n")
    failed = shell.run("start", "cli.sale", "--input", '"bad"', "--wait", "--id", "s2", code=5)
    assert "s2 is FAILED: KeyError" in failed.stderr
    late = shell.run(
        "start",
        "cli.sale",
        "--input",
        '"slow"',
        "--wait",
        "--timeout",
        "0.01",
        "--id",
        "s3",
        code=6,
    )
    assert "s3 is RUNNING" in late.stderr


def test_half_a_character_is_printed_as_json_writes_it(shell: Shell) -> None:
    shell.start("caf\udce9", "s1")
    assert json.loads(shell.run("result", "s1").stdout) == ["charged caf\udce9", 0]
    assert shell.json("show", "s1", "--payloads")["input"]["args"] == ["caf\udce9"]
    assert shell.json("history", "s1", "--payloads")["items"][0]["payload"]


def test_input_that_is_nested_too_deeply_is_wrong_usage(shell: Shell) -> None:
    assert "recursion" in shell.run("start", "cli.sale", "--input", "[" * 100_000, code=2).stderr


def test_json_that_looks_like_a_typed_value_is_data_like_any_other(shell: Shell) -> None:
    odd = {"__type__": "datetime", "__value__": "x"}
    shell.run("start", "cli.sale", "--input", json.dumps(odd), "--id", "s1")
    assert shell.app.durable.get("s1").input["args"] == [odd]
    assert shell.json("show", "s1", "--payloads")["input"]["args"] == [odd]


def test_input_comes_from_a_file_or_standard_input(shell: Shell, tmp_path: Path) -> None:
    (tmp_path / "in.json").write_text('"from file"')
    shell.run("start", "cli.sale", "--input", f"@{tmp_path / 'in.json'}", "--id", "s1")
    shell.run("start", "cli.sale", "--input", "-", "--id", "s2", input='"from stdin"')
    assert [shell.app.durable.get(id_).output[0] for id_ in ("s1", "s2")] == [
        "charged from file",
        "charged from stdin",
    ]


def test_a_run_gets_its_time_out(shell: Shell) -> None:
    shell.run("start", "cli.sale", "--input", '"slow"', "--id", "s1", "--run-timeout", "3600")
    run = shell.app.durable.get("s1")
    assert abs((run.deadline - run.created_at).total_seconds() - 3600) < 60


def test_a_delayed_start_waits(shell: Shell) -> None:
    later = datetime.now(UTC) + timedelta(days=1)
    shell.start("a", "s1", "--at", later.replace(tzinfo=None).isoformat())
    assert shell.status("s1") is RuntimeStatus.PENDING


@pytest.mark.parametrize(
    ("args", "told"),
    [
        (["cli.nothing"], "no task .cli.nothing.; the orchestrators are .*cli.sale"),
        (["cli.sale"], "missing a required argument"),
        (["cli.sale", "--input", "{"], "JSON is needed"),
        (["cli.sale", "--input", "@/nowhere"], "JSON is needed"),
        (["cli.sale", "--args", "3"], "is a JSON list"),
        (["cli.sale", "--args", "[1]", "--input", "1"], "not both"),
        (["cli.sale", "--input", "1", "--tag", "x"], "no NAME=VALUE"),
        (["cli.sale", "--input", "1", "--at", "soon"], "Invalid isoformat"),
        (["cli.sale", "--input", "1", "--id", ""], "1 to 150 characters"),
    ],
)
def test_a_start_that_cannot_be_is_told(shell: Shell, args: list[str], told: str) -> None:
    import re

    assert re.search(told, shell.run("start", *args, code=2).output, re.DOTALL)
    assert shell.app.durable.count() == 0


def test_a_taken_id_is_returned_or_refused(shell: Shell) -> None:
    shell.start("a", "s1")
    shell.start("a", "s1")
    shell.run("start", "cli.sale", "--input", '"a"', "--id", "s1", "--if-exists", "raise", code=4)


def test_lists_have_filters_pages_and_formats(shell: Shell) -> None:
    for number in range(5):
        shell.start("bad" if number == 0 else "a", f"s{number}", "--tag", f"n={number % 2}")
    found = shell.json("list", "--format", "json")
    assert (found["schema"], found["next_cursor"]) == (1, None)
    assert [item["id"] for item in found["items"]] == ["s4", "s3", "s2", "s1", "s0"]
    assert found["items"][0]["created_at"].endswith("Z")
    assert shell.run("list", "--tag", "n=1", "--format", "ids").stdout == "s3\ns1\n"
    assert (
        shell.run("list", "--status", "failed", "--status", "running", "--format", "ids").stdout
        == "s0\n"
    )
    assert shell.run("list", "--since", "1h", "--until", "1d", "--format", "ids").stdout == ""
    assert shell.run("list", "--name", "other", "--format", "jsonl").stdout == ""
    page = shell.json("list", "--limit", "2")
    rest = shell.json("list", "--limit", "3", "--cursor", page["next_cursor"])
    assert [item["id"] for item in [*page["items"], *rest["items"]]] == [
        "s4",
        "s3",
        "s2",
        "s1",
        "s0",
    ]
    assert len(shell.json("list", "--limit", "2", "--all")["items"]) == 5
    table = shell.run("list", "--limit", "1", "--format", "table")
    assert table.stdout.splitlines()[0].split() == "id name status age waits for reason".split()
    assert "there are more" in table.stderr
    assert shell.run("count", "--status", "completed").stdout == "4\n"
    assert shell.run("count", "--stuck").stdout == "0\n"
    too_long = ["--since", "9" * 20 + "d"]
    for wrong in (
        ["--status", "odd"],
        ["--since", "yesterday"],
        too_long,
        ["--since", "²d"],
        ["--limit", "0"],
        ["--cursor", "x"],
        ["--tag", "x"],
    ):
        shell.run("list", *wrong, code=2)


def test_one_is_shown_with_its_history(shell: Shell) -> None:
    shell.start("bad", "s1")
    shown = shell.json("show", "s1", "--payloads")
    assert (shown["status"], shown["failure"]["type"]) == ("FAILED", "KeyError")
    assert shown["input"] == {"args": ["bad"], "kwargs": {}}
    assert "input" not in shell.json("show", "s1")
    assert "custom_status" in shell.run("show", "s1", "--payloads", "--format", "table").stdout
    events = shell.json("history", "s1", "--payloads")["items"]
    assert [event["number"] for event in events] == [1, 2, 3, 4]
    assert events[1]["payload"] == [["bad"], {}]
    assert [event["kind"] for event in shell.json("history", "s1", "--failed")["items"]] == [
        "ActivityFailed",
        "ExecutionFailed",
    ]
    assert "KeyError" in shell.run("history", "s1", "--format", "table").stdout
    assert "FAILED" in shell.run("explain", "s1").stdout
    for name in ("show", "history", "explain", "export", "result", "watch", "wait"):
        assert "no orchestration 'nix'" in shell.run(name, "nix", code=3).stderr


def test_lists_and_shows_say_what_each_waits_for(shell: Shell) -> None:
    shell.start("slow", "s1")
    shell.start("a", "s2")
    assert {item["id"]: item["waits_for"] for item in shell.json("list")["items"]} == {
        "s1": "event, request or code",
        "s2": "-",
    }
    assert shell.json("show", "s1")["waits_for"] == "event, request or code"


def test_one_is_drawn(shell: Shell, tmp_path: Path) -> None:
    shell.start("bad", "s1")
    told = shell.run("show", "s1", "--html", str(tmp_path / "s1.html"))
    assert (told.stdout, told.stderr) == ("", f"wrote {tmp_path / 's1.html'}\n")
    page = (tmp_path / "s1.html").read_text()
    assert page.startswith("<!DOCTYPE html>")
    assert "KeyError" in page
    assert '"bad"' not in page
    assert "&quot;bad&quot;" in shell.run("show", "s1", "--html", "-", "--payloads").stdout
    shell.run("show", "s1", "--svg", str(tmp_path / "s1.svg"))
    assert (tmp_path / "s1.svg").read_text().startswith("<svg ")
    assert shell.run("show", "s1", "--mermaid").stdout.startswith("gantt\n")
    assert (
        "No such file"
        in shell.run("show", "s1", "--html", str(tmp_path / "no" / "s1.html"), code=2).stderr
    )
    shell.run("show", "s1", "--html", str(tmp_path), code=2)
    shell.run("show", "s1", "--mermaid", "--format", "json", code=2)
    shell.run("show", "nix", "--html", str(tmp_path / "nix.html"), code=3)
    assert not (tmp_path / "nix.html").exists()


def test_what_would_steer_a_terminal_is_shown_by_its_number(shell: Shell) -> None:
    odd = "s\x1b[31m\u202e"
    shell.start("slow", odd)
    shell.app.durable.suspend(odd, reason="\x9bred")
    shown = (
        shell.run("list", "--format", "table").stdout
        + shell.run("show", odd, "--format", "table").stdout
    )
    shown += shell.run("terminate", odd, "--dry-run").stdout
    assert "\\u001b[31m\\u202e" in shown
    assert "\\u009bred" in shown
    assert not {"\x1b", "\u202e", "\x9b"} & set(shown)
    assert shell.run("list", "--format", "ids").stdout == f"{odd}\n"


def test_waiting_for_results(shell: Shell) -> None:
    shell.start("a", "good")
    shell.start("bad", "bad")
    shell.start("slow", "slow")
    assert json.loads(shell.run("result", "good").stdout) == ["charged a", 0]
    assert "bad is FAILED" in shell.run("result", "bad", code=5).stderr
    assert shell.run("result", "slow", code=6).stderr == "slow is RUNNING: it has no result yet\n"
    assert shell.run("wait", "good").stdout == "good COMPLETED\n"
    assert shell.run("wait", "good", "bad", code=5).stdout == "good COMPLETED\nbad FAILED\n"
    assert "slow RUNNING" in shell.run("wait", "good", "slow", "--timeout", "0.05", code=6).stdout


def test_watching_prints_events_and_progress_until_the_end(shell: Shell) -> None:
    shell.start("a", "good")
    told = shell.run("watch", "good").stdout
    assert "ActivityScheduled  cli.charge" in told
    assert "ActivityCompleted  cli.charge" in told
    assert told.splitlines()[-1] == "good is COMPLETED  [##########..........] 1 of 2"
    shell.start("bad", "bad")
    assert "KeyError" in shell.run("watch", "bad", code=5).stdout


# -- steer -----------------------------------------------------------------------------------------


def test_events_and_verbs_for_one(shell: Shell) -> None:
    shell.start("slow", "s1")
    shell.run("suspend", "s1", "--reason", "wait")
    assert (shell.status("s1"), shell.app.durable.get("s1").reason) == (
        RuntimeStatus.SUSPENDED,
        "wait",
    )
    shell.run("event", "s1", "go", "--data", '{"x": 1}', "--event-id", "e1")
    shell.run("resume", "s1")
    assert shell.app.durable.get("s1").get(timeout=300) == {"x": 1}
    assert "resume needs one that is SUSPENDED\n" in shell.run("resume", "s1", code=4).stderr
    shell.run("event", "s1", "go", code=4)
    shell.run("restart", "s1")
    shell.run("cancel", "s1", "--reason", "enough")
    assert shell.status("s1") is RuntimeStatus.CANCELED
    shell.run("purge", "s1")
    shell.run("show", "s1", code=3)
    shell.start("slow", "s2")
    shell.run("terminate", "s2", "--alone")
    assert shell.status("s2") is RuntimeStatus.TERMINATED


def test_an_event_for_all_that_match(shell: Shell) -> None:
    for id_ in ("s1", "s2", "s3"):
        shell.start("slow", id_, *(["--tag", "shop=oslo"] if id_ != "s3" else []))
    given = ["event", "go", "--tag", "shop=oslo", "--data", '"now"', "--event-id", "e1"]
    assert shell.run(*given, "--dry-run").stdout == "2 would be taken\n"
    assert shell.run(*given, input="n\n", code=1).stderr.startswith("event 2 orchestrations?")
    assert shell.status("s1") is RuntimeStatus.RUNNING
    assert shell.run(*given, "--yes").stdout == "2 of 2 done\n"
    assert [shell.app.durable.get(id_).get(timeout=300) for id_ in ("s1", "s2")] == ["now"] * 2
    assert shell.status("s3") is RuntimeStatus.RUNNING
    for wrong in (
        ["event", "go"],
        ["event", "s3", "go", "--tag", "a=b"],
        ["event", "--tag", "a=b"],
    ):
        assert "the name of the event" in shell.run(*wrong, code=2).stderr


def test_tags_from_outside(shell: Shell) -> None:
    shell.start("a", "s1", "--tag", "customer=7", "--tag", "draft=yes")
    told = shell.run("tag", "s1", "customer=8", "state=paid", "--remove", "draft").stderr
    assert told == "s1: customer=8, state=paid\n"
    assert [run.id for run in shell.app.durable.find(tags={"state": "paid"}).items] == ["s1"]
    shell.run("tag", "none", "a=b", code=3)
    assert "give NAME=VALUE" in shell.run("tag", "s1", code=2).stderr
    assert "no NAME=VALUE" in shell.run("tag", "s1", "paid", code=2).stderr


def test_asking(shell: Shell) -> None:
    @shell.app.durable.orchestrator(name="cli.clerk")
    async def clerk(ctx: Any) -> Any:
        ctx.state.moves = []
        while True:
            request = await ctx.wait_request("move")
            if request.data == "nowhere":
                request.reject("there is no such place")
            else:
                ctx.state.moves.append(request.data)
                request.reply({"n": len(ctx.state.moves)})

    @clerk.query
    def moves(state: Any, first: int = 0, *, last: int = 9) -> Any:
        return state.moves[first:last]

    shell.run("start", "cli.clerk", "--id", "c")
    assert shell.json("ask", "c", "move", "--data", '"Rome"', "--request-id", "r") == {"n": 1}
    assert shell.json("ask", "c", "move", "--data", '"other"', "--request-id", "r") == {"n": 1}
    refused = shell.run("ask", "c", "move", "--data", '"nowhere"', code=5)
    assert refused.stderr == "c rejected it: RequestRejected: there is no such place\n"
    assert "has not answered" in shell.run("ask", "c", "go", "--timeout", "0", code=6).stderr
    shell.run("ask", "none", "move", code=3)
    assert shell.json("query", "c", "moves") == ["Rome"]
    assert shell.json("query", "c", "moves", "-a", "[1]", "-k", '{"last": 2}') == []
    assert "known are 'moves'" in shell.run("query", "c", "go", code=3).stderr
    shell.run("terminate", "c")
    shell.run("ask", "c", "move", code=4)


def test_activities_are_ended_by_their_tokens(shell: Shell) -> None:
    given: list[str] = []

    @shell.app.task(name="cli.encode")
    def encode() -> None:
        given.append(durable_context().defer())

    @shell.app.durable.orchestrator(name="cli.film")
    async def film(ctx: Any) -> Any:
        return await ctx.call(encode.s())

    for id_ in ("s1", "s2"):
        shell.run("start", "cli.film", "--id", id_)
    assert shell.json("show", "s1")["waits_for"] == "completion of activity cli.encode"
    assert "activity 1 (cli.encode) waits for its completion" in shell.run("explain", "s1").stdout
    assert "waiting" in shell.run("show", "s1", "--mermaid").stdout
    done = shell.run("complete", given[0], "--data", '{"size": 3}')
    assert (done.stdout, done.stderr) == ("", "the activity is completed\n")
    assert shell.app.durable.get("s1").get(timeout=300) == {"size": 3}
    assert "over already" in shell.run("complete", given[0], code=4).stderr
    assert "over already" in shell.run("fail", given[0], "--error", "late", code=4).stderr
    assert "no token" in shell.run("complete", given[1][1:], code=2).stderr
    shell.run("complete", given[1], "--data", "{", code=2)
    shell.run("fail", given[1], code=2)
    shell.run("fail", given[1], "--error", "bad codec")
    assert str(shell.app.durable.get("s2").failure) == "bad codec"


def test_repairs(shell: Shell) -> None:
    shell.start("bad", "s1")
    assert (
        "ScheduleActivity"
        not in shell.run("override", "s1", "1", "--result", '"given"', "--dry-run").stdout
    )
    assert shell.status("s1") is RuntimeStatus.FAILED
    shell.run("override", "s1", "1", "--result", '"given"', "--reason", "by hand")
    assert shell.app.durable.get("s1").get(timeout=300) == ["given", 0]
    shell.run("override", "s1", "1", code=4)
    assert shell.run("fork", "s1", "--at", "1", "--id", "s2").stdout == "s2\n"
    assert shell.status("s2") is RuntimeStatus.FAILED
    shell.run("fork", "s1", "--at", "999", code=2)
    shell.run("fork", "s1", "--at", "1", "--id", "s2", code=4)
    shell.run("override", "s2", "99", code=2)
    shell.broken.clear()
    foreseen = shell.run("rewind", "s2", "--dry-run").stdout.splitlines()
    assert foreseen[:2] == ["s2 FAILED", "it would be RUNNING"]
    assert any("ScheduleActivity" in line for line in foreseen[2:])
    shell.run("rewind", "s2", "--reason", "mended")
    assert shell.status("s2") is RuntimeStatus.COMPLETED


def test_a_verb_for_many_counts_asks_and_acts(shell: Shell) -> None:
    for number in range(3):
        shell.start("slow", f"s{number}")
    assert shell.run("suspend", "--name", "cli.sale", "--dry-run").stdout == "3 would be taken\n"
    refused = shell.run("suspend", "--name", "cli.sale", input="n\n", code=1)
    assert "suspend 3 orchestrations?" in refused.stderr
    assert shell.app.durable.count(status="RUNNING") == 3
    assert (
        shell.run("suspend", "--name", "cli.sale", "--limit", "1", input="y\n").stdout
        == "1 of 3 done\n"
    )
    assert shell.run("suspend", "--name", "cli.sale", "--yes").stdout == "2 of 2 done\n"
    assert shell.app.durable.count(status="SUSPENDED") == 3
    assert shell.run("terminate", "s1", "--dry-run").stdout == "s1 SUSPENDED\n"
    shell.run("terminate", "s1", "s2")
    assert shell.app.durable.count(status="TERMINATED") == 2
    shell.run("terminate", code=2)
    shell.run("terminate", "s0", "--name", "cli.sale", code=2)


def test_a_verb_by_id_says_what_came_of_it(shell: Shell) -> None:
    shell.start("slow", "s1")
    shell.start("slow", "s2")

    def said(*words: str) -> str:
        done = shell.run(*words)
        assert done.stdout == "", "scripts read that"
        return str(done.stderr)

    assert said("suspend", "s1", "s2") == "s1: suspended\ns2: suspended\n"
    assert said("suspend", "s1") == "s1: no effect, it is SUSPENDED\n"
    assert said("resume", "s1") == "s1: resumed\n"
    assert said("event", "s1", "other") == "s1: event 'other' raised\n"
    assert said("cancel", "s1") == "s1: asked to cancel\n"
    assert said("terminate", "s1", "s2").endswith("s2: terminated\n")
    assert said("restart", "s2") == "s2: restarted\n"
    assert said("purge", "s1") == "s1: deleted\n"


def test_a_verb_for_several_ids_continues_after_a_refusal(shell: Shell) -> None:
    for id_ in ("s1", "s2"):
        shell.start("slow", id_)
    shell.start("a", "over")
    refused = shell.run("suspend", "s1", "nope", "over", "s2", code=4).stderr
    assert "there is no orchestration 'nope'" in refused
    assert "'over' is COMPLETED" in refused
    assert shell.app.durable.count(status="SUSPENDED") == 2
    assert (
        shell.run("purge", "s1", "over", "--dry-run").stdout
        == "s1 SUSPENDED, would not be taken\nover COMPLETED\n"
    )


def test_a_verb_for_many_that_is_refused_says_so_by_its_exit_code(shell: Shell) -> None:
    shell.start("a", "over")
    assert shell.run("suspend", "--status", "completed", "--dry-run").stdout == "0 would be taken\n"
    refused = shell.run("suspend", "--status", "completed", "--yes", code=4)
    assert refused.stdout == "0 of 1 done\n"
    assert "over: orchestration 'over' is COMPLETED" in refused.stderr


# -- code and installation -------------------------------------------------------------------------


def test_histories_are_exported_replayed_and_verified(shell: Shell, tmp_path: Path) -> None:
    shell.start("a", "s1")
    shell.start("slow", "s2")
    (tmp_path / "h.json").write_text(shell.run("export", "s1").stdout)
    assert "1 histories checked, 0" in shell.run("replay", str(tmp_path / "h.json")).stdout
    assert "1 histories checked, 0" in shell.run("verify").stdout

    async def other(ctx: Any, what: str) -> None:
        await ctx.sleep(1)

    shell.app.durable.registry.add(Definition("cli.sale", None, other))
    assert "1 do not fit" in shell.run("replay", str(tmp_path / "h.json"), code=5).stdout
    assert "s2" in shell.run("verify", "--name", "cli.sale", code=5).stdout
    (tmp_path / "h.json").write_text("{}")
    shell.run("replay", str(tmp_path / "h.json"), code=2)


def test_what_is_declared_is_listed(shell: Shell) -> None:
    shell.start("slow", "s1")
    rows = {row["name"]: row for row in shell.json("orchestrators")["items"]}
    sale = rows["cli.sale"]
    assert (sale["live"], sale["registered"], sale["safe_to_remove"]) == (1, True, False)
    assert sale["source"].startswith(__file__)

    class Visits:
        def add(self) -> None: ...

    shell.app.durable.entity(Visits)
    assert [
        row["source"].rpartition(":")[0]
        for row in shell.json("orchestrators")["items"]
        if "Visits" in row["name"]
    ] == [__file__]
    shell.app.durable.schedule(
        "nightly", shell.app.tasks["cli.sale"].s("a"), cron="0 3 * * *", tz="Europe/Berlin"
    )
    [row] = shell.json("schedules")["items"]
    assert (row["name"], row["orchestrator"], row["is_paused"]) == ("nightly", "cli.sale", False)
    assert shell.run("schedules", "--format", "ids").stdout == "nightly\n"


def test_schedules_are_steered(shell: Shell) -> None:
    sale = shell.app.tasks["cli.sale"]
    shell.app.durable.schedule("nightly", sale.s("a"), cron="0 3 * * *", tz="Europe/Berlin")
    paused = shell.run("schedules", "pause", "nightly", "--reason", "stock count")
    assert (paused.stdout, paused.stderr) == ("", "schedule nightly: paused\n")
    shown = shell.json("schedules", "show", "nightly")
    assert (shown["is_paused"], shown["reason"], shown["next_at"]) == (True, "stock count", None)
    resumed = shell.run("schedules", "resume", "nightly")
    assert resumed.stderr == "schedule nightly: resumed\n"
    assert shell.json("schedules", "show", "nightly")["is_paused"] is False
    started = shell.run("schedules", "trigger", "nightly").stdout.strip()
    assert shell.app.durable.get(started).name == "cli.sale"
    shell.run("schedules", "delete", "nightly", input="n\n", code=1)
    assert len(shell.app.durable.schedules()) == 1
    deleted = shell.run("schedules", "delete", "nightly", "--yes")
    assert deleted.stderr == "schedule nightly: deleted\n"
    assert shell.app.durable.schedules() == []
    for verb in ("show", "pause", "resume", "trigger", "delete"):
        assert "nightly" in shell.run("schedules", verb, "nightly", code=3).stderr
    shell.run("schedules", "--format", "ids", "pause", "nightly", code=2)


def test_entities_are_listed_and_cleaned(shell: Shell) -> None:
    class Visits:
        total: int = 0

        def add(self, n: int) -> None:
            self.total += n

    shell.app.durable.entity(Visits)
    for key, number in (("a", 2), ("b", 0)):
        shell.app.durable.entity(Visits, key).signal.add(number)
    rows = {row["key"]: row for row in shell.json("entities", "Visits")["items"]}
    assert (rows["a"]["state"], rows["b"]["is_empty"]) == ({"total": 2}, True)
    assert shell.run("entities", "--clean").stdout == "1 deleted\n"
    assert shell.run("entities", "--format", "ids").stdout == "@Visits@a\n"


def test_the_installation_is_checked(shell: Shell) -> None:
    assert "fit this release" in shell.run("migrate").stdout
    assert "fit this release" in shell.run("migrate", "--check").stdout
    checked = shell.run("check")
    assert "usable; 1 orchestrators" in checked.stdout
    assert "task_always_eager" in checked.stderr
    assert "none runs yet" in shell.run("doctor").stdout
    shell.start("slow", "waits")
    found = shell.run("doctor", code=5).stdout
    assert "ok       store" in found
    assert "PROBLEM  workers: no worker shows a heartbeat" in found
    shell.app.durable.runtime.store.workers.heartbeat("w", "host-1")
    assert "1 alive: host-1" in shell.run("doctor").stdout


def test_a_store_without_tables_is_told_so(new_app: Callable[..., Any], sqlite_url: str) -> None:
    shell = Shell(new_app(durable_backend_url=sqlite_url))
    assert (
        "the store has no tables of celery-durable: run migrate"
        in shell.run("migrate", "--check", code=78).stderr
    )


def test_tracing_without_its_package_is_an_error(
    new_app: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("celery_durable.checks.find_spec", lambda name: None)
    checked = Shell(new_app(durable_tracing=True)).run("check", code=78)
    assert "durable_tracing needs the package opentelemetry-api. pip install" in checked.stderr


def test_the_doctor_says_once_what_is_wrong_with_all(new_app: Callable[..., Any]) -> None:
    shell = Shell(new_app(durable_backend_url="sqlite://"))
    found = shell.run("doctor", code=5).stdout
    assert found.count("cannot live in memory") == 1
    assert "PROBLEM  clock: see above" in found


def test_many_are_exported_into_a_folder(shell: Shell, tmp_path: Path) -> None:
    for number in range(3):
        shell.start("a", f"s{number}")
    folder = tmp_path / "shelf"
    done = shell.run("export", "--name", "cli.sale", "--limit", "2", "--to", str(folder))
    assert "wrote 2 files" in done.stderr
    shell.run("export", "s0", "s1", "s2", "--to", str(folder))
    files = sorted(folder.rglob("*.json.gz"))
    assert len(files) == 3
    assert "3 histories checked, 0 do not fit" in shell.run("replay", str(folder)).stdout
    assert "1 histories checked, 0 do not fit" in shell.run("replay", str(files[0])).stdout
    for wrong in ([], ["s0", "s1"], ["s0", "--name", "x"], ["--to", str(folder)]):
        shell.run("export", *wrong, code=2)
    shell.run("export", "none", "--to", str(folder), code=3)
    files[0].write_bytes(b"\x1f\x8bdamage")
    shell.run("replay", str(files[0]), code=1)


@pytest.mark.parametrize("error", [AttributeError("no Redis"), ModuleNotFoundError("no packaging")])
def test_the_doctor_names_a_library_that_the_broker_lacks(
    new_app: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    app = new_app(broker_url="redis://localhost")

    def connect(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("kombu.connection.Connection.ensure_connection", connect)
    found = Shell(app).run("doctor", code=5).stdout
    assert f"library of 'redis' seems to be missing ({error}): install celery[redis]" in found


def test_the_doctor_tells_what_waits_for_the_archive(new_app: Callable[..., Any]) -> None:
    def shelve(document: str, key: str) -> None:
        raise OSError("the shelf is full")

    shell = Shell(new_app(task_always_eager=True, task_ignore_result=True))
    assert "there is none: retention" in shell.run("doctor").stdout
    shell.app.conf.durable_archive = shelve
    shell.app.durable._runtime = None
    shell.start("a", "s1")
    assert "0 orchestrations wait for it" in shell.run("doctor", code=5).stdout
    assert "could not be archived: OSError: the shelf is full" in (
        shell.run("purge", "s1", code=4).stderr
    )
    found = shell.run("doctor", code=5).stdout
    assert "1 orchestrations wait for the archive, which failed at 1 of them" in found
    assert "at 's1'" in found and "OSError: the shelf is full" in found
    shell.app.conf.durable_archive = "no.such.function"
    shell.app.durable._runtime = None
    assert "no.such.function" in shell.run("doctor", code=5).stdout


def test_the_doctor_tells_of_code_and_schedules(shell: Shell) -> None:
    durable = shell.app.durable
    durable.runtime.store.workers.heartbeat("w", "host-1")
    shell.start("slow", "s1")
    durable.schedule("often", shell.app.tasks["cli.sale"].s("a"), interval=60)
    assert "1, none is late" in shell.run("doctor").stdout
    instances, schedules = (
        metadata.tables["durable_instances"],
        metadata.tables["durable_schedules"],
    )
    with durable.runtime.store.database.engine.begin() as connection:
        connection.execute(instances.update().values(name="gone"))
        connection.execute(schedules.update().values(next_at=1))
    found = shell.run("doctor", code=5).stdout
    assert "PROBLEM  code: 1 orchestrations that are not over need gone" in found
    assert (
        "PROBLEM  schedules: due for more than a minute, and no worker has started them: often"
        in found
    )


def test_limits_are_listed_and_the_doctor_tells_of_two_numbers(shell: Shell) -> None:
    app = shell.app

    @app.task(name="cli.slow", durable_limit=[Limit(1, name="crm"), Rate(9, per=60, key="what")])
    def slow(what: str) -> None:
        durable_context().defer()

    @app.durable.orchestrator(name="cli.fan")
    async def fan(ctx: Any) -> Any:
        return await ctx.map(slow, ["a", "b"])

    shell.run("start", "cli.fan", "--args", "[]", "--id", "f")
    names = ("of", "name", "key", "per", "most", "taken", "waiting")
    assert [tuple(row[name] for name in names) for row in shell.json("limits")["items"]] == [
        ("task", "cli.slow", "a", "0:01:00", 9, 1, 0),
        ("task", "cli.slow", "b", "0:01:00", 9, 0, 1),
        ("task", "crm", None, None, 1, 1, 1),
    ]
    assert "a place for 2 activities" not in shell.run("list").stdout
    assert (
        "waits for a place: 1 of 1 of 'crm' are taken, 0 before it"
        in shell.run("explain", "f").stdout
    )
    app.durable.runtime.store.workers.heartbeat("w", "host-1")
    assert "of activities, each with one number" in shell.run("doctor").stdout
    app.tasks["cli.charge"].durable_limit = Limit(4, name="crm")
    assert (
        "PROBLEM  limits: one name has two numbers, of which the smaller holds: 'crm' is 1 in"
        " cli.slow and 4 in cli.charge" in shell.run("doctor", code=5).stdout
    )


def test_migrations_are_printed_as_sql(shell: Shell) -> None:
    shell.run("migrate")
    printed = shell.run("migrate", "--sql")
    assert (printed.stdout, printed.stderr) == (
        "",
        "nothing is to be done: the tables fit this release\n",
    )
    assert (
        "CREATE TABLE durable_instances" in shell.run("migrate", "--sql", "--from", "base").stdout
    )
    assert (
        "CREATE TABLE durable_instances"
        not in shell.run("migrate", "--sql", "--from", "0003").stdout
    )
    shell.run("migrate", "--sql", "--from", "7777", code=2)
    shell.run("migrate", "--sql", "--check", code=2)
    shell.run("migrate", "--from", "0003", code=2)


def test_an_app_as_the_context_needs_no_option(shell: Shell) -> None:
    shell.start("a", "s1")
    result = CliRunner().invoke(group, ["count"], obj=shell.app)
    assert (result.exit_code, result.stdout) == (0, "1\n")
    nothing = CliRunner().invoke(group, ["count"])
    assert (nothing.exit_code, "no application" in nothing.stderr) == (78, True)


def test_an_app_without_orchestrations_is_told() -> None:
    from celery import Celery

    app = Celery("plain", set_as_current=False)
    result = CliRunner().invoke(group, ["list"], obj=SimpleNamespace(app=app))
    assert (result.exit_code, "make a Durable(app)" in result.stderr) == (78, True)


def test_a_store_that_is_away_is_told(new_app: Callable[..., Any]) -> None:
    shell = Shell(new_app(durable_backend_url="postgresql+psycopg://nobody@127.0.0.1:1/none"))
    for args in (
        ["list"],
        ["migrate", "--check"],
        ["migrate", "--sql"],
        ["watch", "s1"],
        ["schedules"],
    ):
        assert "127.0.0.1:1" in shell.run(*args, code=69).stderr
    assert (
        "CREATE TABLE durable_instances" in shell.run("migrate", "--sql", "--from", "base").stdout
    )


def test_payloads_are_encrypted_and_counted(new_app: Callable[..., Any], tmp_path: Path) -> None:
    large = PayloadStore(str(tmp_path / "large"), above=50)
    shell = Shell(new_app(task_always_eager=True, task_ignore_result=True))
    assert "in the database, as they are" in shell.run("doctor", code=None).stdout
    shell.start("a", "s1")
    assert "durable_codec" in shell.run("reencrypt", code=78).stderr
    assert "durable_payload_store" in shell.run("payloads", code=78).stderr
    shell.app.conf.update(durable_codec=Scrambled(), durable_payload_store=large)
    shell.app.durable._runtime = None
    changed = int(shell.run("reencrypt").stdout.split()[0])
    assert changed > 1
    assert shell.run("reencrypt").stdout.startswith("0 values")
    shell.start("b" * 100, "s2")
    large.write(f"{shell.app.durable.runtime.store.id}/lost", b"")
    for path in (tmp_path / "large").rglob("lost"):
        os.utime(path, (1, 1))
    count = sum(1 for _ in large.keys())
    assert f"{count} payloads; 1 of them" in shell.run("payloads").stderr
    assert "were deleted" in shell.run("payloads", "--prune").stderr
    assert sum(1 for _ in large.keys()) == count - 1
    assert "Scrambled" in shell.run("doctor", code=None).stdout
    assert shell.json("show", "s2", "--payloads")["input"]["args"] == ["b" * 100]


def test_ids_are_completed(shell: Shell) -> None:
    shell.start("a", "order-1")
    shell.start("a", "order-2")
    shell.start("a", "other")
    completion = ShellComplete(group, {"obj": SimpleNamespace(app=shell.app)}, "durable", "_X")
    assert {item.value for item in completion.get_completions(["show"], "order-")} == {
        "order-1",
        "order-2",
    }
    shell.app.durable.schedule("nightly", shell.app.tasks["cli.sale"].s("a"), interval=60)
    assert [item.value for item in completion.get_completions(["schedules", "pause"], "n")] == [
        "nightly"
    ]
    assert [item.value for item in completion.get_completions(["start"], "cli.")] == ["cli.sale"]


def test_other_commands_import_nothing_but_click() -> None:
    code = (
        "import sys; from importlib.metadata import entry_points; [entry.load() for entry in"
        " entry_points(group='celery.commands') if entry.name == 'durable']; print([name for name"
        " in sys.modules if name.partition('.')[0] in ('sqlalchemy', 'alembic', 'celery', 'kombu',"
        " 'rich')])"
    )
    assert (
        subprocess.run(
            [sys.executable, "-c", code], check=True, capture_output=True, text=True
        ).stdout
        == "[]\n"
    )


def test_a_plain_task_is_started_and_told_apart(shell: Shell) -> None:
    started = shell.run("start", "cli.charge", "--input", '"x"', "--id", "plain")
    assert started.stdout == "plain\n"
    shell.start("a", "s1")
    assert [row["id"] for row in shell.json("list", "--tasks")["items"]] == ["plain"]
    assert [row["id"] for row in shell.json("list", "--no-tasks")["items"]] == ["s1"]
