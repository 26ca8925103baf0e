"""An application with all that there is to look at: marked lines have to be found, and no others."""

from celery import Celery
from celery.schedules import crontab

app = Celery("clinic", broker="redis://localhost:6379/9", include=["clinic.tasks", "clinic.views"])  # adopt: no-results # adopt: at-least-once
app.conf.update(
    task_serializer="pickle",  # adopt: pickle
    accept_content=["pickle", "json"],  # adopt: pickle
    task_reject_on_worker_lost=True,  # adopt: acks
    broker_transport_options={"visibility_timeout": 7200},
)
app.conf.beat_schedule = {
    "find-due": {"task": "clinic.tasks.find_due", "schedule": 60.0},  # adopt: beat
    "nightly": {"task": "clinic.tasks.nightly", "schedule": crontab(hour=2, minute=0)},  # adopt: beat
}
CELERY_DURABLE_BACKEND_URL = "postgresql+psycopg://clinic"  # adopt: unread-setting
