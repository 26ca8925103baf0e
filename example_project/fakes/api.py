"""What both fake services have in common: an API key, JSON, and the faults of their transport."""

import functools
import json
from hmac import compare_digest

from django.http import JsonResponse
from django.views.decorators.csrf import csrf_exempt

from .models import Fault, be_slow, is_on


class Refusal(Exception):
    """The request cannot be served; carries the answer."""

    def __init__(self, status, code, message):
        super().__init__(message)
        self.response = JsonResponse({"error": code, "message": message}, status=status)


def service(name, key, methods):
    """Make a view an endpoint of a service: ``view(request, data, ...)`` returns (status, JSON)."""

    def decorate(view):
        @csrf_exempt  # no browser and no cookie: the API key is what counts
        @functools.wraps(view)
        def endpoint(request, *args, **kwargs):
            try:
                check(request, key(), methods)
                be_slow(name)
                if is_on(name, Fault.Kind.REFUSE):
                    raise Refusal(401, "unauthorized", "the API key is not valid any more")
                if is_on(name, Fault.Kind.DOWN):
                    raise Refusal(503, "unavailable", f"{name} is down")
                status, answer = view(request, body_of(request), *args, **kwargs)
            except Refusal as refusal:
                return refusal.response
            if request.method != "GET" and is_on(name, Fault.Kind.ERROR):
                return JsonResponse(
                    {"error": "internal", "message": "something went wrong"}, status=500
                )
            return JsonResponse(answer, status=status)

        return endpoint

    return decorate


def check(request, key, methods):
    if request.method not in methods:
        raise Refusal(405, "method_not_allowed", f"use {' or '.join(methods)}")
    if not compare_digest(
        request.headers.get("Authorization", "").encode(), f"Bearer {key}".encode()
    ):
        raise Refusal(401, "unauthorized", "the API key is missing or wrong")


def body_of(request):
    if request.method == "GET" or not request.body:
        return {}
    try:
        data = json.loads(request.body)
    except ValueError:
        raise Refusal(400, "bad_json", "the body is not JSON")
    if not isinstance(data, dict):
        raise Refusal(400, "bad_json", "the body is not a JSON object")
    return data


def text(data, name, longest=100):
    """Return a text of the body."""
    value = data.get(name)
    if not isinstance(value, str) or not 0 < len(value) <= longest:
        raise Refusal(400, "bad_field", f"{name} is a text of 1 to {longest} characters")
    return value


def number(data, name):
    """Return a positive whole number of the body."""
    value = data.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 < value < 2**31:
        raise Refusal(400, "bad_field", f"{name} is a positive whole number")
    return value
