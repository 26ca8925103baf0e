"""Every row of the contract, with every code in it."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from urllib.parse import quote

import pytest

from celery_durable import RuntimeStatus
from celery_durable import azure as df
from tests.conftest import wait_until

from .client import ORIGIN, Client
from .conftest import Shop

BASE = "/durable"
MOUNT = f"{ORIGIN}/durable"
TERMINAL = ["Completed", "Failed", "Canceled", "Terminated"]
LIVE = ["Running", "Pending", "Suspended"]
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")


def check_addresses(body: dict[str, str], id_: str) -> None:
    url = f"{MOUNT}/instances/{quote(id_, safe='')}"
    assert body == {
        "id": id_,
        "statusQueryGetUri": url,
        "sendEventPostUri": url + "/raiseEvent/{eventName}",
        "terminatePostUri": url + "/terminate?reason={text}",
        "purgeHistoryDeleteUri": url,
        "restartPostUri": url + "/restart",
        "suspendPostUri": url + "/suspend",
        "resumePostUri": url + "/resume",
        "rewindPostUri": url + "/rewind",
    }


# -- start -----------------------------------------------------------------------------------------


def test_start_tells_where_to_look(client: Client, shop: Shop) -> None:
    answer = client.post(f"{BASE}/orchestrators/http.sale", {"n": 1})
    id_ = answer.json["id"]
    assert answer.status == 202
    check_addresses(answer.json, id_)
    assert answer.headers["location"] == answer.json["statusQueryGetUri"]
    assert answer.headers["retry-after"] == "10"
    assert answer.headers["content-type"] == "application/json"
    assert shop.durable.get(id_).output == ["charged order", {"n": 1}]


def test_start_under_an_id_starts_once(client: Client, shop: Shop) -> None:
    for order in ("a", "b"):
        answer = client.post(f"{BASE}/orchestrators/http.sale/order-1", order)
        assert answer.status == 202
        check_addresses(answer.json, "order-1")
    assert shop.durable.get("order-1").output == ["charged a", "a"]
    assert shop.durable.count() == 1


def test_an_id_of_another_orchestrator_is_a_conflict(client: Client, shop: Shop) -> None:
    shop.start("a", "taken")
    answer = client.post(f"{BASE}/orchestrators/http.returns/taken")
    assert (answer.status, answer.json["field"]) == (409, "instanceId")
    assert shop.durable.get("taken").name == "http.sale"


def test_a_start_that_waits_answers_the_output_as_it_is(client: Client) -> None:
    answer = client.post(f"{BASE}/orchestrators/http.sale?timeout=20&pollingInterval=0.1", "x")
    assert (answer.status, answer.json) == (200, ["charged x", "x"])
    assert "location" not in answer.headers


@pytest.mark.parametrize(
    ("query", "order"),
    [
        ("timeout=0.05&pollingInterval=0.01", "wait"),
        ("timeout=20&pollingInterval=1", "bad"),
        ("timeout=20", "x"),
        ("pollingInterval=1", "x"),
        ("timeout=0&pollingInterval=0", "wait"),
    ],
    ids=["too short", "it fails", "no interval", "no time-out", "no time"],
)
def test_a_start_that_does_not_see_the_completion_answers_202(
    client: Client, query: str, order: str
) -> None:
    answer = client.post(f"{BASE}/orchestrators/http.sale?{query}", order)
    assert answer.status == 202
    check_addresses(answer.json, answer.json["id"])


def test_a_run_gets_its_time_out(client: Client, shop: Shop) -> None:
    answer = client.post(f"{BASE}/orchestrators/http.sale/limited?runTimeout=3600", "wait")
    assert answer.status == 202
    run = shop.durable.get("limited")
    assert abs((run.deadline - run.created_at).total_seconds() - 3600) < 60
    refused = client.post(f"{BASE}/orchestrators/http.sale?runTimeout=0", "wait")
    assert (refused.status, refused.json["field"]) == (400, "runTimeout")


def test_waits_are_bounded(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("celery_durable.http.starting.LONGEST_WAIT", 0.05)
    assert (
        client.post(f"{BASE}/orchestrators/http.sale?timeout=1e9&pollingInterval=1", "wait").status
        == 202
    )


@pytest.mark.parametrize(
    ("name", "body", "field"),
    [
        ("http.sale", b"{", "body"),
        ("http.sale", b"\xff", "body"),
        ("http.sale", b"NaN", "body"),
        ("http.sale", b"[" * 50_000, "body"),
        ("http.sale", b"1" * 9000, "body"),
        ("http.nothing", b"1", "name"),
        ("http.charge", b"1", "name"),
        ("celery_durable.canvas", b"1", "name"),
        ("celery_durable.entity.Visits", b"1", "name"),
        ("http.strict", b"1", "body"),
        ("http.strict", b"", "body"),
        ("http.sale/" + "x" * 151, b"1", "instanceId"),
        ("http.sale/a%00b", b"1", "instanceId"),
        ("http.sale/@Visits@a", b"1", "instanceId"),
        ("http.sale?timeout=soon", b"1", "timeout"),
        ("http.sale?timeout=-1", b"1", "timeout"),
        ("http.sale?pollingInterval=nan", b"1", "pollingInterval"),
        ("http.sale?timeOut=1", b"1", "timeOut"),
        ("http.sale?timeout=1&timeout=2", b"1", "timeout"),
    ],
)
def test_a_bad_start_is_400_and_starts_nothing(
    client: Client, shop: Shop, name: str, body: bytes, field: str
) -> None:
    answer = client.post(f"{BASE}/orchestrators/{name}", raw=body)
    assert (answer.status, answer.json["field"]) == (400, field)
    assert answer.json["message"]
    assert shop.durable.count() == 0


def test_a_body_of_another_type_is_400(client: Client, shop: Shop) -> None:
    answer = client.post(
        f"{BASE}/orchestrators/http.sale",
        raw=b"a=1",
        CONTENT_TYPE="application/x-www-form-urlencoded",
    )
    assert (answer.status, answer.json["field"]) == (400, "body")
    assert (
        client.post(
            f"{BASE}/orchestrators/http.sale",
            raw=b"1",
            CONTENT_TYPE="application/cloudevents+json; a=b",
        ).status
        == 202
    )
    assert shop.durable.count() == 1


# -- status ----------------------------------------------------------------------------------------


def test_status_of_each_kind(client: Client, shop: Shop) -> None:
    for word, run in shop.one_of_each().items():
        answer = client.get(f"{BASE}/instances/{run.id}")
        assert answer.status == (202 if word in LIVE else 200), word
        body = answer.json
        assert list(body) == [
            "name",
            "instanceId",
            "runtimeStatus",
            "input",
            "customStatus",
            "output",
            "createdTime",
            "lastUpdatedTime",
        ]
        assert (body["name"], body["instanceId"], body["runtimeStatus"]) == (
            "http.sale",
            run.id,
            word,
        )
        assert TIME.fullmatch(body["createdTime"])
        assert TIME.fullmatch(body["lastUpdatedTime"])
        if word in LIVE:
            assert answer.headers["location"] == f"{MOUNT}/instances/{run.id}"
            assert answer.headers["retry-after"] == "5"
        else:
            assert not {"location", "retry-after"} & set(answer.headers)
    done, failed = (client.get(f"{BASE}/instances/{id_}").json for id_ in ("completed", "failed"))
    assert (done["input"], done["output"], done["customStatus"]) == (
        "done",
        ["charged done", "done"],
        {"done": 1, "of": 2},
    )
    assert (failed["input"], failed["output"]) == ("bad", "'no such card'")


def test_the_place_to_ask_again_is_the_same_address(client: Client, shop: Shop) -> None:
    shop.start("wait", "w 1")
    answer = client.get(f"{BASE}/instances/w%201?showInput=false")
    assert (answer.status, answer.json["input"]) == (202, None)
    assert answer.headers["location"] == f"{MOUNT}/instances/w%201?showInput=false"


def test_a_failure_is_500_if_that_is_wanted(client: Client, shop: Shop) -> None:
    shop.one_of_each()
    for word in LIVE + TERMINAL:
        answer = client.get(
            f"{BASE}/instances/{word.lower()}?returnInternalServerErrorOnFailure=true"
        )
        assert answer.status == (500 if word == "Failed" else 202 if word in LIVE else 200), word
        assert answer.json["runtimeStatus"] == word


def test_unknown_instances_are_404(client: Client, shop: Shop) -> None:
    shop.durable.entity("Visits", "a").signal.add(1)
    for id_ in ("unknown", "x" * 151, "a%00b", "@Visits@a"):
        assert client.get(f"{BASE}/instances/{id_}").status == 404, id_
        assert "message" in client.get(f"{BASE}/instances/{id_}").json


@pytest.mark.parametrize(
    "name", ["showHistory", "showHistoryOutput", "showInput", "returnInternalServerErrorOnFailure"]
)
def test_flags_are_true_or_false(client: Client, shop: Shop, name: str) -> None:
    shop.start("x", "i")
    assert client.get(f"{BASE}/instances/i?{name}=TRUE").status == 200
    answer = client.get(f"{BASE}/instances/i?{name}=maybe")
    assert (answer.status, answer.json["field"]) == (400, name)


def test_history_is_shown_when_asked_for(client: Client, shop: Shop) -> None:
    shop.start("wait", "i").raise_event("approved", {"by": "ada"})
    wait_until(lambda: shop.durable.get("i").runtime_status is RuntimeStatus.COMPLETED)
    assert "historyEvents" not in client.get(f"{BASE}/instances/i").json
    events = client.get(f"{BASE}/instances/i?showHistory=true").json["historyEvents"]
    kinds = [event["EventType"] for event in events]
    assert kinds[0] == "ExecutionStarted"
    assert kinds[-1] == "ExecutionCompleted"
    assert {"TaskScheduled", "TaskCompleted", "EventRaised"} < set(kinds)
    assert not any("Result" in event for event in events)
    assert events[0]["FunctionName"] == "http.sale"
    full = client.get(f"{BASE}/instances/i?showHistory=true&showHistoryOutput=true").json[
        "historyEvents"
    ]
    by_kind = {event["EventType"]: event for event in full}
    assert by_kind["TaskCompleted"]["FunctionName"] == "http.charge"
    assert by_kind["TaskCompleted"]["Result"] == "charged wait"
    assert TIME.fullmatch(by_kind["TaskCompleted"]["ScheduledTime"])
    assert all(TIME.fullmatch(event["Timestamp"]) for event in full)
    assert by_kind["ExecutionCompleted"]["OrchestrationStatus"] == "Completed"
    assert (by_kind["EventRaised"]["Name"], by_kind["EventRaised"]["Input"]) == (
        "approved",
        {"by": "ada"},
    )
    hidden = client.get(f"{BASE}/instances/i?showHistory=true&showInput=false").json[
        "historyEvents"
    ]
    assert "ada" not in str(hidden)


def test_an_output_that_json_cannot_hold_is_shown(client: Client, shop: Shop) -> None:
    shop.start(None, "i", name="http.returns")
    assert client.get(f"{BASE}/instances/i").json["output"] == {
        "nan": None,
        "text": "ü",
        "list": [1, None],
    }


def test_several_arguments_are_all_shown(client: Client, shop: Shop) -> None:
    shop.durable.start(
        shop.app.signature("http.strict", args=(1,), kwargs={"b": 2}), instance_id="i"
    )
    assert client.get(f"{BASE}/instances/i").json["input"] == {"args": [1], "kwargs": {"b": 2}}


# -- lists -----------------------------------------------------------------------------------------


def test_a_list_is_filtered(client: Client, shop: Shop) -> None:
    shop.one_of_each()
    shop.durable.entity("Visits", "a").signal.add(1)

    def ids(query: str = "") -> list[str]:
        answer = client.get(f"{BASE}/instances?{query}")
        assert answer.status == 200
        assert "x-ms-continuation-token" not in answer.headers
        return sorted(body["instanceId"] for body in answer.json)

    everything = sorted(word.lower() for word in LIVE + TERMINAL)
    assert ids() == everything
    assert ids("runtimeStatus=Running,failed") == ["failed", "running"]
    assert ids("runtimeStatus=Running&runtimeStatus=Failed") == ["failed", "running"]
    assert ids("runtimeStatus=ContinuedAsNew") == []
    assert ids("instanceIdPrefix=p") == ["pending"]
    assert ids("instanceIdPrefix=@") == []
    assert ids("createdTimeTo=2001-01-01T00:00:00Z") == []
    assert ids("createdTimeFrom=2001-01-01T00:00:00%2B02:00&createdTimeTo=2999-01-01") == everything
    assert ids("createdTimeFrom=2001-01-01T00:00:00+02:00") == everything
    assert ids("code=key&taskHub=hub&_=17") == everything
    created = shop.durable.get("running").created_at.isoformat()
    assert ids(f"createdTimeFrom={quote(created)}&createdTimeTo={quote(created)}") == ["running"]


def test_a_list_has_status_bodies(client: Client, shop: Shop) -> None:
    shop.start("x", "i")
    (body,) = client.get(f"{BASE}/instances").json
    assert body == client.get(f"{BASE}/instances/i").json
    assert body["input"] == "x"
    assert client.get(f"{BASE}/instances?showInput=false").json[0]["input"] is None


def test_a_list_comes_in_pages(client: Client, shop: Shop) -> None:
    for number in range(5):
        shop.start("x", f"i{number}")
    seen, token = [], ""
    while True:
        answer = client.get(f"{BASE}/instances?top=2", headers={"x-ms-continuation-token": token})
        assert len(answer.json) <= 2
        seen += [body["instanceId"] for body in answer.json]
        if not (token := answer.headers.get("x-ms-continuation-token", "")):
            break
    assert seen == ["i4", "i3", "i2", "i1", "i0"]
    assert len(client.get(f"{BASE}/instances?top=999999999").json) == 5


def test_a_list_with_large_payloads_stays_of_bounded_size(client: Client, shop: Shop) -> None:
    shop.durable.runtime.codec._limit = 300_000
    for number in range(120):
        shop.start("x" * 200_000, f"i{number:03}")
    seen, token = [], ""
    while True:
        answer = client.get(
            f"{BASE}/instances?top=1000", headers={"x-ms-continuation-token": token}
        )
        assert len(answer.body) < 20_000_000  # 50 more than what is enough
        seen += [body["instanceId"] for body in answer.json]
        if not (token := answer.headers.get("x-ms-continuation-token", "")):
            break
    assert seen == [f"i{number:03}" for number in reversed(range(120))]
    assert len(client.get(f"{BASE}/instances?top=70").json) == 50  # more than eight million bytes
    assert len(client.get(f"{BASE}/instances?top=110&showInput=false").json) == 110


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("top=0", "top"),
        ("top=-1", "top"),
        ("top=x", "top"),
        ("top=%C2%B2", "top"),
        ("runtimeStatus=Done", "runtimeStatus"),
        ("createdTimeFrom=yesterday", "createdTimeFrom"),
        ("createdTimeTo=9", "createdTimeTo"),
        ("createdTimeFrom=0001-01-01T00:00:00%2B14:00", "createdTimeFrom"),
        ("showInput=1", "showInput"),
        ("runtimeStatuses=Failed", "runtimeStatuses"),
    ],
)
def test_a_list_refuses_what_it_cannot_read(client: Client, query: str, field: str) -> None:
    answer = client.get(f"{BASE}/instances?{query}")
    assert (answer.status, answer.json["field"]) == (400, field)


@pytest.mark.parametrize("path", ["instances", "entities", "entities/Visits"])
@pytest.mark.parametrize("token", ["x", "====", "\xff"])
def test_a_token_that_no_list_gave_is_400(client: Client, path: str, token: str) -> None:
    answer = client.get(f"{BASE}/{path}", headers={"x-ms-continuation-token": token})
    assert (answer.status, answer.json["field"]) == (400, "x-ms-continuation-token")


def test_a_query_that_is_none_is_400(client: Client) -> None:
    assert client.get(f"{BASE}/instances?instanceIdPrefix=%FF").status == 400
    assert client.get(f"{BASE}/instances?" + "&".join(f"a{n}=1" for n in range(200))).status == 400


# -- deleting --------------------------------------------------------------------------------------


def test_purge_deletes_what_is_over(client: Client, shop: Shop) -> None:
    shop.one_of_each()
    for word in TERMINAL:
        answer = client.delete(f"{BASE}/instances/{word.lower()}")
        assert (answer.status, answer.json) == (200, {"instancesDeleted": 1})
        assert client.delete(f"{BASE}/instances/{word.lower()}").status == 404
    for word in LIVE:
        answer = client.delete(f"{BASE}/instances/{word.lower()}")
        assert answer.status == 404
        assert word.upper() in answer.json["message"]
    assert shop.durable.count() == len(LIVE)


def test_purge_many(client: Client, shop: Shop) -> None:
    shop.one_of_each()
    since = "createdTimeFrom=2001-01-01T00:00:00Z"
    assert (
        client.delete(f"{BASE}/instances?{since}&createdTimeTo=2002-01-01T00:00:00Z").status == 404
    )
    assert client.delete(f"{BASE}/instances?{since}&runtimeStatus=Running,Pending").status == 404
    assert client.delete(f"{BASE}/instances?{since}&runtimeStatus=ContinuedAsNew").status == 404
    assert shop.durable.count() == 7
    answer = client.delete(f"{BASE}/instances?{since}&runtimeStatus=Failed,Running")
    assert (answer.status, answer.json) == (200, {"instancesDeleted": 1})
    answer = client.delete(f"{BASE}/instances?{since}")
    assert (answer.status, answer.json) == (200, {"instancesDeleted": 3})
    assert client.delete(f"{BASE}/instances?{since}").status == 404
    assert shop.durable.count() == len(LIVE)


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("", "createdTimeFrom"),
        ("createdTimeFrom=", "createdTimeFrom"),
        ("createdTimeTo=2999-01-01", "createdTimeFrom"),
        ("createdTimeFrom=x", "createdTimeFrom"),
        ("createdTimeFrom=2001-01-01&runtimeStatuses=Failed", "runtimeStatuses"),
        ("createdTimeFrom=2001-01-01&createdTimeUntil=2001-01-02", "createdTimeUntil"),
        ("createdTimeFrom=2001-01-01&runtimeStatus=Fialed", "runtimeStatus"),
    ],
)
def test_purge_many_refuses_what_may_be_a_slip(
    client: Client, shop: Shop, query: str, field: str
) -> None:
    shop.start("x", "i")
    answer = client.delete(f"{BASE}/instances?{query}")
    assert (answer.status, answer.json["field"]) == (400, field)
    assert shop.durable.count() == 1


# -- events and verbs ------------------------------------------------------------------------------


def test_an_event_arrives(client: Client, shop: Shop) -> None:
    shop.start("wait", "i")
    answer = client.post(f"{BASE}/instances/i/raiseEvent/approved?code=key", {"by": "ada"})
    assert (answer.status, answer.body) == (202, b"")
    wait_until(lambda: shop.durable.get("i").output == ["charged wait", {"by": "ada"}])


def test_an_event_for_all_that_match(client: Client, shop: Shop) -> None:
    for id_ in ("i1", "i2", "other"):
        shop.start("wait", id_)
    url = f"{BASE}/events/approved?runtimeStatus=Running&instanceIdPrefix=i"
    first = client.post(url, {"by": "ada"})
    assert (first.status, first.json["instancesMatched"], first.json["eventsRaised"]) == (202, 2, 2)
    for id_ in ("i1", "i2"):
        wait_until(lambda id_=id_: shop.durable.get(id_).output == ["charged wait", {"by": "ada"}])
    assert shop.durable.get("other").runtime_status == "RUNNING"
    live = "?runtimeStatus=Running,Pending"
    nothing = client.post(f"{BASE}/events/approved{live}&tag=a=1&tag=b=2&eventId=e1")
    assert nothing.json == {"eventId": "e1", "instancesMatched": 0, "eventsRaised": 0}
    for query, field in (
        ("", "runtimeStatus"),
        (f"{live}&tag=x", "tag"),
        (f"{live}&instanceId=i", "instanceId"),
    ):
        answer = client.post(f"{BASE}/events/approved{query}")
        assert (answer.status, answer.json.get("field")) == (400, field)


def test_an_event_needs_no_payload(client: Client, shop: Shop) -> None:
    shop.start("wait", "i")
    assert client.post(f"{BASE}/instances/i/raiseEvent/approved").status == 202
    wait_until(lambda: shop.durable.get("i").output == ["charged wait", None])


def test_events_and_verbs_by_status(client: Client, shop: Shop) -> None:
    shop.one_of_each()
    for verb in ("raiseEvent/other", "suspend?reason=x", "resume?reason=x", "terminate?reason=x"):
        for word in TERMINAL:
            answer = client.post(f"{BASE}/instances/{word.lower()}/{verb}")
            assert answer.status == 410, (word, verb)
            assert word.upper() in answer.json["message"]
            assert shop.durable.get(word.lower()).runtime_status == word.upper()
        assert client.post(f"{BASE}/instances/unknown/{verb}").status == 404
    for verb in ("raiseEvent/other", "suspend", "resume", "terminate"):
        for word in LIVE:
            assert client.post(f"{BASE}/instances/{word.lower()}/{verb}").status == 202, (
                word,
                verb,
            )


@pytest.mark.parametrize("body", [b"{", b"\x80", b"Infinity"])
def test_a_bad_event_is_400(client: Client, shop: Shop, body: bytes) -> None:
    shop.start("wait", "i")
    assert client.post(f"{BASE}/instances/i/raiseEvent/approved", raw=body).status == 400
    assert client.post(f"{BASE}/instances/i/raiseEvent/a%00b").status == 400
    assert client.post(f"{BASE}/instances/i/raiseEvent/celery_durable.entity").status == 400
    assert shop.durable.get("i").runtime_status is RuntimeStatus.RUNNING
    assert not [event for event in shop.durable.get("i").history() if event.kind == "EventRaised"]


@pytest.mark.parametrize("verb", ["suspend", "resume", "terminate"])
@pytest.mark.parametrize(
    ("reason", "kept"), [("?reason=why", "why (by ada, over HTTP)"), ("", "by ada, over HTTP")]
)
def test_who_used_a_verb_is_kept_where_the_server_knows(
    client: Client, shop: Shop, verb: str, reason: str, kept: str, caplog: pytest.LogCaptureFixture
) -> None:
    run = shop.start("wait", "i")
    if verb == "resume":
        run.suspend()
    with caplog.at_level("INFO", "celery_durable.http"):
        assert (
            client.call("POST", f"{BASE}/instances/i/{verb}{reason}", REMOTE_USER="ada").status
            == 202
        )
    run.refresh()
    facts = [
        event.facts["reason"]
        for event in run.history()
        if event.facts and event.facts.get("reason")
    ]
    assert kept in (run.reason, *facts)
    assert f"ada: POST instances/i/{verb} was answered 202" in caplog.text


def test_verbs_do_what_they_say_with_their_reason(client: Client, shop: Shop) -> None:
    run = shop.start("wait", "i")
    for verb, status in (
        ("suspend", "SUSPENDED"),
        ("resume", "RUNNING"),
        ("terminate", "TERMINATED"),
    ):
        answer = client.post(f"{BASE}/instances/i/{verb}?reason=because%20of%20{verb}")
        assert (answer.status, answer.body) == (202, b"")
        assert run.refresh().runtime_status == status
    assert run.reason == "because of terminate"
    assert "because of suspend" in str(run.history())


def test_rewind(client: Client, shop: Shop) -> None:
    shop.one_of_each()
    for word in ("Completed", "Canceled", "Terminated"):
        assert client.post(f"{BASE}/instances/{word.lower()}/rewind").status == 410
    for word in LIVE:
        assert client.post(f"{BASE}/instances/{word.lower()}/rewind").status == 400
    assert client.post(f"{BASE}/instances/unknown/rewind").status == 404
    shop.is_broken = False
    assert client.post(f"{BASE}/instances/failed/rewind?reason=mended").status == 202
    wait_until(lambda: shop.durable.get("failed").output == ["charged bad", "bad"])


def test_restart(client: Client, shop: Shop) -> None:
    shop.start("x", "i")
    shop.start("wait", "w")
    client.post(f"{BASE}/entities/Visits/a?op=add", 1)
    answer = client.post(f"{BASE}/instances/i/restart")
    assert answer.status == 202
    check_addresses(answer.json, answer.json["id"])
    assert answer.json["id"] != "i"
    assert answer.headers["location"] == answer.json["statusQueryGetUri"]
    assert shop.durable.get(answer.json["id"]).output == ["charged x", "x"]
    assert shop.durable.count() == 3
    same = client.post(f"{BASE}/instances/i/restart?restartWithNewInstanceId=false")
    assert (same.status, same.json["id"]) == (202, "i")
    assert shop.durable.count() == 3
    for path in (
        "unknown/restart",
        "w/restart?restartWithNewInstanceId=false",
        "i/restart?restartWithNewInstanceId=x",
        "@Visits@a/restart",
        "a%00b/restart",
        "x" * 151 + "/restart",
    ):
        assert client.post(f"{BASE}/instances/{path}").status == 400, path
    assert shop.durable.count() == 3
    assert [run.id for run in shop.durable.find(name="celery_durable.entity.Visits").items] == [
        "@Visits@a"
    ]


# -- entities --------------------------------------------------------------------------------------


def test_entities(client: Client, shop: Shop) -> None:
    assert client.get(f"{BASE}/entities").json == []
    assert client.get(f"{BASE}/entities/Visits/a%2Fb").status == 404
    for body in (3, None):
        answer = client.post(f"{BASE}/entities/Visits/a%2Fb?op=add", body)
        assert (answer.status, answer.body) == (202, b"")
    wait_until(lambda: client.get(f"{BASE}/entities/Visits/a%2Fb").status == 200)
    wait_until(lambda: client.get(f"{BASE}/entities/Visits/a%2Fb").json == {"value": 4})
    for path in ("entities", "entities/Visits"):
        (body,) = client.get(f"{BASE}/{path}").json
        assert body["entityId"] == {"name": "Visits", "key": "a/b"}
        assert TIME.fullmatch(body["lastOperationTime"])
        assert "state" not in body
        assert client.get(f"{BASE}/{path}?fetchState=true").json[0]["state"] == {"value": 4}
    assert client.get(f"{BASE}/entities/Other").json == []
    later = quote((datetime.now(UTC) + timedelta(hours=1)).isoformat())
    assert client.get(f"{BASE}/entities?lastOperationTimeFrom={later}").json == []
    assert len(client.get(f"{BASE}/entities?lastOperationTimeTo={later}").json) == 1
    assert client.delete(f"{BASE}/entities/Visits/a%2Fb").status == 202
    assert client.get(f"{BASE}/entities/Visits/a%2Fb").status == 404
    assert client.delete(f"{BASE}/entities/Visits/never").status == 202
    assert client.post(f"{BASE}/entities/Visits/a%2Fb?op=add").status == 202
    wait_until(lambda: shop.durable.entity("Visits", "a/b").state() == {"value": 1})


def test_entities_come_in_pages(client: Client, shop: Shop) -> None:
    for key in "abc":
        shop.durable.entity("Visits", key).signal.add(1)
    first = client.get(f"{BASE}/entities/Visits?top=2")
    rest = client.get(
        f"{BASE}/entities/Visits?top=2",
        headers={"x-ms-continuation-token": first.headers["x-ms-continuation-token"]},
    )
    assert [body["entityId"]["key"] for body in first.json + rest.json] == ["c", "b", "a"]
    assert "x-ms-continuation-token" not in rest.headers


@pytest.mark.parametrize(
    ("path", "body", "code"),
    [
        ("Visits/a", b"1", 400),
        ("Visits/a?op=", b"1", 400),
        ("Visits/a?op=_send", b'{"unlock": "x"}', 400),
        ("Visits/a?op=__class__", b"1", 400),
        ("Visits/a?op=a%20b", b"1", 400),
        ("Visits/a?op=add", b"{", 400),
        ("Visits/a?op=add&reason=x", b"1", 400),
        ("Nothing/a?op=add", b"1", 404),
        ("1/a?op=add", b"1", 404),
        ("Visits/" + "x" * 150 + "?op=add", b"1", 404),
    ],
)
def test_a_bad_signal_makes_no_entity(
    client: Client, shop: Shop, path: str, body: bytes, code: int
) -> None:
    answer = client.post(f"{BASE}/entities/{path}", raw=body)
    assert answer.status == code
    assert answer.json["message"]
    assert shop.durable.entities().items == []


def test_entities_of_azure_show_the_value_that_they_keep(client: Client, shop: Shop) -> None:
    @df.DFApp(shop.durable).entity_trigger(context_name="context", entity_name="Tally")
    def tally(context: df.DurableEntityContext) -> None:
        context.set_state(context.get_input())

    assert client.post(f"{BASE}/entities/Tally/a?op=set", 7).status == 202
    wait_until(lambda: client.get(f"{BASE}/entities/Tally/a").status == 200)
    assert client.get(f"{BASE}/entities/Tally/a").json == 7
    (listed,) = client.get(f"{BASE}/entities/Tally?fetchState=true").json
    assert listed["state"] == 7
    assert client.post(f"{BASE}/entities/Tally/a?op=set").status == 202
    wait_until(lambda: client.get(f"{BASE}/entities/Tally/a").status == 404)
