"""``ctx.map`` with all that it takes: retries, time-outs, labels, and when it is over."""

from __future__ import annotations

import copy
import pickle

import pytest

import celery_durable
from celery_durable import SKIPPED
from celery_durable.core.kinds import CancelActivity
from celery_durable.core.retry import RetryPolicy
from celery_durable.payload import PayloadCodec
from tests.unit.core.harness import NEVER, After, cancel, child, echo, flaky, live, slow

WINDOWS = [None, 1, 2, 3, 99]


def mapped(script, *, count=None, **options):
    async def orchestrator(ctx):
        return await ctx.map(flaky, range(count or len(script)), **options)

    return live(orchestrator, script={"flaky": script})


# -- enough ----------------------------------------------------------------------------------------


def test_it_is_over_when_enough_have_succeeded():
    life = mapped([After(5, "a"), After(1, "b"), After(3, "c"), NEVER], stop_when=2)
    assert life.value == [None, "b", "c", None]  # null, as stored
    assert life.seconds == 3


def test_in_the_orchestrator_what_was_skipped_is_told_from_a_result_of_none():
    async def orchestrator(ctx):
        found = await ctx.map(flaky, range(3), stop_when=1)
        return [each is SKIPPED for each in found], found[1]

    life = live(orchestrator, script={"flaky": [NEVER, After(1, None), NEVER]})
    assert life.value == [[True, False, True], None]


@pytest.mark.parametrize("concurrency", WINDOWS)
@pytest.mark.parametrize("enough", [1, 2, 5, 6, 50])
def test_whatever_the_window_only_so_many_are_waited_for(concurrency, enough):
    async def orchestrator(ctx):
        found = await ctx.map(slow.s("x"), [n + 1 for n in range(6)], **options)
        return sum(each is not SKIPPED for each in found)

    options = {"concurrency": concurrency, "stop_when": enough}
    life = live(orchestrator)
    assert life.value == min(enough, 6)
    taken_back = [each for each in life.commands if isinstance(each, CancelActivity)]
    assert len(taken_back) == 6 - min(enough, 6)


@pytest.mark.parametrize("concurrency", WINDOWS)
def test_children_are_taken_back_too(concurrency):
    async def orchestrator(ctx):
        found = await ctx.map(child, range(4), concurrency=concurrency, stop_when=1)
        return [each is SKIPPED for each in found].count(False)

    assert live(orchestrator).value in (1, 4)


def test_two_that_succeed_in_one_turn_are_one_success_too_many():
    async def orchestrator(ctx):
        found = await ctx.map(slow.s("x"), [1, 1, 1], stop_when=1)
        return [each is SKIPPED for each in found]

    assert live(orchestrator).value == [False, True, True]


def test_failures_do_not_count_and_are_kept_where_all_are_tolerated():
    script = [After(1, ValueError("no")), After(2, "a"), After(3, ValueError("neither")), NEVER]

    async def orchestrator(ctx):
        found = await ctx.map(flaky, range(4), stop_when=1, tolerate="all")
        return [repr(each) for each in found]

    life = live(orchestrator, script={"flaky": script})
    assert life.value == ["ValueError('no')", "'a'", "SKIPPED", "SKIPPED"]


def test_too_few_successes_go_on_to_the_end_and_the_tolerance_decides():
    script = [ValueError("a"), "b", ValueError("c")]

    async def orchestrator(ctx):
        found = await ctx.map(flaky, range(3), stop_when=2, tolerate="all")
        return [repr(each) for each in found]

    assert live(orchestrator, script={"flaky": script}).value == [
        "ValueError('a')",
        "'b'",
        "ValueError('c')",
    ]
    with pytest.raises(ValueError, match="c"):
        mapped([ValueError("a"), "b", ValueError("c")], stop_when=2, tolerate=1).value


