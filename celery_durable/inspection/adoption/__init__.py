"""What to look at in a Celery application before it adopts this package: ``celery durable adopt``.

The application is imported and asked for its tasks, its configuration and the receivers of its
signals; the files of its packages are read as text. Nothing is run, sent or changed, and the
application need not know of this package.
"""
