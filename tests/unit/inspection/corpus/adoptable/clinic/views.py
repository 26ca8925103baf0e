"""Views, as of Django."""

from functools import partial

from celery import shared_task
from celery.result import AsyncResult


class transaction:
    @staticmethod
    def on_commit(function): ...


@shared_task
def letter(number): ...


def view(number):
    transaction.on_commit(lambda: letter.delay(number))  # adopt: on-commit
    transaction.on_commit(partial(letter.apply_async, (number,)))  # adopt: on-commit
    letter.delay_on_commit(number)  # adopt: on-commit


def poll(task_id):
    found = AsyncResult(task_id)
    return {"state": found.state, "done": found.ready()}  # adopt: status-poll # adopt: status-poll