def test_the_failure_that_is_one_too_many_is_raised_at_once():
    life = mapped([After(1, ValueError("a")), After(2, KeyError("b")), NEVER], tolerate=1)
    with pytest.raises(KeyError):
        life.value
    assert life.seconds == 2


def test_no_items_give_an_empty_list_whatever_is_asked():
    async def orchestrator(ctx):
        return [
            await ctx.map(echo, []),
            await ctx.map(echo, [], stop_when=3, tolerate="all", concurrency=2, label="none"),
        ]

    assert live(orchestrator).value == [[], []]


def test_canceling_the_orchestration_cancels_the_items():
    async def orchestrator(ctx):
        await ctx.map(slow.s("x"), [60] * 4, concurrency=2, stop_when=3, tolerate="all")

    life = live(orchestrator, inputs=[cancel(at=1)])
    assert life.is_canceled
    assert life.seconds == 1


# -- each item is a call ---------------------------------------------------------------------------


@pytest.mark.parametrize("concurrency", WINDOWS)
def test_each_item_is_tried_again_in_its_place(concurrency):
    life = mapped(
        [OSError(), OSError(), OSError(), "a", "b", "c"],
        count=3,
        concurrency=concurrency,
        retry=RetryPolicy(max_attempts=9, first_interval=1),
    )
    assert sorted(life.value) == ["a", "b", "c"]


def test_only_the_last_failure_of_an_item_counts():
    async def orchestrator(ctx):
        found = await ctx.map(flaky, [0], tolerate="all", retry=RetryPolicy(max_attempts=2))
        return [repr(each) for each in found]

    script = [OSError("first"), OSError("last")]
    assert live(orchestrator, script={"flaky": script}).value == ["OSError('last')"]


@pytest.mark.parametrize("concurrency", [None, 2])
def test_each_item_has_the_times_and_its_number_in_the_label(concurrency):
    async def orchestrator(ctx):
        return await ctx.map(
            echo,
            "abc",
            concurrency=concurrency,
            label="letter",
            timeout=1,
            start_timeout=2,
            heartbeat_timeout=3,
        )

    life = live(orchestrator)
    assert life.value == ["a", "b", "c"]
    assert [each.title for each in life.scheduled] == ["letter[0]", "letter[1]", "letter[2]"]
    assert {(c.timeout, c.start_timeout, c.heartbeat_timeout) for c in life.scheduled} == {
        (1_000_000, 2_000_000, 3_000_000)
    }


# -- bad input -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("option", "error"),
    [
        ({"stop_when": 0}, "stop_when must be a whole number of at least 1"),
        ({"stop_when": -1}, "stop_when"),
        ({"stop_when": True}, "stop_when"),
        ({"stop_when": 1.0}, "stop_when"),
        ({"concurrency": 0}, "concurrency must be"),
        ({"concurrency": True}, "concurrency must be"),
        ({"tolerate": "some"}, "tolerate must be a count, a share in"),
        ({"tolerate": -1}, "tolerate must be"),
        ({"tolerate": None}, "tolerate must be"),
        ({"tolerate": 1.5}, "tolerate must be"),
    ],
)
def test_what_makes_no_sense_is_refused(option, error):
    with pytest.raises(ValueError, match=error):
        mapped([], count=2, **option).value


# -- the one object --------------------------------------------------------------------------------


def test_there_is_one_such_object():
    assert celery_durable.SKIPPED is SKIPPED
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        assert pickle.loads(pickle.dumps([SKIPPED], protocol))[0] is SKIPPED
    assert copy.copy(SKIPPED) is SKIPPED
    assert copy.deepcopy([SKIPPED])[0] is SKIPPED
    assert repr(SKIPPED) == "SKIPPED"


@pytest.mark.parametrize("serializer", ["json"])
def test_as_a_payload_it_is_null(serializer):
    codec = PayloadCodec(serializer, accept=[serializer])
    assert codec.decode(codec.encode({"found": [1, SKIPPED]})) == {"found": [1, None]}
