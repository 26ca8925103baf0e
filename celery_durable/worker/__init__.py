"""The Celery glue: everything here speaks to Celery and kombu, nothing here speaks to the store."""
