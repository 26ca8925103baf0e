"""What the command line prints is what other programs can read."""

from __future__ import annotations

import json
import math

import pytest

from celery_durable.cli.output import print_json


def test_json_output_holds_no_constant_that_json_does_not_know(
    capsys: pytest.CaptureFixture[str],
) -> None:
    print_json({"a": math.nan, "b": [math.inf, -math.inf, 1.5]})

    def refuse(name: str) -> None:
        raise AssertionError(name)

    told = json.loads(capsys.readouterr().out, parse_constant=refuse)
    assert told == {"a": "NaN", "b": ["Infinity", "-Infinity", 1.5]}
