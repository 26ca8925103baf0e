"""Links for people: signed, expiring, used once, and harmless to open."""

from __future__ import annotations

import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from threading import Barrier
from typing import Any
from urllib.parse import urlsplit

import pytest

from celery_durable import InstanceNotFound, InvalidState, RuntimeStatus
from celery_durable.errors import ConfigurationError
from celery_durable.http import EventLinks, ItsDangerousSigner, application
from tests.conftest import wait_until

from .client import ORIGIN, Answer, Client
from .conftest import TOKENS, Shop

SECRET = "only for these tests"
FORM = "application/x-www-form-urlencoded"
CHOICES = {"Approve <it>": {"approved": True}, "Reject": {"approved": False}}


class Mail:
    """Makes links, and opens them as a person with a browser does; its clock can be moved."""

    def __init__(self, shop: Shop) -> None:
        self.shop = shop
        self.now = 1_000_000.0
        self.links = EventLinks(
            shop.durable, ItsDangerousSigner(SECRET), f"{ORIGIN}/durable/", clock=lambda: self.now
        )
        self.client = Client(application(shop.durable, TOKENS, prefix="durable", links=self.links))

    def link(
        self, id_: str = "i", event: str = "approved", choices: Any = CHOICES, **options: Any
    ) -> str:
        return self.links.signed_event_url(
            id_, event, choices, title="Ship order 7 & <8>?", **options
        )

    def open(self, link: str, method: str = "GET") -> Answer:
        return self.client.call(method, urlsplit(link).path)

    def answer(self, link: str, choice: Any = 0, raw: bytes | None = None) -> Answer:
        raw = f"choice={choice}".encode() if raw is None else raw
        return self.client.post(urlsplit(link).path, raw=raw, CONTENT_TYPE=FORM)

    def raised(self, id_: str = "i") -> list[Any]:
        return [
            event.name
            for event in self.shop.durable.get(id_).history()
            if event.kind == "EventRaised"
        ]


@pytest.fixture
def mail(shop: Shop) -> Mail:
    shop.start("wait", "i")
    return Mail(shop)


def is_closed(answer: Answer, status: int, told: str) -> bool:
    return answer.status == status and told in answer.text and "<form" not in answer.text


def test_opening_shows_a_form_and_changes_nothing(mail: Mail) -> None:
    link = mail.link()
    assert link.startswith(f"{ORIGIN}/durable/approvals/")
    for _ in range(3):
        page = mail.open(link)
        assert page.status == 200
    assert mail.open(link, "HEAD").body == b""
    assert mail.raised() == []
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert page.headers["cache-control"] == "no-store"
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert "<h1>Ship order 7 &amp; &lt;8&gt;?</h1>" in page.text
    assert '<button type="submit" name="choice" value="0">Approve &lt;it&gt;</button>' in page.text
    assert '<html lang="en">' in page.text
    assert not re.search(r"<script|<style|style=|\son\w+=", page.text)


def test_the_style_is_served(mail: Mail) -> None:
    found = re.search(r'<link rel="stylesheet" href="([^"]+)">', mail.open(mail.link()).text)
    assert found is not None
    style = mail.open(found[1])
    assert (style.status, style.headers["content-type"]) == (200, "text/css; charset=utf-8")
    assert "main {" in style.text


@pytest.mark.parametrize(("choice", "output"), [(0, {"approved": True}), (1, {"approved": False})])
def test_an_answer_is_an_event_once(mail: Mail, choice: int, output: Any) -> None:
    link = mail.link()
    page = mail.answer(link, choice)
    assert (page.status, "Thank you" in page.text) == (200, True)
    wait_until(lambda: mail.shop.durable.get("i").output == ["charged wait", output])
    for again in (mail.open(link), mail.answer(link, choice), mail.answer(link, 1 - choice)):
        assert is_closed(again, 410, "answered already")
    assert mail.raised() == ["approved"]


