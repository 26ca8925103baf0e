"""Internal. Turns, verbs and recovery, written against small protocols: no SQL, no Celery."""
