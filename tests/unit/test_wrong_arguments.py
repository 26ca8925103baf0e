"""What a user mistypes is refused by name, before anything is written."""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from typing import Any

import pytest
from celery import Celery, group

from celery_durable import ConfigurationError, Durable, Limit, PauseAfter, Rate, RetryPolicy
from celery_durable.http import BearerTokens, EventLinks, ItsDangerousSigner, Token
from celery_durable.testing import DurableEnv, durable_environment
from celery_durable.worker.task_limits import check_limits

app = Celery("wrong_arguments", broker="memory://", set_as_current=False)
durable = Durable(app)


@durable.orchestrator(name="wrong.flow")
async def flow(ctx: Any, number: int) -> int:
    return number


@app.task(name="wrong.task")
def task(number: int) -> int:
    return number


@pytest.fixture
def env() -> Iterator[DurableEnv]:
    with durable_environment(durable) as environment:
        yield environment
        assert durable.count() == 0


@pytest.mark.parametrize("tags", [["batch"], "batch", [("batch", "monday")], 7, [], ""])
def test_tags_are_a_mapping(env: DurableEnv, tags: Any) -> None:
    for call in (
        lambda: durable.start(flow.s(1), tags=tags),
        lambda: durable.start(task.s(1), tags=tags),
        lambda: durable.canvas(task.s(1)).start(tags=tags),
        lambda: durable.find(tags=tags),
        lambda: durable.count(tags=tags),
        lambda: durable.suspend(tags=tags),
    ):
        with pytest.raises(TypeError, match="tags are"):
            call()


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("limt", "limit"),
        ("limits", "limit"),
        ("retension", "retention"),
        ("max_activites", "max_activities"),
        ("nmae", "name"),
        ("debounse", "debounce"),
        ("pirority", "priority"),
        ("time_out", "timeout"),
        ("qeue", "queue"),
    ],
)
def test_a_misspelt_option_of_a_declaration_is_refused(given: str, meant: str) -> None:
    async def other(ctx: Any) -> None: ...

    class Counter:
        count = 0

    wanted = rf"takes no {given}=. Is {meant}= meant?"
    with pytest.raises(ConfigurationError, match=f"orchestrator other {wanted}"):
        durable.orchestrator(**{given: 5})(other)
    with pytest.raises(ConfigurationError, match=f"entity Counter {wanted}"):
        durable.entity(**{given: 5})(Counter)


def test_what_celerys_tasks_have_and_words_of_ones_own_are_no_misspelt_options() -> None:
    async def other(ctx: Any) -> None: ...

    task = durable.orchestrator(name="wrong.other", rate_limit="5/s", owner="ada", expires=60)(
        other
    )
    assert (task.owner, task.rate_limit) == ("ada", "5/s")


def test_an_operation_on_a_reference_tells_of_signals(env: DurableEnv) -> None:
    @durable.entity(name="wrong.account")
    class Account:
        balance: int = 0

        def deposit(self, amount: int) -> None: ...

    reference = durable.entity(Account, "c-7")
    with pytest.raises(AttributeError, match=r"send a signal.*\.signal\.deposit\(\.\.\.\)"):
        reference.deposit(5)  # type: ignore[attr-defined]
    assert not hasattr(reference, "__deepcopy__")
    with pytest.raises(TypeError, match=r'one of them is durable.entity\(Account, "key"\)'):
        durable.entity(Account)
    assert durable.entity(Account, name="wrong.account") is Account  # imported again


def test_arguments_of_links_and_tokens_are_not_swapped() -> None:
    signer, url = ItsDangerousSigner("a secret of 16 and more"), "https://shop.example/durable/"
    assert EventLinks(durable, signer, url).base_url == url
    for given, name in (
        ((signer, durable, url), "durable"),
        ((durable, url, signer), "signer"),
        ((durable, signer, signer), "base_url"),
        ((app, signer, url), "durable"),
        ((durable, "a secret of 16 and more"), "signer"),
    ):
        with pytest.raises(TypeError, match=f"EventLinks: {name} is .*, not "):
            EventLinks(*given)
    with pytest.raises(TypeError, match=r"as in BearerTokens\(Token\(...\), .*not a list"):
        BearerTokens([Token("a-secret-of-16-and-more", ["view"])])  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("durable_limt", "durable_limit"),
        ("durable_limits", "durable_limit"),
        ("durable_pauseafter", "durable_pause_after"),
        ("at_most_onc", "at_most_once"),
        ("atmostonce", "at_most_once"),
        ("durable_retries", "durable_retry"),
        ("durable_timout", "durable_timeout"),
    ],
)
def test_a_misspelt_option_of_a_task_is_refused(given: str, meant: str) -> None:
    def charge(order: str) -> None: ...

    own = Celery("misspelt", broker="memory://", set_as_current=False)
    Durable(own)
    wanted = rf"takes no {given}=. Is {meant}= meant?"
    with pytest.raises(ConfigurationError, match=f"a task {wanted}"):  # where it stands
        own.task(**{given: 5})
    with pytest.raises(ConfigurationError, match=f"task charge {wanted}"):
        own.task(charge, **{given: 5})
    with pytest.raises(ConfigurationError, match=f"task wrong.charge {wanted}"):
        own.task(charge, name="wrong.charge", **{given: 5})


