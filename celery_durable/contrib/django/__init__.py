"""Durable orchestrations in a Django project: one line in ``INSTALLED_APPS``.

The tables are made by ``manage.py migrate``; the store is one of ``DATABASES``, by its alias
(``CELERY_DURABLE_BACKEND_URL = "django://default"``); what is started inside ``atomic()`` commits
or rolls back with the view's own rows.
"""

from ...versions import demand

demand("django")
