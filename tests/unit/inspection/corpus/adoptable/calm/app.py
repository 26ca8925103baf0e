"""An application in which there is nothing to look at."""

from celery import Celery

from celery_durable import Durable

app = Celery(
    "calm", broker="amqp://", backend="rpc://", include=["calm.tasks"], set_as_current=False
)
app.conf.update(
    task_acks_late=True,  # durable: ignore
    task_always_eager=False,
    durable_backend_url="sqlite:///calm.db",
    accept_content=["json"],
)
durable = Durable(app)