def test_a_misspelt_option_of_a_shared_task_stops_the_worker() -> None:
    own = Celery("misspelt_shared", broker="memory://", set_as_current=False)
    Durable(own)

    class Charge(own.Task):  # type: ignore[misc, name-defined]
        name = "wrong.class"
        durable_limts = 5

        def run(self, order: str) -> None: ...

    own.register_task(Charge())
    with pytest.raises(ConfigurationError, match="task wrong.class takes no durable_limts="):
        check_limits(own)


def test_verify_without_anything_to_look_at_is_refused(env: DurableEnv) -> None:
    with pytest.raises(TypeError, match="pass histories, or live=True"):
        durable.verify()
    assert durable.verify([]).checked == 0


def test_a_version_of_a_name_that_is_not_here_tells_what_is(env: DurableEnv) -> None:
    with pytest.raises(
        ConfigurationError, match=r"no orchestrator wrong\.flo.*Is wrong\.flow meant"
    ):
        durable.ramp("wrong.flo", "2", share=0.1)
    with pytest.raises(ConfigurationError, match="no orchestrator else.*Import the module"):
        durable.ramp("else.where", "2", share=0.1)


@pytest.mark.parametrize(
    ("options", "meant"),
    [
        ({"limit": 5}, "durable_limit="),
        ({"limits": [5]}, "durable_limit="),
        ({"limit": Limit(5), "bind": True}, "durable_limit="),
        ({"throttle": Rate(5, per=60)}, "durable_limit="),
        ({"pause": PauseAfter(5, per=60)}, "durable_pause_after="),
        ({"retry": RetryPolicy(), "bind": True}, "durable_retry="),
        ({"retry": 3}, "durable_retry="),
        ({"start_timeout": 5}, "start_timeout= of ctx.call"),
        ({"timeout": 5}, "durable_timeout="),
        ({"retention": 5}, "durable_retention="),
    ],
)
def test_an_option_of_ours_has_its_whole_name(options: dict[str, Any], meant: str) -> None:
    given = next(iter(options))
    with pytest.raises(ConfigurationError, match=f"takes no {given}=. Is {meant} meant"):
        app.task(**options)


def test_an_option_that_the_application_can_read_is_its_own() -> None:
    own = Celery("own_options", broker="memory://", set_as_current=False)
    Durable(own)

    class Limited(own.Task):  # type: ignore[misc, name-defined]
        limit = 3

    def charge(*order: str) -> None: ...

    def ship(*order: str) -> None: ...

    assert own.task(charge, base=Limited, limit=5).limit == 5
    assert own.task(ship, bind=True, timeout=5).timeout == 5
    own.finalize()
    check_limits(own)


