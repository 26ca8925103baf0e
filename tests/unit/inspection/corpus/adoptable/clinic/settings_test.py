"""Settings of tests."""

CELERY_TASK_ALWAYS_EAGER = True  # adopt: eager
