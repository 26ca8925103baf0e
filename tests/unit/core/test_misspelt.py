from __future__ import annotations

import pytest

from celery_durable.core.misspelt import near_names, which_is_meant

NAMES = ["shop.refund", "shop.fulfil", "depot.fulfil", "shop.fulfill"]


def test_a_name_of_which_the_end_was_given_comes_before_one_that_is_spelt_like_it() -> None:
    assert near_names("fulfil", NAMES, 4) == ("shop.fulfil", "depot.fulfil", "shop.fulfill")
    assert near_names("fulfil", ["fulfill", "shop.fulfil"]) == ("shop.fulfil",)


def test_no_more_are_named_than_asked_for_and_none_twice() -> None:
    assert near_names("fulfil", NAMES, 2) == ("shop.fulfil", "depot.fulfil")
    assert near_names("shop.fulfi", NAMES) == ("shop.fulfil",)


@pytest.mark.parametrize(("likeness", "found"), [(0.6, ("shop.refund",)), (1, ())])
def test_what_is_only_spelt_alike_has_to_be_as_near_as_is_said(
    likeness: float, found: tuple[str, ...]
) -> None:
    assert near_names("shop.refnud", NAMES, likeness=likeness) == found
    assert near_names("refund", NAMES, likeness=1) == ("shop.refund",)


def test_the_question_has_the_form_of_what_was_given_and_is_empty_where_nothing_is_near() -> None:
    assert which_is_meant("shop.refnud", NAMES) == "Is 'shop.refund' meant?"
    assert which_is_meant("qeue", ["queue"], "{}=") == "Is queue= meant?"
    assert which_is_meant("nothing like it", NAMES) == ""
