"""``celery durable exporter``: metrics for Prometheus over HTTP, of the store and of the workers'
events.
"""

from __future__ import annotations

import threading
import time
from typing import Any

import click
from kombu.exceptions import OperationalError

from .entry import command

__all__ = ["exporter"]


@click.command()
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=9469,
    show_default=True,
    help="0 takes a free one.",
)
@click.option(
    "--host",
    default="127.0.0.1",
    show_default=True,
    help="Where to listen; 0.0.0.0 is everywhere. There is no login.",
)
@click.option(
    "--no-events",
    is_flag=True,
    help="Only what the store tells; do not listen to the workers' events.",
)
@click.option(
    "--otel",
    is_flag=True,
    help="Serve nothing, and give the metrics to OpenTelemetry's meter provider, as"
    " opentelemetry-instrument sets it up.",
)
@command
def exporter(durable: Any, port: int, host: str, no_events: bool, otel: bool) -> None:
    """Serve metrics for Prometheus under /metrics until interrupted."""
    if otel:
        _push(durable, listens=not no_events)
        return
    from ..telemetry.prometheus import (
        CollectorRegistry,
        EventMetrics,
        StoreCollector,
        start_http_server,
    )

    registry = CollectorRegistry()
    registry.register(StoreCollector(durable))
    try:
        server, thread = start_http_server(port, host, registry)
    except OSError as error:
        raise click.UsageError(f"cannot listen on {host}:{port}: {error}") from error
    click.echo(f"metrics on http://{host}:{server.server_port}/metrics", err=True)
    try:
        if no_events:
            thread.join()
        else:
            _receive(durable.app, EventMetrics(registry))
    except KeyboardInterrupt:
        pass
    finally:
        server.shutdown()
        server.server_close()


def _push(durable: Any, *, listens: bool) -> None:
    """Let OpenTelemetry collect the metrics until interrupted."""
    from ..telemetry.otel_metrics import OtelMetrics, is_provided

    if not is_provided():
        raise click.UsageError(
            "OpenTelemetry has no meter provider, so nothing would be sent: run this under"
            " opentelemetry-instrument, or set one where the application is made"
        )
    counted = OtelMetrics(durable)
    click.echo("metrics go to OpenTelemetry's meter provider", err=True)
    try:
        if listens:
            _receive(durable.app, counted)
        else:
            threading.Event().wait()
    except KeyboardInterrupt:
        pass


def _receive(app: Any, counted: Any) -> None:
    """Count events for ever; a broker that is away is waited for."""
    errors = (OSError, OperationalError, *app.connection_for_read().connection_errors)
    while True:
        try:
            with app.connection_for_read() as connection:
                app.events.Receiver(connection, handlers={"*": counted.receive}).capture()
        except errors as error:
            click.echo(f"events cannot be received, trying again: {error}", err=True)
            time.sleep(1.0)
