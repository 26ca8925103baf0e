"""What the page on deployment takes for granted: nothing."""

import celery.signals


def check(names):
    assert celery.signals.worker_ready.receivers
