"""Tasks."""

import time
from datetime import UTC, datetime, timedelta

import celery
from celery import Task, chain, chord, group, shared_task
from celery.exceptions import Ignore, Reject
from celery.result import AsyncResult
from celery.signals import before_task_publish, task_prerun

from .app import app


class Visit:
    status = "PENDING"

    def save(self): ...


@task_prerun.connect  # adopt: signals
def note(task_id, **kwargs): ...


@before_task_publish.connect  # adopt: signals
def stamp(headers, **kwargs): ...


@app.task
def book(number):
    visit = Visit()
    if visit.status != "PENDING":  # adopt: status-guard
        return
    visit.status = "BOOKED"
    visit.save()


@shared_task
def bill(number):
    visit = Visit()
    if visit.status in ("BILLED", "CANCELED"):  # adopt: status-guard
        print("done already")
        return None
    visit.status = "BILLED"


@app.task(ignore_result=True)  # adopt: ignored-result
def price(number):
    return 3


@app.task(bind=True, acks_late=True)  # adopt: acks
def follow(self, booking_id):
    if AsyncResult(booking_id).state != "SUCCESS":  # adopt: status-check
        raise self.retry(countdown=30)
    if app.AsyncResult(booking_id).ready():  # adopt: status-check
        raise Ignore()  # adopt: ignore-reject
    result = book.delay(1)
    while not result.ready():  # adopt: status-check
        time.sleep(1)
    return result.get()  # adopt: waits-in-task


@app.task
def collect(numbers):
    found = group(book.s(n) for n in numbers).apply_async()  # adopt: canvas-keeps
    return found.join(), bill.delay(1).get(timeout=3)  # adopt: waits-in-task # adopt: waits-in-task


@app.task(bind=True)
def grow(self, numbers):
    self.add_to_chord(book.s(1))  # adopt: replace
    raise self.replace(group(book.s(n) for n in numbers))  # adopt: replace # adopt: canvas-keeps


class Export(Task):
    name = "clinic.tasks.export"

    def run(self, number):
        if number < 0:
            raise Reject("no", requeue=False)  # adopt: ignore-reject
        return self.replace(book.si(number))  # adopt: replace


app.register_task(Export())


@app.task(serializer="pickle")
def picture(number): ...


@app.task(bind=True, default_retry_delay=10_000)  # adopt: long-countdown
def slow(self, number):
    raise self.retry(countdown=60 * 60 * 3)  # adopt: long-countdown


@app.task
def summarise(results): ...


def start(number):
    chain(book.s(number), bill.si(number), picture.si(1)).apply_async(task_id=f"visit-{number}")  # adopt: canvas # adopt: task-id
    chord([price.s(1), price.s(2)])(summarise.s())  # adopt: canvas
    chord(group(price.s(n) for n in range(3)), summarise.s()).delay()  # adopt: canvas
    (book.s(1) | group(bill.si(1), bill.si(2)) | summarise.s()).delay()  # adopt: canvas
    celery.chain(*[book.si(n) for n in range(number)]).delay()  # adopt: canvas
    (book.s(1) | bill.si(1)).delay()  # adopt: canvas-keeps
    first = book.s(1)
    whole = first | bill.si(1) | picture.si(1)  # adopt: canvas
    whole.delay()
    app.send_task("other", task_id=f"other-{number}")  # adopt: task-id
    book.s(1).set(task_id="mine").delay()  # adopt: task-id
    bill.apply_async((1,), serializer="pickle")  # adopt: pickle


def later(number):
    book.apply_async((number,), eta=datetime.now(UTC) + timedelta(days=3))  # adopt: long-countdown
    book.apply_async((number,), countdown=60 * 60 * 24)  # adopt: long-countdown
    book.apply_async((number,), countdown=int(timedelta(hours=5).total_seconds()))  # adopt: long-countdown
    book.apply_async((number,), countdown=5)  # adopt: countdown
    book.apply_async((number,), eta=Visit.due)  # adopt: countdown
