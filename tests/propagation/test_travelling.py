"""What is captured at a start is there wherever the orchestration runs, whoever sends what."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from celery import Celery, chain

from celery_durable import (
    ConfigurationError,
    Durable,
    InstanceNotFound,
    PayloadError,
    RuntimeStatus,
)
from celery_durable.testing import DurableEnv
from tests.propagation import travelling as app_

ALL = {"tenant": "acme", "trace": "t1", "locale": "de"}


@pytest.fixture
def durable_app():
    return app_.durable


@pytest.fixture(autouse=True)
def elsewhere(durable_env: DurableEnv) -> Iterator[None]:
    """The process that sends and runs is in no tenant, and then in another one."""
    app_.here["tenant"] = None
    app_.seen.clear()
    token = app_.locale.set(None)
    with app_.hooks():
        yield
    app_.locale.reset(token)
    app_.here["tenant"], app_.locales.broken = None, False


def begin(signature: Any, **options: Any) -> Any:
    """Start within a tenant, a trace and a locale, and leave them."""
    app_.here["tenant"] = "acme"
    token = app_.locale.set("de")
    try:
        return app_.durable.start(signature.set(headers={"trace": "t1"}), **options)
    finally:
        app_.locale.reset(token)
        app_.here["tenant"] = "someone else's"


def test_turns_activities_retries_and_children_have_it(durable_env: DurableEnv) -> None:
    run = begin(app_.parent.s())
    assert dict(run.context) == ALL
    with pytest.raises(TypeError):
        run.context["tenant"] = "x"
    durable_env.advance(hours=1)
    first, called, retried, own, below, last = run.refresh().output
    assert first == ["de", ALL]
    assert called == ["called", "de", ALL]
    assert retried == ["again", "de", ALL]
    assert own == ["own", "de", ALL]
    assert below == ["de", ["below", "de", ALL]]
    assert last == "de"
    tenants = {(name, tenant) for name, tenant in app_.seen}
    assert tenants == {
        ("parent", "acme"),
        ("look", "acme"),
        ("look", "other"),
        ("fail_once", "acme"),
        ("child", "acme"),
    }
    (kid,) = run.children()
    assert dict(kid.context) == ALL


def test_a_query_is_answered_under_it(durable_env: DurableEnv) -> None:
    run = begin(app_.parent.s())
    token = app_.locale.set("fr")
    assert run.query("tongue") == "de"
    assert app_.locale.get() == "fr"
    app_.locale.reset(token)
    durable_env.advance(hours=1)
    assert run.refresh().runtime_status is RuntimeStatus.COMPLETED
    assert run.query("tongue") == "de"


def test_operations_of_entities_run_under_their_callers(durable_env: DurableEnv) -> None:
    run = begin(app_.visits.s())
    durable_env.advance(minutes=1)
    assert run.refresh().output == [["called", "de"]]
    place = app_.durable.entity(app_.Place, "a")
    assert place.state() == {"seen": [["called", "de"], ["signalled", "de"], ["locked", "de"]]}
    assert app_.durable.entity(app_.Place, "b").state() == {"seen": [["passed on", "de"]]}
    token = app_.locale.set("fr")
    place.signal.note("from a client")
    app_.locale.reset(token)
    place.signal.note("from elsewhere")
    durable_env.run_until_idle()
    assert place.state()["seen"][3:] == [["from a client", "fr"], ["from elsewhere", None]]


def test_headers_of_one_call_are_those_of_the_child(durable_env: DurableEnv) -> None:
    run = begin(app_.calls_child.s())
    durable_env.run_until_idle()
    ours = {**ALL, "tenant": "kid's"}
    assert run.refresh().output == ["de", ["below", "de", ours]]
    assert ("child", "kid's") in app_.seen and ("look", "kid's") in app_.seen


def test_a_task_class_of_the_application_adds_headers(durable_env: DurableEnv) -> None:
    assert dict(durable_env.start(app_.own_class.s()).context) == {"tenant": "by the class"}
    assert dict(app_.own_class.delay().context) == {"tenant": "by the class"}


def test_no_propagator_swallows_a_failure(durable_env: DurableEnv) -> None:
    app_.locales.swallows = True
    run = begin(app_.fails.s())
    durable_env.run_until_idle()
    app_.locales.swallows = False
    assert run.refresh().runtime_status is RuntimeStatus.FAILED


def test_a_header_and_a_key_of_one_name_are_refused() -> None:
    app = Celery("doubled", broker="memory://", set_as_current=False)
    app.conf.durable_propagate = ["tenant"]
    durable = Durable(app)
    durable.propagate(Each("tenant"))
    with pytest.raises(ConfigurationError, match="another key"):
        durable.runtime  # noqa: B018


def test_it_outlives_continue_as_new_restart_rewind_and_fork(durable_env: DurableEnv) -> None:
    run = begin(app_.waits.s(), instance_id="w")
    for _ in range(2):
        durable_env.event(run, "go")
        durable_env.run_until_idle()
    assert run.refresh().output == ["de", ALL]
    run = run.restart()
    durable_env.event(run, "go")
    durable_env.run_until_idle()
    assert run.refresh().output == ["de", ALL]
    forked = run.fork(at=1, new_id="forked")
    durable_env.event(forked, "go")
    durable_env.run_until_idle()
    assert forked.refresh().output == ["de", ALL]


def test_a_schedule_has_what_was_there_when_it_was_declared(durable_env: DurableEnv) -> None:
    app_.here["tenant"] = "acme"
    token = app_.locale.set("de")
    app_.durable.schedule("daily", app_.child.s("tick"), interval=86_400)
    app_.locale.reset(token)
    app_.here["tenant"] = "someone else's"
    durable_env.advance(days=1, hours=1)
    (run,) = app_.durable.find(name=app_.child.name).items
    expected = {"tenant": "acme", "locale": "de"}
    assert run.output == ["de", ["tick", "de", expected]]


def test_members_of_a_canvas_have_it(durable_env: DurableEnv) -> None:
    app_.here["tenant"] = "acme"
    token = app_.locale.set("de")
    run = app_.durable.canvas(chain(app_.look.si("a"), app_.look.si("b"))).apply_async()
    app_.locale.reset(token)
    app_.here["tenant"] = "someone else's"
    durable_env.run_until_idle()
    what, seen, context = run.get(timeout=1)
    assert (what, seen, context["tenant"]) == ("b", "de", "acme")


def test_what_a_task_starts_has_the_tasks_own(durable_env: DurableEnv) -> None:
    app_.starts.apply(headers={"tenant": "acme", "trace": "t2"})
    assert dict(app_.durable.get("by a task").context) == {"tenant": "acme", "trace": "t2"}


def test_workers_die_everywhere(durable_env: DurableEnv) -> None:
    def scenario(env: DurableEnv) -> Any:
        run = begin(app_.parent.s(), instance_id="p")
        env.advance(hours=1)
        return run.refresh().output

    assert durable_env.crash_everywhere(scenario) > 40


def test_there_is_nothing_to_travel(durable_env: DurableEnv) -> None:
    run = app_.durable.start(app_.child.s("x"))
    durable_env.run_until_idle()
    assert dict(run.refresh().context) == {}
    assert run.output == [None, ["x", None, {}]]


def test_a_value_that_cannot_be_restored_fails_the_attempt(durable_env: DurableEnv) -> None:
    run = begin(app_.child.s("x"))
    from celery_durable.engine.propagation import Propagators

    plain = Propagators._restored
    count = []

    def restored(self: Any, values: Any) -> Any:
        count.append(1)
        app_.locales.broken = len(count) == 2  # the attempt, after the first turn
        return plain(self, values)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Propagators, "_restored", restored)
        durable_env.run_until_idle()
    assert run.refresh().runtime_status is RuntimeStatus.FAILED
    assert "'locale' could not be restored" in str(run.failure)


def test_a_turn_that_it_breaks_is_suspended_after_some_tries_and_can_be_resumed(
    durable_env: DurableEnv,
) -> None:
    run = begin(app_.child.s("x"))
    app_.locales.broken = True
    durable_env.advance(hours=1)
    assert run.refresh().runtime_status is RuntimeStatus.SUSPENDED
    assert "no such locale" in run.reason
    app_.locales.broken = False
    run.resume()
    durable_env.run_until_idle()
    assert run.refresh().output[0] == "de"


class Each:
    def __init__(self, key: Any, value: Any = None) -> None:
        self.key, self.value = key, value

    def capture(self) -> Any:
        if isinstance(self.value, Exception):
            raise self.value
        return self.value

    def restore(self, value: Any) -> Any:
        raise AssertionError


@pytest.fixture
def fresh() -> Iterator[Durable]:
    durable = Durable(Celery("fresh", broker="memory://", set_as_current=False))

    @durable.orchestrator(name="tests.fresh")
    async def fresh(ctx: Any) -> None: ...

    yield durable


def test_one_key_is_one_propagators(fresh: Durable) -> None:
    first = Each("k")
    fresh.propagate(first)
    fresh.propagate(first)
    with pytest.raises(ConfigurationError, match="two propagators have the key 'k'"):
        fresh.propagate(Each("k"))


@pytest.mark.parametrize("odd", [None, object(), Each(None), Each(""), Each(7), "text"])
def test_what_is_no_propagator_is_refused(fresh: Durable, odd: Any) -> None:
    with pytest.raises(ConfigurationError, match="is no propagator"):
        fresh.propagate(odd)


def test_a_class_is_no_propagator(fresh: Durable) -> None:
    class Locale:
        key = "locale"

        def capture(self) -> Any: ...

        def restore(self, value: Any) -> Any: ...

    with pytest.raises(ConfigurationError, match=r"a class: give an object.*propagate\(Locale\(\)"):
        fresh.propagate(Locale)


@pytest.mark.parametrize("value", [object(), {1: 2}, float("nan")])
def test_the_value_that_is_no_json_is_named(fresh: Durable, value: Any) -> None:
    fresh.propagate(Each("fine", 1))
    fresh.propagate(Each("odd", value))
    with pytest.raises(PayloadError, match="'odd' is"):
        fresh.propagators.capture({"trace": "t1"})


@pytest.mark.parametrize(
    ("value", "error"),
    [
        (object(), PayloadError),
        ({1: 2}, PayloadError),
        (float("nan"), PayloadError),
        ("x" * 5000, PayloadError),
        ({"a", "b"}, PayloadError),
        ((1, 2), PayloadError),
        (ZeroDivisionError("no"), ZeroDivisionError),
    ],
)
def test_what_cannot_be_captured_starts_nothing(fresh: Durable, value: Any, error: Any) -> None:
    from celery_durable.testing import durable_environment

    fresh.propagate(Each("k", value))
    with durable_environment(fresh) as env, pytest.raises(error):
        env.start(fresh.app.tasks["tests.fresh"].s(), instance_id="i")
        pytest.fail("it was started")
    with durable_environment(fresh), pytest.raises(InstanceNotFound):
        fresh.get("i").refresh()


def test_headers_are_named_by_a_list_of_names() -> None:
    app = Celery("odd", broker="memory://", set_as_current=False)
    app.conf.durable_propagate = "tenant"
    durable = Durable(app)
    with pytest.raises(ConfigurationError, match="durable_propagate must be a list of names"):
        durable.runtime  # noqa: B018


def test_the_command_line_shows_it_as_a_payload_and_doctor_misses_a_propagator(
    durable_env: DurableEnv,
) -> None:
    from celery_durable.cli.installation import _check_context
    from celery_durable.inspection.views import instance_view

    assert _check_context(app_.durable).endswith("nothing")
    run = begin(app_.waits.s())
    assert instance_view(run, payloads=True)["context"] == ALL
    assert "context" not in instance_view(run)
    assert _check_context(app_.durable).endswith("locale, tenant, trace")
    from celery_durable.engine.propagation import Propagators

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(app_.durable, "propagators", Propagators())
        with pytest.raises(RuntimeError, match="carry locale, which this process does not restore"):
            _check_context(app_.durable)


def test_timers_go_by_messages_where_headers_travel(durable_env: DurableEnv) -> None:
    assert app_.durable.runtime.publisher.needs_messages(app_.child.name)
