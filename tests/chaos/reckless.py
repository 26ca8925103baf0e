"""A broker that loses, doubles, delays and reorders messages, with given probabilities: Redis, told
to misbehave.

Its URL is ``reckless://`` with the rest of a Redis URL; the transport option ``reckless`` holds the
probabilities and a seed. Only messages for ordinary queues suffer, not those of Celery's remote
control.
"""

from __future__ import annotations

import copy
import os
import random
import threading
import uuid
from typing import Any

from kombu.transport import redis
from kombu.utils.json import dumps

_dice: dict[int, random.Random] = {}


def dice(seed: Any) -> random.Random:
    """Dice of this process's own; a child of a pool does not repeat what its sister throws."""
    pid = os.getpid()
    if pid not in _dice:
        _dice[pid] = random.Random(f"{seed}:{pid}")
    return _dice[pid]


class Channel(redis.Channel):
    def _put(self, queue: str, message: dict[str, Any], **kwargs: Any) -> None:
        options = self.connection.client.transport_options.get("reckless") or {}
        throw = dice(options.get("seed"))
        fate = throw.random()
        for name in ("drops", "doubles", "delays", "reorders"):
            share = options.get(name, 0)
            if fate < share:
                self._count(options, name)
                getattr(self, f"_{name}")(queue, message, throw, **kwargs)
                return
            fate -= share
        super()._put(queue, message, **kwargs)

    def _count(self, options: dict[str, Any], name: str) -> None:
        with open(f"{options['log']}", "a") as file:
            file.write(f"{name}\n")

    def _drops(
        self, queue: str, message: dict[str, Any], throw: random.Random, **kwargs: Any
    ) -> None:
        """The broker said that it has the message, and has it not."""

    def _doubles(
        self, queue: str, message: dict[str, Any], throw: random.Random, **kwargs: Any
    ) -> None:
        super()._put(queue, message, **kwargs)
        twin = copy.deepcopy(message)
        twin["properties"]["delivery_tag"] = str(uuid.uuid4())
        if throw.random() < 0.5:
            super()._put(queue, twin, **kwargs)
        else:
            self._later(queue, twin, throw.uniform(0.05, 3), **kwargs)

    def _delays(
        self, queue: str, message: dict[str, Any], throw: random.Random, **kwargs: Any
    ) -> None:
        self._later(queue, message, throw.uniform(0.05, 3), **kwargs)

    def _reorders(
        self, queue: str, message: dict[str, Any], throw: random.Random, **kwargs: Any
    ) -> None:
        """To the head of the queue, before what was there first."""
        with self.conn_or_acquire() as client:
            client.rpush(
                self._q_for_pri(queue, self._get_message_priority(message, reverse=False)),
                dumps(message),
            )

    def _later(self, queue: str, message: dict[str, Any], seconds: float, **kwargs: Any) -> None:
        key, body = (
            self._q_for_pri(queue, self._get_message_priority(message, reverse=False)),
            dumps(message),
        )

        def put() -> None:
            try:
                with self._create_client(asynchronous=False) as client:
                    client.lpush(key, body)
            except Exception:  # the process ends: the message is lost, which is allowed too
                pass

        timer = threading.Timer(seconds, put)
        timer.daemon = True
        timer.start()


class Transport(redis.Transport):
    Channel = Channel
