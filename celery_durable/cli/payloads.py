"""How payloads are kept: reencrypt, payloads; and what ``doctor`` says of it."""

from __future__ import annotations

from itertools import islice
from typing import Any

import click

from ..errors import ConfigurationError
from ..store import sql_store
from .entry import command
from .output import report

__all__ = ["check_payloads", "payloads", "reencrypt"]

_DAY = 86_400.0
_BATCH = 500


@click.command()
@command
def reencrypt(durable: Any) -> None:
    """Encrypt everything in the store again with the first key of durable_codec: after a new key
    was put in front everywhere, or when there is a codec for the first time. May be interrupted and
    run again, and while workers run.
    """
    from ..store.reencoding import reencode

    changed = sum(reencode(sql_store(durable.runtime.store).database))
    click.echo(f"{changed} values were encrypted again")


@click.command()
@click.option("--prune", is_flag=True, help="Delete those that no row has known for a day.")
@command
def payloads(durable: Any, prune: bool) -> None:
    """Tell how many payloads lie in durable_payload_store, and how many of them no row knows: those
    of transactions that were rolled back.
    """
    from ..store.sweeping import abandoned

    store = sql_store(durable.runtime.store)
    large = None if store.database.vault is None else store.database.vault.large
    if large is None:
        raise ConfigurationError("durable_payload_store is not set: all payloads are in the store")
    keys = getattr(large, "keys", None)
    if keys is None:
        raise ConfigurationError(f"{large!r} has no keys(prefix), and cannot tell what it has")
    found = list(keys(f"{store.id}/"))
    unknown = abandoned(store.database, found, _DAY)
    number = 0
    while part := list(islice(unknown, _BATCH)):
        number += len(part)
        if prune:
            large.delete(part)
    what = "were deleted" if prune else "are to be deleted with --prune"
    report(f"{len(found)} payloads; {number} of them have been without a row for a day and {what}")


def check_payloads(durable: Any) -> str:
    """Return how payloads are kept.

    Raises:
        StoreError: what the settings name does not work here.
    """
    vault = sql_store(durable.runtime.store).database.vault
    if vault is None:
        return "in the database, as they are"
    probe = b'"celery-durable"'
    if vault.decoded(vault.encoded(probe)) != probe:
        raise RuntimeError("durable_codec does not decode what it has encoded")
    found = ["in the database, as they are" if vault.codec is None else f"by {vault.codec!r}"]
    if vault.large is not None:
        key = f"{durable.runtime.store.id}/doctor"
        vault.large.write(key, probe)
        vault.large.read(key)
        vault.large.delete([key])
        found.append(f"above {vault.large.above:,} bytes in {vault.large!r}")
    return "; ".join(found)
