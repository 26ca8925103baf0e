"""At which moments a schedule is due, and what becomes of the ticks that are."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from celery.schedules import crontab, schedule
from hypothesis import given, settings
from hypothesis import strategies as st

from celery_durable.core.cron import CronTimes, Every, zone_of
from celery_durable.engine.due import ScheduleRow
from celery_durable.engine.schedules import jitter_of, next_move, tick_id, times_of
from celery_durable.handles.declare_schedule import cron_text

SECOND = 1_000_000
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
BERLIN, NEW_YORK, LORD_HOWE = "Europe/Berlin", "America/New_York", "Australia/Lord_Howe"


def micros(moment: datetime) -> int:
    return (moment - EPOCH) // timedelta(microseconds=1)


def at(text: str) -> int:
    """The moment of an ISO time, UTC unless it says otherwise."""
    moment = datetime.fromisoformat(text)
    return micros(moment if moment.tzinfo else moment.replace(tzinfo=UTC))


def ticks(line: str, zone: str, start: str, end: str) -> list[str]:
    """The times of a line after ``start`` up to ``end`` (both UTC), as the local clock
    shows them.
    """
    times, found = CronTimes(line, zone), []
    tick = times.after(at(start))
    while tick is not None and tick <= at(end):
        local = (EPOCH + timedelta(microseconds=tick)).astimezone(ZoneInfo(zone))
        found.append(local.strftime("%d %H:%M%z"))
        tick = times.after(tick)
    return found


# -- crontab lines ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cron", "line"),
    [
        ("  */5 1,2  * * mon-fri ", "*/5 1,2 * * mon-fri"),
        (crontab(), "* * * * *"),
        (crontab(minute=0, hour="7, 19"), "0 7,19 * * *"),
        (
            crontab(
                minute="30", hour=[3, 4], day_of_month="1", month_of_year="*/3", day_of_week="sun"
            ),
            "30 3,4 1 */3 sun",
        ),
    ],
)
def test_a_crontab_becomes_a_line(cron, line):
    assert cron_text(cron) == line


@pytest.mark.parametrize(
    "line",
    [
        "",
        "* * * *",
        "* * * * * *",
        "60 * * * *",
        "* 24 * * *",
        "* * 0 * *",
        "* * * 13 *",
        "* * * * 7",
        "*/0 * * * *",
        "1-5-9 * * * *",
        "*/5-3 * * * *",
        "5/2 * * * *",
        "1_0 * * * *",
        ", * * * *",
        "1,, * * * *",
        "-1 * * * *",
        "x * * * *",
        "\u0663 * * * *",
        "0 0 30 2 *",
        "@daily",
    ],
)
def test_a_line_that_cannot_be_read_is_refused(line):
    with pytest.raises(ValueError, match="crontab"):
        cron_text(line)


@pytest.mark.parametrize("cron", [5, None, schedule(10), timedelta(5)])
def test_what_is_no_crontab_is_refused(cron):
    with pytest.raises(TypeError, match="crontab"):
        cron_text(cron)


@pytest.mark.parametrize(
    "name", ["Europe/Atlantis", "", "Europe", "../../etc/passwd", "CE ST", "\x00"]
)
def test_an_unknown_time_zone_is_refused(name):
    with pytest.raises(ValueError, match="time zone"):
        zone_of(name)


def test_both_the_day_of_the_month_and_of_the_week_must_match():
    assert ticks("0 12 13 * fri", "UTC", "2026-01-01", "2026-12-31") == [
        "13 12:00+0000",
        "13 12:00+0000",
        "13 12:00+0000",
    ]
    assert CronTimes("0 12 13 * fri", "UTC").after(at("2026-01-01")) == at("2026-02-13T12:00")


def test_rare_days_are_found():
    # 2100 has no leap day
    assert CronTimes("0 0 29 2 mon", "UTC").after(at("2072-03-01")) == at("2112-02-29")


# -- changes of the clock --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "zone", "start", "end", "expected"),
    [
        # spring, fixed hours: what the gap leaves out runs once, at its end
        (
            "30 2 * * *",
            BERLIN,
            "2026-03-28T00:00",
            "2026-03-30T12:00",
            ["28 02:30+0100", "29 03:00+0200", "30 02:30+0200"],
        ),
        (
            "*/20 2,3 * * *",
            BERLIN,
            "2026-03-29T00:00",
            "2026-03-29T03:00",
            ["29 03:00+0200", "29 03:20+0200", "29 03:40+0200"],
        ),
        (
            "30 2 * * *",
            NEW_YORK,
            "2026-03-07T12:00",
            "2026-03-09T12:00",
            ["08 03:00-0400", "09 02:30-0400"],
        ),
        (
            "15 2 * * *",
            LORD_HOWE,
            "2026-10-03T00:00",
            "2026-10-04T20:00",
            ["04 02:30+1100", "05 02:15+1100"],
        ),
        (
            "45 2 * * *",
            LORD_HOWE,
            "2026-10-03T00:00",
            "2026-10-04T20:00",
            ["04 02:45+1100", "05 02:45+1100"],
        ),
        # autumn, fixed hours: what comes twice runs the first time
        (
            "30 2 * * *",
            BERLIN,
            "2026-10-24T12:00",
            "2026-10-26T12:00",
            ["25 02:30+0200", "26 02:30+0100"],
        ),
        (
            "0 1,2,3 * * *",
            BERLIN,
            "2026-10-24T22:00",
            "2026-10-25T04:00",
            ["25 01:00+0200", "25 02:00+0200", "25 03:00+0100"],
        ),
        (
            "30 1 * * *",
            NEW_YORK,
            "2026-10-31T12:00",
            "2026-11-02T12:00",
            ["01 01:30-0400", "02 01:30-0500"],
        ),
        (
            "45 1 * * *",
            LORD_HOWE,
            "2026-04-04T00:00",
            "2026-04-05T20:00",
            ["05 01:45+1100", "06 01:45+1030"],
        ),
        # every hour: the clock as it shows
        (
            "30 * * * *",
            BERLIN,
            "2026-03-29T00:00",
            "2026-03-29T02:00",
            ["29 01:30+0100", "29 03:30+0200"],
        ),
        (
            "30 * * * *",
            BERLIN,
            "2026-10-24T23:00",
            "2026-10-25T02:00",
            ["25 01:30+0200", "25 02:30+0200", "25 02:30+0100"],
        ),
        (
            "*/15 * * * *",
            LORD_HOWE,
            "2026-10-03T15:00",
            "2026-10-03T16:00",
            ["04 01:45+1030", "04 02:30+1100", "04 02:45+1100", "04 03:00+1100"],
        ),
        (
            "*/15 * * * *",
            LORD_HOWE,
            "2026-04-04T14:20",
            "2026-04-04T15:30",
            ["05 01:30+1100", "05 01:45+1100", "05 01:30+1030", "05 01:45+1030", "05 02:00+1030"],
        ),
        # a day that did not exist at all
        (
            "0 12 * * *",
            "Pacific/Apia",
            "2011-12-29T12:00",
            "2011-12-31T12:00",
            ["29 12:00-1000", "31 00:00+1400", "31 12:00+1400"],
        ),
    ],
)
def test_a_change_of_the_clock(line, zone, start, end, expected):
    assert ticks(line, zone, start, end) == expected


@pytest.mark.parametrize(
    ("zone", "start"),
    [
        (BERLIN, "2026-03-28T22:00"),
        (BERLIN, "2026-10-24T22:00"),
        (NEW_YORK, "2026-03-08T05:00"),
        (NEW_YORK, "2026-11-01T04:00"),
        (LORD_HOWE, "2026-10-03T14:00"),
        (LORD_HOWE, "2026-04-04T13:00"),
    ],
)
def test_every_minute_continues_through_every_change(zone, start):
    found, begin = [at(start)], CronTimes("* * * * *", zone)
    for _ in range(300):
        found.append(begin.after(found[-1]))
    assert {later - earlier for earlier, later in pairwise(found)} == {60 * SECOND}


ZONES = st.sampled_from(
    [
        BERLIN,
        NEW_YORK,
        LORD_HOWE,
        "UTC",
        "Asia/Kathmandu",
        "Africa/Casablanca",
        "America/Nuuk",
        "Antarctica/Troll",
    ]
)
MOMENTS = st.datetimes(datetime(2015, 1, 1), datetime(2035, 1, 1)).map(
    lambda m: micros(m.replace(tzinfo=UTC))
)
LINES = st.builds(
    "{} {} {} * {}".format,
    st.sampled_from(["0", "*/7", "*", "15,45", "59"]),
    st.sampled_from(["*", "2", "0-3", "*/6", "23"]),
    st.sampled_from(["*", "1-7", "29"]),
    st.sampled_from(["*", "sun", "mon-fri"]),
)


@settings(max_examples=60)
@given(LINES, ZONES, MOMENTS)
def test_times_go_forward_and_none_is_passed_over(line, zone, moment):
    times = CronTimes(line, zone)
    first = times.after(moment)
    second = times.after(first)
    assert moment < first < second
    assert times.after((moment + first) // 2) == first
    assert times.after(first - 1) == first
    assert times.after((first + second) // 2) == second


@settings(max_examples=60)
@given(st.integers(0, 23), st.integers(0, 59), ZONES, MOMENTS)
def test_a_fixed_time_comes_once_a_day(hour, minute, zone, moment):
    times, days = CronTimes(f"{minute} {hour} * * *", zone), []
    for _ in range(20):
        moment = times.after(moment)
        local = (EPOCH + timedelta(microseconds=moment)).astimezone(ZoneInfo(zone))
        days.append(local.date())
        shown = local.replace(hour=hour, minute=minute, tzinfo=None)
        exists = (
            shown.replace(tzinfo=ZoneInfo(zone))
            .astimezone(UTC)
            .astimezone(ZoneInfo(zone))
            .replace(tzinfo=None)
            == shown
        )
        assert local.fold == 0 or not exists
        assert ((local.hour, local.minute) == (hour, minute)) is exists
    assert all(later - earlier == timedelta(1) for earlier, later in pairwise(days))


# -- intervals -------------------------------------------------------------------------------------


@given(st.integers(-(10**16), 10**16), st.integers(1, 10**14), st.integers(-(10**16), 10**16))
def test_an_interval_keeps_to_the_multiples_of_its_anchor(anchor, every, moment):
    found = Every(anchor, every).after(moment)
    assert moment < found <= moment + every
    assert (found - anchor) % every == 0


# -- ids and jitter --------------------------------------------------------------------------------


def test_the_id_of_a_tick_is_its_name_and_its_time():
    assert (
        tick_id("nightly", at("2026-11-21T11:00:00+01:00")) == "nightly@2026-11-21T10:00:00+00:00"
    )
    assert (
        tick_id("often", at("2026-11-21T10:00:00.500")) == "often@2026-11-21T10:00:00.500000+00:00"
    )


@given(st.text(max_size=10), MOMENTS, st.integers(0, 10**12))
def test_jitter_is_within_its_bounds_and_stays(name, tick, most):
    found = jitter_of(name, tick, most)
    assert 0 <= found <= most
    assert found == jitter_of(name, tick, most)


def test_jitter_spreads():
    drawn = [
        jitter_of("nightly", at("2026-01-01") + day * 86_400 * SECOND, 100) for day in range(1000)
    ]
    assert min(drawn) < 5 and max(drawn) > 95
    assert 45 < sum(drawn) / 1000 < 55


# -- what becomes of ticks -------------------------------------------------------------------------

NOW = at("2026-11-21T10:00:00")


def row(**values: Any) -> ScheduleRow:
    given: dict[str, Any] = {
        "name": "s",
        "orchestrator": "o",
        "input": "[[], {}]",
        "canvas": None,
        "queue": None,
        "cron": None,
        "every": 10 * SECOND,
        "timezone": "UTC",
        "anchor_at": NOW - 1000 * SECOND,
        "overlap": "skip",
        "catch_up": 60 * SECOND,
        "jitter": 0,
        "is_paused": False,
        "reason": None,
        "next_at": NOW,
        "waiting_at": None,
        "last_at": None,
        "last_id": "s@0",
        "skipped": 0,
        "check_at": NOW,
        "revision": 1,
        "created_at": 1,
        "updated_at": 1,
    }
    return ScheduleRow(**{**given, **values})


def ago(*seconds: int) -> list[int]:
    return [NOW - second * SECOND for second in seconds]


def decided(is_running: bool = False, **values: Any) -> tuple[list[int], int | None, int, bool]:
    move = next_move(row(**values), NOW, is_running=is_running)
    assert move.next_at == NOW + 10 * SECOND
    return move.starts, move.waiting_at, move.skipped, move.cancels_last


@pytest.mark.parametrize(
    ("overlap", "is_running", "expected"),
    [
        ("skip", False, (ago(0), None, 0, False)),
        ("skip", True, ([], None, 1, False)),
        ("buffer", False, (ago(0), None, 0, False)),
        ("buffer", True, ([], NOW, 0, False)),
        ("cancel", False, (ago(0), None, 0, False)),
        ("cancel", True, (ago(0), None, 0, True)),
        ("allow", False, (ago(0), None, 0, False)),
        ("allow", True, (ago(0), None, 0, False)),
    ],
)
def test_one_tick(overlap, is_running, expected):
    assert decided(is_running, overlap=overlap) == expected


@pytest.mark.parametrize(
    ("overlap", "is_running", "expected"),
    [
        ("skip", False, (ago(20), None, 2, False)),
        ("skip", True, ([], None, 3, False)),
        ("buffer", False, (ago(20), NOW - 10 * SECOND, 1, False)),
        ("buffer", True, ([], NOW - 20 * SECOND, 2, False)),
        ("cancel", False, (ago(0), None, 2, False)),
        ("cancel", True, (ago(0), None, 2, True)),
        ("allow", True, (ago(20, 10, 0), None, 0, False)),
    ],
)
def test_several_ticks_at_once(overlap, is_running, expected):
    assert decided(is_running, overlap=overlap, next_at=NOW - 20 * SECOND) == expected


def test_a_tick_that_waits_comes_first():
    waits = {"overlap": "buffer", "waiting_at": NOW - 300 * SECOND}
    assert decided(True, **waits) == ([], NOW - 300 * SECOND, 1, False)
    assert decided(False, **waits) == (ago(300), NOW, 0, False)
    still = next_move(row(next_at=NOW + 10 * SECOND, **waits), NOW, is_running=True)
    assert (still.starts, still.skipped, still.check_at) == ([], 0, NOW + SECOND)


def test_ticks_older_than_the_catch_up_are_passed_over():
    assert decided(overlap="allow", next_at=NOW - 500 * SECOND, catch_up=25 * SECOND)[0] == ago(
        20, 10, 0
    )
    assert decided(overlap="allow", next_at=NOW - 500 * SECOND, catch_up=20 * SECOND)[0] == ago(
        20, 10, 0
    )
    assert decided(overlap="allow", next_at=NOW - 10**9 * SECOND, catch_up=0)[0] == ago(10, 0)


def test_a_long_backlog_is_taken_in_portions():
    move = next_move(
        row(next_at=NOW - 5000 * SECOND, catch_up=5000 * SECOND, overlap="allow"),
        NOW,
        is_running=False,
    )
    assert move.starts == [NOW - second * SECOND for second in range(5000, 4000, -10)]
    assert move.check_at == move.next_at == NOW - 4000 * SECOND


def test_the_times_of_a_row():
    assert times_of(row()) == Every(NOW - 1000 * SECOND, 10 * SECOND)
    assert times_of(replace(row(), every=None, cron="* * * * *")) == CronTimes("* * * * *", "UTC")
