"""``durable.canvas``: each canvas gives what Celery itself gives for it."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from typing import Any

import pytest
from celery import _state, chain, chord, group, signature
from celery.exceptions import Ignore, Reject

from celery_durable.errors import ActivityError, InvalidState
from celery_durable.worker.activity import wrap_tasks


@pytest.fixture
def app(new_app: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> Any:
    """An application that runs everything at once, in this process, both ways."""
    app = new_app(task_always_eager=True)
    monkeypatch.setattr(_state._tls, "current_app", app)

    @app.task(name="canvas.add")
    def add(*numbers: int, extra: int = 0) -> int:
        return sum(numbers) + extra

    @app.task(name="canvas.total")
    def total(numbers: list[int], extra: int = 0) -> int:
        return sum(numbers) + extra

    @app.task(name="canvas.same")
    def same(value: Any = None) -> Any:
        return value

    @app.task(name="canvas.fail")
    def fail(*ignored: Any) -> None:
        raise KeyError("broken")

    @app.task(name="canvas.show")
    def show(*args: Any, **kwargs: Any) -> list[Any]:
        return [list(args), kwargs]

    @app.task(name="canvas.sent", bind=True)
    def sent(self: Any, *ignored: Any) -> dict[str, Any]:
        """How it was sent, as far as a message that never travels knows it."""
        given = self.request.delivery_info
        return {
            name: given[name] for name in ("routing_key", "priority") if given[name] is not None
        }

    app.called = []

    @app.task(name="canvas.call_back")
    def call_back(*args: Any, name: str) -> None:
        app.called.append(name)

    return app


def of(app: Any, name: str) -> Any:
    return app.tasks[f"canvas.{name}"]


CANVASES: dict[str, Callable[[Any, Any, Any], Any]] = {
    "task": lambda add, total, same: add.s(1, 2),
    "chain": lambda add, total, same: chain(add.s(1, 1), add.s(2), add.s(3)),
    "chain of one": lambda add, total, same: chain(add.s(1, 1)),
    "immutable member": lambda add, total, same: chain(add.s(1, 1), add.si(5), add.s(3)),
    "keyword arguments": lambda add, total, same: chain(add.s(1), add.s(2, extra=10)),
    "chain in chain": lambda add, total, same: chain(
        chain(add.s(1), add.s(2)), chain(add.s(3), add.s(4))
    ),
    "group": lambda add, total, same: group(add.s(1), add.s(2)),
    "empty group": lambda add, total, same: group(),
    "group within": lambda add, total, same: chain(
        add.s(1, 1), group(add.s(1), add.s(2)), total.s()
    ),
    "group at the end": lambda add, total, same: chain(add.s(1, 1), group(add.s(1), add.s(2))),
    "group of chains": lambda add, total, same: group(
        chain(add.s(1), add.s(2)), chain(add.s(3), add.s(4))
    ),
    "group of groups": lambda add, total, same: group(group(add.s(1), add.s(2)), add.s(4)),
    "group after group": lambda add, total, same: chain(
        group(add.s(1), add.s(2)), group(total.s(), total.s(extra=1))
    ),
    "chord": lambda add, total, same: chord([add.s(1, 2), add.s(3, 4)], total.s(extra=1)),
    "chord of a generator": lambda add, total, same: chord(
        (add.s(i, i) for i in range(4)), total.s()
    ),
    "chain as member": lambda add, total, same: chord(
        [chain(add.s(1, 2), add.s(3)), add.s(3, 4)], total.s()
    ),
    "chain as body": lambda add, total, same: chord(
        [add.s(1, 2), add.s(3, 4)], chain(total.s(), add.s(1))
    ),
    "chord as member": lambda add, total, same: chord(
        [chord([add.s(1), add.s(2)], total.s()), add.s(4)], total.s()
    ),
    "group as member": lambda add, total, same: chord(
        [group(add.s(1), add.s(2)), add.s(4)], same.s()
    ),
    "chord after chord": lambda add, total, same: (
        chord([add.s(1), add.s(2)], total.s()) | group(add.s(1), add.s(2)) | total.s()
    ),
    "pipes": (
        lambda add, total, same: (
            (add.s(1) | add.s(2)) | group(add.s(1), add.s(2)) | total.s() | add.s(5)
        )
    ),
    "map": lambda add, total, same: total.map([[1, 2], [3]]),
    "starmap": lambda add, total, same: add.starmap([(1, 2), (3, 4)]),
    "chord as body": lambda add, total, same: chord(
        [add.s(1), add.s(2)], chord([total.s(), total.s(1)], same.s())
    ),
    "group as body": lambda add, total, same: chord(
        [add.s(1), add.s(2)], group(total.s(), total.s(extra=1))
    ),
    "immutable body": lambda add, total, same: chord([add.s(1), add.s(2)], add.si(7)),
    "empty header": lambda add, total, same: chain(add.s(1), chord([], total.s(extra=3)), add.s(1)),
    "map within": lambda add, total, same: chain(add.s(1), total.map([[1, 2], [3]]), total.s()),
    "starmap as member": lambda add, total, same: chord(
        [add.starmap([(1, 2), (3, 4)]), add.s(1)], same.s()
    ),
    "skew": lambda add, total, same: group(add.s(1), add.s(2)).skew(0.01, 0.03, 0.01),
    "deep": lambda add, total, same: functools.reduce(
        lambda inner, n: chain(add.s(n), inner), range(50), add.s(0)
    ),
    "wide": lambda add, total, same: chord([add.s(n) for n in range(300)], total.s()),
}
PARTIAL = ["task", "chain", "group", "chord", "group of chains", "chord as member"]


def made(app: Any, name: str) -> Any:
    return CANVASES[name](of(app, "add"), of(app, "total"), of(app, "same"))


@pytest.mark.parametrize("name", CANVASES)
def test_a_canvas_gives_what_celery_gives(app: Any, name: str) -> None:
    theirs = made(app, name).apply().get()
    assert app.durable.canvas(made(app, name)).delay().get(timeout=300) == theirs


@pytest.mark.parametrize("name", CANVASES)
def test_a_canvas_that_came_as_json_is_a_canvas(app: Any, name: str) -> None:
    theirs = made(app, name).apply().get()
    signature = app.durable.runtime.codec.decode(app.durable.runtime.codec.encode(made(app, name)))
    assert type(signature) is dict
    assert app.durable.canvas(signature).delay().get(timeout=300) == theirs


@pytest.mark.parametrize("name", PARTIAL)
def test_arguments_of_the_whole_come_first(app: Any, name: str) -> None:
    theirs = made(app, name).apply((10,)).get()
    assert theirs != made(app, name).apply().get()
    assert app.durable.canvas(made(app, name)).apply_async((10,)).get(timeout=300) == theirs


KEYWORDS: dict[str, Callable[[Any], Any]] = {
    "task": lambda show: show.s(1, x=1, z=1),
    "immutable task": lambda show: show.si(1, x=1),
    "chain": lambda show: chain(show.s(1, x=1), show.s(2, y=2)),
    "group": lambda show: group(show.s(1, x=1), show.s(2, z=2)),
    "group of chains": lambda show: group(chain(show.s(1), show.s(2)), show.si(3)),
    "group of chords": lambda show: group(chord([show.s(1), show.s(2)], show.s()), show.s(3)),
    "chord": lambda show: chord([show.s(1, x=1), show.s(2)], show.s(y=2)),
    "chain of a chord": lambda show: chain(group(show.s(1), show.s(2)), show.s(3), show.s(4)),
}


@pytest.mark.parametrize("name", KEYWORDS)
def test_keyword_arguments_of_the_whole_are_for_what_comes_first(app: Any, name: str) -> None:
    make, show = KEYWORDS[name], of(app, "show")
    theirs = make(show).apply((9,), {"z": 3}).get()
    assert app.durable.canvas(make(show)).delay(9, z=3).get(timeout=300) == theirs


def unfolded(app: Any, *tasks: Any) -> Any:
    """A chain as it may come out of a message: nothing in it was merged when it was made."""
    steps = [json.loads(json.dumps(task)) for task in tasks]
    whole = {
        "task": "celery.chain",
        "args": (),
        "kwargs": {"tasks": steps},
        "options": {},
        "subtask_type": "chain",
    }
    return signature(whole, app=app)


def test_what_is_no_step_of_a_chain_is_passed_over(app: Any) -> None:
    add, total, same = of(app, "add"), of(app, "total"), of(app, "same")

    def run(*tasks: Any) -> Any:
        return app.durable.canvas(unfolded(app, *tasks)).delay(10).get(timeout=300)

    assert run(add.s(1), group(), add.s(3)) == 14
    assert run(group(), unfolded(app), add.s(1), add.s(3)) == 14
    assert run(add.s(1), group()) == 11
    assert run(group(), group()) == []
    assert run(add.s(1), group([add.s(2)]), add.s(3)) == 16
    assert run(group([add.s(1)]), add.s(3)) == 14
    assert (
        run(
            unfolded(app, unfolded(app, add.s(1), group([add.s(2), add.s(3)])), total.s()), add.s(1)
        )
        == 28
    )
    assert app.durable.canvas(chord([chain(), add.s(1)], same.s())).delay().get(timeout=300) == [1]


def test_where_celery_has_two_answers_the_written_order_holds(app: Any) -> None:
    """Celery 5.7 on a worker turns a group in a header round, loses arguments, or fails.

    In eager mode it does as we do.
    """
    add, total, same = of(app, "add"), of(app, "total"), of(app, "same")
    for canvas, args, answer in (
        (chord([add.s(0), group(add.s(1), add.s(2)), add.s(3)], same.s()), (), [0, 1, 2, 3]),
        (chain(group(add.s(1), add.s(2))), (4,), [5, 6]),
        (group(chain(add.s(1), group(add.s(2), add.s(3)))), (), [[3, 4]]),
        (
            chain(
                group(add.s(1), add.s(2)),
                group(total.s(1), total.s(2)),
                group(total.s(3), total.s(4)),
            ),
            (),
            [12, 13],
        ),
    ):
        assert (
            app.durable.canvas(canvas).apply_async(args).get(timeout=300)
            == answer
            == canvas.apply(args).get()
        )


def test_chunks_are_activities_of_their_own(app: Any) -> None:
    chunks = of(app, "add").chunks([(1, 2), (3, 4), (5, 6)], 2)
    run = app.durable.canvas(chunks).delay()
    assert run.get(timeout=300) == chunks.group().apply().get() == [[3, 7], [11]]
    assert sum(event.kind == "ActivityScheduled" for event in run.history()) == 2


@pytest.mark.parametrize("route", ["map", "starmap", "chunks"])
def test_a_map_is_sent_where_its_task_goes(new_app: Callable[..., Any], route: str) -> None:
    app = new_app(task_routes={"canvas.add": {"queue": f"adding-{route}"}})

    @app.task(name="canvas.add")
    def add(numbers: list[int]) -> int:
        return sum(numbers)

    canvas = {
        "map": add.map([[1, 2]]),
        "starmap": add.starmap([([1, 2],)]),
        "chunks": add.chunks([([1, 2],)], 1),
    }[route]
    run = app.durable.canvas(canvas).delay()
    app.durable.runtime.runner.run(run.id)
    with app.connection_for_write() as connection:
        declare = connection.default_channel.queue_declare
        for queue in (f"adding-{route}", f"adding-{route}.turns"):
            assert declare(queue, passive=True).message_count == 1


# -- nested deep, and wide -------------------------------------------------------------------------


def in_header(inner: Any, add: Any, total: Any) -> Any:
    return chord([inner, add.s(1)], total.s())


def in_group(inner: Any, add: Any, total: Any) -> Any:
    return chain(group(inner, add.s(1)), total.s())


def in_chain(inner: Any, add: Any, total: Any) -> Any:
    return chain(chain(inner, add.s(0)), add.s(1))


@pytest.mark.full
@pytest.mark.parametrize("wrap", [in_header, in_group, in_chain])
def test_a_hundred_levels(app: Any, wrap: Callable[..., Any]) -> None:
    canvas = of(app, "add").s(1)
    for _ in range(100):
        canvas = wrap(canvas, of(app, "add"), of(app, "total"))
    assert app.durable.canvas(canvas).delay().get(timeout=300) == 101


def test_a_hundred_bodies(app: Any) -> None:
    canvas = of(app, "add").s(1)
    for _ in range(100):
        canvas = chord([of(app, "add").s(0)], chain(of(app, "total").s(1), canvas))
    assert app.durable.canvas(canvas).delay(5).get(timeout=300) == 5 + 100 + 1


@pytest.mark.full
def test_a_thousand_members_of_two_steps(app: Any, pytestconfig: pytest.Config) -> None:
    add = of(app, "add")
    # without a cache each step replays all before it
    members = 100 if pytestconfig.getoption("--no-cache") else 1000
    canvas = chord([chain(add.s(n), add.s(1)) for n in range(members)], of(app, "total").s())
    assert app.durable.canvas(canvas).delay().get(timeout=300) == sum(range(members)) + members


# -- options and callbacks -------------------------------------------------------------------------


def test_options_reach_what_celery_gives_them_to(app: Any) -> None:
    sent, same = of(app, "sent"), of(app, "same")
    high, fast, none = {"priority": 7}, {"routing_key": "fast"}, {}
    for canvas, answer in (
        (sent.s().set(priority=7, routing_key="fast"), {**high, **fast}),
        (group(sent.s().set(**fast), sent.s()).set(priority=7), [{**fast, **high}, high]),
        (group(group(sent.s()), sent.s().set(priority=1)).set(priority=7), [high, high]),
        (chain(sent.si(), group(sent.si(), sent.si())).set(priority=7), [none, none]),
        (
            chain(group(sent.si(), sent.si().set(**fast)), same.s()).set(priority=7),
            [high, {**fast, **high}],
        ),
        (group(chain(sent.si(), sent.si()), chain(sent.s())).set(priority=7), [none, high]),
        (chord([sent.s(), sent.s()], same.s()).set(priority=7), [high, high]),
        (chord([same.s(1)], sent.s()).set(priority=7), high),
        (chord([chord([sent.s()], same.s()), sent.s()], same.s()).set(priority=7), [[high], high]),
    ):
        assert app.durable.canvas(canvas).delay().get(timeout=300) == answer, canvas


def test_delays_are_durable_timers_of_what_comes_first(app: Any) -> None:
    add, total = of(app, "add"), of(app, "total")
    for canvas, timers in (
        (add.s(1).set(countdown=0.01), 1),
        (chain(add.s(1), add.s(2)).set(countdown=0.01), 1),
        (chain(add.s(1), add.s(2).set(countdown=0.01)).set(countdown=0.01), 2),
        (chord([add.s(1), add.s(2)], total.s()).set(countdown=0.01), 2),
        (group(chain(add.s(1), add.s(2)), add.s(1)).skew(0.01, 0.03, 0.01), 2),
        (group(add.s(1), add.s(2)).set(countdown=0.01), 2),
    ):
        run = app.durable.canvas(canvas).delay()
        theirs = canvas.apply()
        wake_until_done(app, run)
        assert run.get(timeout=300) == theirs.get()
        assert sum(event.kind == "TimerCreated" for event in run.history()) == timers, canvas


def wake_until_done(app: Any, run: Any) -> None:
    """Let the timers of an orchestration fire; no worker runs here."""
    while not run.refresh().runtime_status.is_terminal:
        app.durable.runtime.runner.run(run.id)


def test_callbacks_are_called_once_where_the_whole_they_are_on_ends(app: Any) -> None:
    add, total, fail, call = of(app, "add"), of(app, "total"), of(app, "fail"), of(app, "call_back")

    def link(canvas: Any, name: str) -> Any:
        canvas.link(call.si(name=name))
        return canvas

    for canvas, called in (
        (link(add.s(1), "done"), ["done"]),
        (link(chain(add.s(1), add.s(2)), "done"), ["done"]),
        (group(link(chain(add.s(1), add.s(2)), "done"), add.s(1)), ["done"]),
        (link(chord([add.s(1), add.s(2)], total.s()), "done"), ["done"]),
        (chain(add.s(1), link(chain(add.s(1), add.s(2)), "inner"), add.s(3)), ["inner"]),
    ):
        app.called.clear()
        app.durable.canvas(canvas).delay().get(timeout=300)
        assert app.called == called, canvas
    errback = call.si(name="failed")
    for canvas in (
        fail.s().on_error(errback),
        chain(add.s(1), fail.s(), add.s(1)).on_error(errback),
        chain(add.s(1), chain(fail.s(), add.s(1)).on_error(errback)),
        chord([add.s(1), fail.s()], total.s().on_error(errback)),
        chord([add.s(1), chain(add.s(1), fail.s(), add.s(1))], total.s().on_error(errback)),
        chord([add.s(1)], fail.s().on_error(errback)),
    ):
        app.called.clear()
        with pytest.raises(KeyError, match="broken"):
            app.durable.canvas(canvas).delay().get(timeout=300)
        assert app.called == ["failed"], canvas


def test_callbacks_of_the_whole(app: Any) -> None:
    add, fail, call = of(app, "add"), of(app, "fail"), of(app, "call_back")
    callbacks = {"link": call.si(name="done"), "link_error": call.si(name="failed")}
    app.durable.canvas(chain(add.s(1), add.s(2))).apply_async(**callbacks).get(timeout=300)
    assert app.called == ["done"]
    run = app.durable.canvas(group(add.s(1), fail.s())).apply_async(**callbacks)
    with pytest.raises(KeyError, match="broken"):
        run.get(timeout=300)
    assert app.called == ["done", "failed"]


# -- the orchestration -----------------------------------------------------------------------------


def test_a_failure_is_the_members_own_and_what_follows_does_not_run(app: Any) -> None:
    add, total, fail = of(app, "add"), of(app, "total"), of(app, "fail")
    for canvas in (
        chain(add.s(1), fail.s(), add.s(2)),
        chord([add.s(1), fail.s()], total.s()),
        chord([chord([fail.s(), add.s(1)], total.s()), add.s(2)], total.s()),
    ):
        run = app.durable.canvas(canvas).delay()
        with pytest.raises(KeyError, match="broken"):
            run.get(timeout=300)
        ran = [event.name for event in run.history() if event.kind == "ActivityScheduled"]
        assert "canvas.total" not in ran and ran.count("canvas.add") <= 2


def test_a_canvas_is_an_orchestration(app: Any) -> None:
    canvas = app.durable.canvas(made(app, "chain"))
    run = canvas.start(instance_id="c1", tags={"kind": "canvas"})
    assert run.get(timeout=300) == 7
    assert canvas.apply_async(task_id="c1").id == "c1"
    (found,) = app.durable.find(tags={"kind": "canvas"}).items
    assert (found.id, found.name) == ("c1", "celery_durable.canvas")
    with pytest.raises(InvalidState):
        run.suspend()


def test_ways_to_start(app: Any) -> None:
    canvas = app.durable.canvas(made(app, "chain"))
    run = canvas.apply_async((10,), instance_id="c2", tags={"kind": "canvas"}, countdown=0.01)
    wake_until_done(app, run)
    assert (run.id, run.tags, run.get(timeout=300)) == ("c2", {"kind": "canvas"}, 17)
    assert canvas.start(10, instance_id="c3").get(timeout=300) == 17
    named = app.durable.canvas(chain(of(app, "add").s(1), of(app, "add").s(2)).set(task_id="c4"))
    assert (named.delay().id, named.start().id, named.apply_async(task_id="c5").id) == (
        "c4",
        "c4",
        "c5",
    )
    assert canvas.delay().id != canvas.delay().id
    with pytest.raises(ValueError, match="give one of them"):
        canvas.apply_async(task_id="c6", instance_id="c7")


@pytest.mark.parametrize(
    ("shape", "said"),
    [
        (
            lambda a: group(a.s(1), a.s(2).set(task_id="mine")),
            "member canvas.add of a canvas takes",
        ),
        (
            lambda a: chain(a.s(1), a.s(2).set(task_id="mine")),
            "member canvas.add of a canvas takes",
        ),
        (lambda a: chain(a.s(1), group([a.s(2).set(task_id="mine"), a.s(3)])), "takes no task_id="),
        (lambda a: chord([a.s(1)], a.s().set(task_id="mine")), "takes no task_id="),
        (lambda a: chain(a.s(1), group([a.s(2), a.s(3)]).set(task_id="mine")), "member group of"),
        (lambda a: a.chunks([(1, 2)] * 4, 2).set(priority="x"), "priority must be a whole number"),
        (lambda a: group(a.s(1), a.s(2).set(priority="x")), "priority must be a whole number"),
    ],
)
def test_an_option_that_a_member_cannot_have_is_refused_before_the_start(
    app: Any, shape: Callable[[Any], Any], said: str
) -> None:
    canvas = app.durable.canvas(shape(of(app, "add")))
    for start in (canvas.delay, canvas.start):
        with pytest.raises(TypeError, match=said):
            start()
    assert app.durable.count() == 0


def test_a_member_that_is_not_known_here_is_looked_at_by_the_run(app: Any) -> None:
    elsewhere = app.signature("elsewhere.task").set(task_id="mine")
    run = app.durable.canvas(chain(of(app, "add").s(1), elsewhere)).delay()
    with pytest.raises(TypeError, match="elsewhere.task takes no task_id="):
        run.get(timeout=300)


def test_expiry_of_the_whole_is_for_what_comes_first(new_app: Callable[..., Any]) -> None:
    app = new_app()

    @app.task(name="canvas.add")
    def add(*numbers: int) -> int:
        return sum(numbers)

    def limits(canvas: Any, **options: Any) -> list[Any]:
        """Within how many seconds each activity that is out must have begun."""
        run, store = app.durable.canvas(canvas).apply_async(**options), app.durable.runtime.store
        app.durable.runtime.runner.run(run.id)
        with store.database.cursor() as cursor:
            cursor.execute(
                f"SELECT start_by FROM durable_outbox WHERE instance = '{run.id}' ORDER BY command"
            )
            rows = cursor.fetchall()
        return [None if row[0] is None else round((row[0] - store.now()) / 1e6, -1) for row in rows]

    assert limits(chain(add.s(1), add.s(2)), expires=60) == [60]
    assert limits(chord([add.s(1), chain(add.s(1), add.s(2))], add.s()), expires=60) == [60, 60]
    assert limits(group(add.s(1), add.s(2).set(expires=120))) == [None, 120]


@pytest.mark.parametrize("thing", [None, 5, "canvas.add", {"tasks": ["canvas.add"]}, [1]], ids=repr)
def test_what_is_no_canvas_is_refused(app: Any, thing: Any) -> None:
    with pytest.raises(TypeError, match=r"durable\.canvas\(\) takes a signature"):
        app.durable.canvas(thing)


# -- what a member may do about the whole ----------------------------------------------------------


@pytest.fixture
def growing(app: Any) -> Any:
    @app.task(name="canvas.grow", bind=True)
    def grow(self: Any, n: int) -> int:
        """Add all smaller numbers to the chord, each by the next greater one."""
        if n > 1:
            self.add_to_chord(self.s(n - 1))
        return n

    @app.task(name="canvas.stop")
    def stop(*args: Any) -> None:
        raise Ignore("enough")

    @app.task(name="canvas.refuse")
    def refuse(*args: Any) -> None:
        raise Reject("not today", requeue=False)

    wrap_tasks(app)
    return app


def test_a_member_adds_to_its_chord(growing: Any) -> None:
    grow, add, total = of(growing, "grow"), of(growing, "add"), of(growing, "total")
    run = growing.durable.canvas
    assert run(chord([grow.s(4), add.s(100)], total.s())).delay().get(timeout=300) == 110
    assert run(chord([chain(add.s(1, 1), grow.s())], total.s())).delay().get(timeout=300) == 3, (
        "the last step of a member"
    )
    nested = chord([chord([add.s(1), add.s(1)], chain(total.s(), grow.s())), add.s(10)], total.s())
    assert run(nested).delay().get(timeout=300) == 13, (
        "the body of an inner chord is a member of the outer one"
    )


@pytest.mark.parametrize(
    "wrap",
    [lambda s: s, lambda s: group(s, s), lambda s: chain(s, s)],
    ids=["task", "group", "chain"],
)
def test_what_is_in_no_chord_adds_to_none(growing: Any, wrap: Callable[..., Any]) -> None:
    with pytest.raises(ValueError, match="not member of any chord"):
        growing.durable.canvas(wrap(of(growing, "grow").s(2))).delay().get(timeout=300)


def test_a_chord_that_grew_is_replayed(growing: Any) -> None:
    run = growing.durable.canvas(
        chord([of(growing, "grow").s(3)], of(growing, "total").s())
    ).delay()
    assert run.get(timeout=300) == 6
    growing.durable.replay(run.export_history())


def test_a_task_stops_a_canvas(growing: Any) -> None:
    add, stop, same = of(growing, "add"), of(growing, "stop"), of(growing, "same")
    for canvas in (
        chain(add.s(1), stop.s(), add.s(2)),
        group(add.s(1), stop.s()),
        chord([add.s(1), stop.s()], same.s()),
    ):
        run = growing.durable.canvas(canvas).delay()
        assert run.get(timeout=300, propagate=False).reason == "ignored: enough"
        assert run.refresh().runtime_status == "CANCELED"


def test_a_task_that_rejects_says_why(growing: Any) -> None:
    with pytest.raises(ActivityError, match="rejected: not today"):
        growing.durable.canvas(
            chain(of(growing, "refuse").s(), of(growing, "add").s(1))
        ).delay().get(timeout=300)


def test_an_orchestrator_sees_why_a_task_stopped(growing: Any) -> None:
    @growing.durable.orchestrator(name="canvas.sees")
    async def sees(ctx: Any) -> str:
        try:
            return await ctx.call(of(growing, "stop").s())
        except ActivityError as error:
            return str(error)

    growing.durable._watch_tasks()
    assert growing.durable.start(sees.s()).get(timeout=300) == "ignored: enough"


@pytest.mark.parametrize(
    ("conf", "options", "queue"),
    [
        ({}, {}, "pictures"),
        ({}, {"queue": "own"}, "own"),
        ({"task_routes": {"celery_durable.*": "turns"}}, {}, "turns"),
        ({"task_routes": {"routed.*": "routed"}}, {}, "routed"),
    ],
)
@pytest.mark.parametrize("shape", ["task", "chain", "group", "chord", "chunks", "map"])
def test_its_messages_go_where_its_first_task_goes(
    new_app: Callable[..., Any], conf: Any, options: Any, queue: str, shape: str
) -> None:
    app = new_app(**conf)

    @app.task(name="routed.first", **({} if "routed" in queue else {"queue": "pictures"}))
    def first(*args: Any) -> None: ...

    @app.task(name="other.second")
    def second(*args: Any) -> None: ...

    app.finalize()
    shapes = {
        "task": first.s(),
        "chain": chain(first.s(), second.s()),
        "group": group(first.s(), second.s()),
        "chord": chord([first.s(), second.s()], second.s()),
        "chunks": first.chunks([(1,)], 1),
        "map": first.map([1]),
    }
    run = app.durable.canvas(shapes[shape]).apply_async(**options)
    assert app.durable.runtime.client.fetch(run.id).queue == queue
    assert app.durable.canvas(second.s()).delay().refresh()._known.queue == (
        "turns" if queue == "turns" else "celery"
    )
