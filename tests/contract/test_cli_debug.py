"""``celery durable debug``: what it prints, and how it steps."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from celery_durable.cli.debug_shell import _FramePdb
from tests.contract.test_cli import Shell


@pytest.fixture
def shell(new_app: Callable[..., Any]) -> Shell:
    shell = Shell(new_app(task_always_eager=True, task_ignore_result=True))

    @shell.app.durable.orchestrator(name="cli.asks")
    async def asks(ctx: Any, secret: str) -> Any:
        print("printed by the code")
        ctx.state.step = secret
        return [secret, await part(ctx, secret + secret)]

    @shell.app.durable.entity(name="Counted")
    class Counted:
        value: int = 0

    return shell


async def part(ctx: Any, inner: str) -> Any:
    while True:
        await ctx.wait_event("go")


def test_json_is_all_of_a_stop(shell: Shell) -> None:
    shell.run("start", "cli.asks", "--input", '"s3"', "--id", "o")
    shown = shell.json("debug", "o", "--at", "1", "--json", "--payloads")
    assert shown["event"]["kind"] == "ExecutionStarted"
    assert (shown["id"], shown["name"], shown["position"], shown["length"]) == (
        "o",
        "cli.asks",
        1,
        1,
    )
    assert (shown["problem"], shown["ended_as"]) == (None, None)
    assert (shown["waits_for"], shown["state"]) == (["event 'go'"], {"step": "'s3'"})
    ((first, second),) = [task["frames"] for task in shown["tasks"]]
    assert (first["locals"]["secret"], second["locals"]["inner"]) == ("'s3'", "'s3s3'")
    assert (second["file"], second["function"]) == (__file__, "part")
    assert 'await ctx.wait_event("go")' in dict(second["source"])[second["line"]]
    assert shell.json("debug", "o", "--at", "0", "--json")["tasks"] == []


def test_values_are_hidden_without_payloads(shell: Shell) -> None:
    shell.run("start", "cli.asks", "--input", '"s3cret"', "--id", "o")
    for form in ("--json", "--print"):
        assert "s3cret" not in shell.run("debug", "o", form).stdout
        assert "s3cret" in shell.run("debug", "o", form, "--payloads").stdout
    steps = "locals\nstate\nframes\nhistory\nback\nnext\nlist\npdb\n"
    asked = shell.run("debug", "o", input=steps)
    assert "s3cret" not in asked.stdout
    assert "secret = (str)" in shell.run("debug", "o", "--print").stdout
    assert "begin with --payloads" in asked.stdout
    shell.run("start", "cli.sale", "--input", '"bad"', "--id", "failed")
    assert "'bad'" not in shell.run("debug", "failed", "--print").stdout
    assert "KeyError: 'bad'" in shell.run("debug", "failed", "--print", "--payloads").stdout


def test_plain_text(shell: Shell) -> None:
    shell.run("start", "cli.asks", "--input", '"s3"', "--id", "o")
    lines = shell.run("debug", "o", "--print", "--payloads").stdout.splitlines()
    assert lines[0].startswith("o (cli.asks), event 1 of 1: ExecutionStarted")
    assert "waits for event 'go'" in lines
    assert "    secret = 's3'" in lines
    assert any(line.strip().startswith("->") and "wait_event" in line for line in lines)
    assert not any(line.strip() == "printed" for line in lines)


def test_steps(shell: Shell) -> None:
    shell.run("start", "cli.sale", "--input", '"slow"', "--id", "o")
    steps = (
        "where\nhistory\nback 2\nb\nb\nlocals what\ngoto 0\nlocals\nuntil activitycompleted\nn\nu\n"
        "until ActivityFailed\ngoto x\ngoto 99\nnonsense\nlocals nothing\nframe 5\nlist\nframes\n"
        "next 9\nn\nhistory all\nhelp\nstate\n\nquit\n"
    )
    out = shell.run("debug", "o", "--payloads", input=steps).stdout
    for text in (
        "(durable) ",
        "event 3 of 3",
        "event 1 of 3",
        "this is the beginning",
        "there are no frames: the code has not begun",
        "ActivityCompleted",
        "until takes the kind of an event in this history, not 'ActivityFailed'",
        "a number is needed, not 'x'",
        "has no event 99 to stop after: it has the events 1 to 3",
        "there is no command 'nonsense'",
        "has no variable 'nothing' here, but charge, ctx, ",
        "there is no frame 5: they are 0 to 0",
        "> 0  ",
        "this is the last event",
        "ctx.state is empty",
        "goto N ",
        "waits for event 'go'",
    ):
        assert text in out, text


def test_pdb_opens_on_the_real_frame(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    shell.run("start", "cli.asks", "--input", '"s3"', "--id", "o")
    lines = iter([["p inner.upper()", "up", "p secret * 3", "down", "w", "q"], ["c"]])
    monkeypatch.setattr(_FramePdb, "preloop", lambda self: self.cmdqueue.extend(next(lines)))
    said: list[str] = []
    monkeypatch.setattr(_FramePdb, "message", lambda self, text: said.append(text))
    out = shell.run("debug", "o", "--pdb", input="locals\npdb\nq\n").stdout
    assert "'S3S3'" in said and "'s3s3s3'" in said
    assert "inner = 's3s3'" in out
    assert next(lines, None) is None


def test_an_exported_history(shell: Shell, tmp_path: Path) -> None:
    shell.run("start", "cli.asks", "--input", '"s3"', "--id", "o")
    file = tmp_path / "o.json"
    file.write_text(shell.run("export", "o").stdout)
    shell.run("terminate", "o")
    shell.run("purge", "o", "--yes")
    shown = shell.json("debug", "--history", str(file), "--json", "--payloads")
    assert shown["tasks"][0]["frames"][0]["locals"]["secret"] == "'s3'"
    named = shell.run("debug", "--history", str(file), "cli.sale", "--json", code=5)
    problem = json.loads(named.stdout)["problem"]
    assert "event 1: history has nothing more at this point, the code now asks for" in problem


def test_refusals(shell: Shell) -> None:
    shell.run("start", "cli.asks", "--input", '"s3"', "--id", "o")
    assert "no orchestration 'x'" in shell.run("debug", "x", code=3).stderr
    assert "give the ID" in shell.run("debug", code=2).stderr
    assert "give one of" in shell.run("debug", "o", "--json", "--pdb", code=2).stderr
    assert "has no event 7" in shell.run("debug", "o", "--at", "7", "--json", code=2).stderr
    shell.app.durable.entity("Counted", "1").signal.reset()
    assert "is an entity" in shell.run("debug", "@Counted@1", code=4).stderr
    assert "has: no version" in shell.run("debug", "o", "--version", "2", code=78).stderr