@pytest.mark.parametrize("value", ["no", 1, []])
@pytest.mark.parametrize("flag", ["at_most_once", "durable"])
def test_a_flag_of_a_task_is_true_or_false(flag: str, value: Any) -> None:
    own = Celery("flags", broker="memory://", set_as_current=False)
    Durable(own)
    with pytest.raises(ConfigurationError, match=f"{flag} must be True or False, not"):
        own.task(**{flag: value})
    base = type("Base", (own.Task,), {"abstract": True, flag: value})

    @own.task(base=base, name="wrong.flag")
    def charge(order: str) -> None: ...

    own.finalize()
    with pytest.raises(ConfigurationError, match=f"wrong.flag: {flag} must be True or False"):
        check_limits(own)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"at_most_once": True}, "it is for activities; a turn counts once"),
        ({"durable_limit": 5}, "here it is limit="),
        ({"durable_timeout": 5}, "here it is timeout="),
        ({"durable_retention": 5}, "here it is retention="),
        ({"durable_pause_after": PauseAfter(5, per=60)}, "durable.pause"),
        ({"durable_retry": RetryPolicy()}, "give its calls `retry=RetryPolicy"),
        ({"retry": RetryPolicy()}, "give its calls `retry=RetryPolicy"),
        ({"durable_attempt_timeout": 5}, "give it to the tasks, or to `ctx.call`"),
        ({"durable_heartbeat_timeout": 5}, "give it to the tasks, or to `ctx.call`"),
        ({"start_timeout": 5}, "give it to the tasks, or to `ctx.call`"),
        ({"heartbeat_timeout": 5}, "give it to the tasks, or to `ctx.call`"),
    ],
)
def test_an_option_of_tasks_is_none_of_orchestrators(options: dict[str, Any], words: str) -> None:
    async def other(ctx: Any) -> None: ...

    wanted = f"takes no {next(iter(options))}=: .*{words}"
    with pytest.raises(ConfigurationError, match=f"orchestrator other {wanted}"):
        durable.orchestrator(**options)(other)
    with pytest.raises(ConfigurationError, match=wanted):
        durable.entity(**options)(type("Other", (), {}))


def test_an_option_of_a_shared_task_that_does_nothing_stops_the_worker() -> None:
    own = Celery("nothing_shared", broker="memory://", set_as_current=False)
    Durable(own)
    own.finalize()

    def charge(order: str) -> None: ...

    own._task_from_fun(charge, name="wrong.shared", limit=5)
    with pytest.raises(ConfigurationError, match="wrong.shared takes no limit="):
        check_limits(own)


WRONG_KINDS = [
    ("priority", "high", "a whole number"),
    ("priority", 2.5, "a whole number"),
    ("priority", True, "a whole number"),
    ("headers", "customer", "a mapping"),
    ("countdown", "60", "seconds"),
    ("time_limit", "60", "seconds"),
    ("soft_time_limit", "60", "seconds"),
    ("serializer", 5, "a name"),
]


@pytest.mark.parametrize(("name", "value", "words"), WRONG_KINDS)
def test_options_of_messages_are_of_the_right_kind(
    env: DurableEnv, name: str, value: Any, words: str
) -> None:
    wanted = f"{name} must be {words}, not {value!r}"
    for start in (
        lambda: durable.start(task.s(1).set(**{name: value})),
        lambda: flow.s(1).set(**{name: value}).delay(),
    ):
        with pytest.raises(TypeError, match="takes no|" + wanted):
            start()


@pytest.mark.parametrize(("name", "value", "words"), WRONG_KINDS)
@pytest.mark.parametrize("shape", ["activity", "child", "group", "map"])
def test_options_of_calls_are_of_the_right_kind(
    name: str, value: Any, words: str, shape: str
) -> None:
    shapes = {"activity": task.s(1), "child": flow.s(1), "group": group(task.s(1), task.s(2))}

    async def parent(ctx: Any) -> str:
        try:
            if shape == "map":
                await ctx.map(task.s().set(**{name: value}), [1, 2])
            else:
                await ctx.call(shapes[shape].set(**{name: value}))
        except TypeError as error:
            return str(error)
        return "nothing was said"

    called = durable.orchestrator(name=f"wrong.kinds.{shape}.{name}.{value}")(parent)
    with durable_environment(durable) as env:
        said = env.start(called.s()).get()
    assert f"{name} must be {words}, not {value!r}" in said or "takes no" in said


@pytest.mark.parametrize("priority", ["high", 2.5, True])
def test_a_priority_is_a_number(priority: Any) -> None:
    async def other(ctx: Any) -> None: ...

    with pytest.raises(ConfigurationError, match="priority must be a whole number, not"):
        durable.orchestrator(name="wrong.priority", priority=priority)(other)
    with pytest.raises(ConfigurationError, match="priority must be a whole number, not"):
        app.task(priority=priority)