def test_an_answer_that_waits_for_its_turn_counts(mail: Mail) -> None:
    run = mail.shop.durable.get("i")
    run.suspend("later")
    link = mail.link()
    assert mail.answer(link, 1).status == 200
    assert is_closed(mail.answer(link, 0), 410, "answered already")
    run.resume()
    wait_until(lambda: mail.shop.durable.get("i").output == ["charged wait", {"approved": False}])


def test_many_answers_at_once_are_one(mail: Mail) -> None:
    link, barrier = mail.link(), Barrier(4)

    def press(choice: int) -> tuple[int, bool]:
        barrier.wait(300)
        page = mail.answer(link, choice % 2)
        return choice % 2, page.status == 200

    with ThreadPoolExecutor(4) as pool:
        told = [future.result(60) for future in [pool.submit(press, choice) for choice in range(4)]]
    output = wait_until(lambda: mail.shop.durable.get("i").output)
    winner = 0 if output == ["charged wait", {"approved": True}] else 1
    assert output == ["charged wait", {"approved": winner == 0}]
    assert mail.raised() == ["approved"]
    assert {choice for choice, was_recorded in told if was_recorded} == {winner}


def test_links_with_one_key_count_as_one(mail: Mail) -> None:
    one, same, other = mail.link(key="round 1"), mail.link(key="round 1"), mail.link(key="round 2")
    mail.shop.durable.get("i").suspend()
    assert one != mail.link(key="round 1", choices={"Yes": 1})
    assert mail.answer(one).status == 200
    assert is_closed(mail.answer(same, 1), 410, "answered already")
    assert mail.answer(other, 1).status == 200


def test_a_link_expires(mail: Mail) -> None:
    link = mail.link(max_age=timedelta(hours=1))
    mail.now += 3600
    assert mail.open(link).status == 200
    mail.now += 1
    for page in (mail.open(link), mail.answer(link)):
        assert is_closed(page, 410, "has expired")
    assert mail.raised() == []


@pytest.mark.parametrize(
    "forge",
    [
        lambda token: token[:-1],
        lambda token: token + "x",
        lambda token: token.swapcase(),
        lambda token: "x" + token,
        lambda token: "",
        lambda token: ".",
        lambda token: "%00",
        lambda token: "%F0%9F%98%80",
        lambda token: token.rpartition(".")[0],
        lambda token: token + "/x",
        lambda token: ItsDangerousSigner("another secret, as long").dumps([1, 2, 3]),
        lambda token: ItsDangerousSigner(SECRET).dumps({"other": "thing"}),
        lambda token: ItsDangerousSigner(SECRET).dumps([2] * 8),
    ],
    ids=range(13),
)
def test_a_forged_link_is_403(mail: Mail, forge: Callable[[str], str]) -> None:
    head, slash, token = mail.link().rpartition("/")
    forged = head + slash + forge(token)
    for page in (mail.open(forged), mail.answer(forged)):
        assert is_closed(page, 403, "not valid")
    assert mail.raised() == []


def test_a_link_to_what_has_ended_is_410(mail: Mail) -> None:
    link = mail.link()
    run = mail.shop.durable.get("i")
    run.terminate()
    for page in (mail.open(link), mail.answer(link)):
        assert is_closed(page, 410, "not asked any more")
    run.purge()
    for page in (mail.open(link), mail.answer(link)):
        assert is_closed(page, 410, "not asked any more")
    mail.shop.start("wait", "i")  # another life under the same id is not meant
    assert is_closed(mail.answer(link), 410, "not asked any more")
    assert mail.raised() == []


def test_a_link_does_not_outlive_its_execution(mail: Mail) -> None:
    mail.shop.start(None, "a", name="http.again")
    link = mail.link("a", choices={"Once more": "next"})
    assert mail.answer(link).status == 200
    wait_until(lambda: mail.shop.durable.get("a").input["args"] == [2])
    assert is_closed(mail.answer(link), 410, "not asked any more")
    assert mail.shop.durable.get("a").runtime_status is RuntimeStatus.RUNNING


