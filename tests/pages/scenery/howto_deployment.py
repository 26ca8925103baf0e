"""What the page on deployment takes for granted: nothing."""

import celery.signals


def prove(names):
    assert celery.signals.worker_ready.receivers