@pytest.mark.parametrize(
    ("given", "error", "words"),
    [
        ({"limit": "5"}, TypeError, "limit must be a whole number, not '5'"),
        ({"limit": 0}, ValueError, "limit must be from 1 to 1000"),
        ({"status": "running"}, ValueError, "'running' is not a valid.*PENDING, RUNNING, "),
        ({"name": 3}, TypeError, "name= takes a name, an orchestrator or a task, not 3"),
        ({"stuck": "yes"}, TypeError, "stuck= takes True or False, not 'yes'"),
        ({"id_prefix": 7}, TypeError, "id_prefix= takes a text, not 7"),
        ({"parent_id": 7}, TypeError, "parent_id= takes an id, not 7"),
        ({"version": 2}, TypeError, "version= takes a text, not 2"),
    ],
)
def test_filters_and_pages_are_of_the_right_kind(
    env: DurableEnv, given: dict[str, Any], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        durable.find(**given)


def test_a_time_out_is_seconds() -> None:
    with durable_environment(durable) as env:
        run = env.start(flow.s(1))
        with pytest.raises(TypeError, match="timeout must be seconds, not '3'"):
            run.wait("3")  # type: ignore[arg-type]
        assert run.wait(3) == 1


def test_if_exists_that_is_misspelt_is_told_so(env: DurableEnv) -> None:
    for call in (
        lambda: durable.start(flow.s(1), if_exists="rais"),  # type: ignore[arg-type]
        lambda: durable.start_many([flow.s(1)], if_exists="rais"),  # type: ignore[arg-type]
    ):
        with pytest.raises(ValueError, match="must be 'return', 'raise'.*not 'rais'"):
            call()


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ({"task": "wrong.tsk"}, "no task of that name is known here. Is 'wrong.task' meant?"),
        ({"task": "task"}, "Is 'wrong.task' meant?"),
        ({"task": "elsewhere"}, "no task of that name is known here."),
        ({"task": flow}, "it is an orchestrator, of which orchestrator= holds the turns"),
        ({"orchestrator": "wrong.flwo"}, "Is 'wrong.flow' meant?"),
        ({"task": "wrong.task"}, None),
        ({"task": "nothing.*"}, None),
        ({"orchestrator": flow}, None),
        ({"queue": "elsewhere"}, None),
    ],
)
def test_a_pause_of_what_is_not_known_here_is_told(
    env: DurableEnv, caplog: pytest.LogCaptureFixture, target: dict[str, Any], words: str | None
) -> None:
    assert durable.pause(**target).held == 0
    told = [record.getMessage() for record in caplog.records if "is paused, but" in record.message]
    assert len(told) == (words is not None)
    assert words is None or told[0].endswith(words)


class Names(StrEnum):
    APPROVED = "approved"


@pytest.mark.parametrize(
    ("ask", "words"),
    [
        (lambda ctx: ctx.wait_event(7), "an event name is a string, not int"),
        (lambda ctx: ctx.wait_request(7), "the name of a request is a string, not int"),
        (lambda ctx: ctx.signal_event(flow, "x"), "an instance id is a string, not"),
        (lambda ctx: ctx.all(ctx.sleep(1)), r"take a list, as in ctx.all\(\[first, second\]\)"),
        (lambda ctx: ctx.any(ctx.sleep(1)), r"take a list, as in ctx.all\(\[first, second\]\)"),
        (lambda ctx: ctx.run(task.s(1)), r"a signature is for ctx.call\(\)"),
    ],
)
def test_what_a_context_cannot_take_is_refused_at_once(
    env: DurableEnv, ask: Any, words: str
) -> None:
    async def asking(ctx: Any) -> None:
        await ask(ctx)

    own = Durable(Celery("asking", broker="memory://", set_as_current=False))
    called = own.orchestrator(name="wrong.asking")(asking)
    with durable_environment(own) as environment, pytest.raises(TypeError, match=words):
        environment.start(called.s()).get(timeout=3)


def test_a_member_of_an_enum_of_strings_is_its_value() -> None:
    own = Durable(Celery("enum", broker="memory://", set_as_current=False))

    @own.orchestrator(name="wrong.waits")
    async def waits(ctx: Any) -> Any:
        return await ctx.wait_event(Names.APPROVED)

    @own.orchestrator(name="wrong.tells")
    async def tells(ctx: Any) -> None:
        await ctx.signal_event("waits", Names.APPROVED, "yes")

    with durable_environment(own) as environment:
        run = environment.start(waits.s(), instance_id="waits")
        environment.start(tells.s())
        assert run.get(timeout=3) == "yes"
        other = environment.start(waits.s(), instance_id="other")
        other.raise_event(Names.APPROVED, "no")
        assert other.get(timeout=3) == "no"