def test_an_answer_does_not_reach_a_life_that_began_while_it_was_given(
    mail: Mail, monkeypatch: pytest.MonkeyPatch
) -> None:
    link, look = mail.link(), mail.links._closed

    def look_before_it_is_replaced(link: Any) -> Any:
        closed = look(link)
        sale = mail.shop.app.signature("http.sale", args=("wait",))
        mail.shop.durable.start(sale, instance_id="i", if_exists="replace")
        return closed

    monkeypatch.setattr(mail.links, "_closed", look_before_it_is_replaced)
    assert is_closed(mail.answer(link), 410, "not asked any more")
    assert mail.raised() == []
    assert mail.shop.durable.get("i").runtime_status is RuntimeStatus.RUNNING


def test_an_answer_to_what_ends_while_it_is_given_is_410(
    mail: Mail, monkeypatch: pytest.MonkeyPatch
) -> None:
    link, put = mail.link(), mail.shop.durable.runtime.store.inbox.put_into

    def put_when_it_is_over(*args: Any) -> Any:
        mail.shop.durable.get("i").terminate()
        return put(*args)

    monkeypatch.setattr(mail.shop.durable.runtime.store.inbox, "put_into", put_when_it_is_over)
    assert is_closed(mail.answer(link), 410, "not asked any more")
    assert mail.raised() == []


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"choice=",
        b"choice=2",
        b"choice=-1",
        b"choice=0&choice=1",
        b"choice=%30%30",
        b"other=0",
        b"choice=\xff",
        b"choice=\xc2\xb2",
        b'{"choice": 0}',
    ],
)
def test_an_answer_that_is_no_choice_is_400_and_asks_again(mail: Mail, raw: bytes) -> None:
    link = mail.link()
    page = mail.answer(link, raw=raw)
    assert page.status == 400
    assert page.text.count("<button") == 2
    assert mail.raised() == []
    assert mail.answer(link).status == 200


def test_a_large_answer_is_413(mail: Mail) -> None:
    assert mail.answer(mail.link(), raw=b"choice=0&x=" + b"x" * 70_000).status == 413
    assert mail.raised() == []


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "OPTIONS"])
def test_other_methods_are_405(mail: Mail, method: str) -> None:
    page = mail.open(mail.link(), method)
    assert (page.status, page.headers["allow"]) == (405, "GET, HEAD, POST")
    assert mail.raised() == []


def test_secrets_can_be_renewed(mail: Mail) -> None:
    link = mail.link()
    mail.links.signer = ItsDangerousSigner(SECRET, "the new one, and better")
    assert mail.open(link).status == 200
    renewed = mail.link()
    mail.links.signer = ItsDangerousSigner("the new one, and better")
    assert is_closed(mail.open(link), 403, "not valid")
    assert mail.answer(renewed).status == 200


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"id_": "unknown"}, InstanceNotFound),
        ({"choices": ["Approve"]}, TypeError),
        ({"choices": "Approve"}, TypeError),
        ({"max_age": "2d"}, TypeError),
        ({"choices": {}}, ValueError),
        ({"choices": {"": 1}}, ValueError),
        ({"max_age": 0}, ValueError),
        ({"max_age": timedelta(-1)}, ValueError),
        ({"event": "a\x00"}, ValueError),
        ({"event": "celery_durable.entity"}, ValueError),
        ({"id_": "done"}, InvalidState),
        (
            {
                "choices": {
                    f"choice {n}": {"value": n * 7919, "text": str(n * 104729)} for n in range(200)
                }
            },
            ValueError,
        ),
    ],
)
def test_a_link_that_could_not_be_used_is_not_made(
    mail: Mail, options: Any, error: type[Exception]
) -> None:
    mail.shop.start("x", "done")
    with pytest.raises(error):
        mail.link(**options)


def test_a_secret_that_is_short_is_refused() -> None:
    for secrets in ((), ("short",), (SECRET, "short")):
        with pytest.raises(ConfigurationError):
            ItsDangerousSigner(*secrets)
