"""A PostgreSQL store as it looks after a year: many orchestrations that are over, many that wait
for a far timer.
"""

from __future__ import annotations

from celery_durable.store import Store

FILL = [
    (
        "INSERT INTO durable_instances (id, execution, name, status, sequence, crashes, input,"
        " output, created_at, updated_at, completed_at) SELECT 'f' || n, md5('f' || n),"
        " 'shop.order', 'COMPLETED', 3, 0, '[]', '1', n, n, n FROM generate_series(1, {finished}) n"
    ),
    (
        "INSERT INTO durable_instances (id, execution, name, status, sequence, crashes, input,"
        " created_at, updated_at, is_lasting) SELECT 'w' || n, md5('w' || n), 'shop.order',"
        " 'RUNNING', 2, 0, '[]', {finished} + n, {finished} + n, TRUE FROM generate_series(1,"
        " {waiting}) n"
    ),
    (
        "UPDATE durable_meta SET value = CAST({finished} + {waiting} AS TEXT) WHERE name ="
        " 'listed_until'"
    ),
    (
        "INSERT INTO durable_history (instance, execution, sequence, events) SELECT 'f' || n,"
        " md5('f' || n), s, '[]' FROM generate_series(1, {finished}) n, generate_series(1, 3) s"
    ),
    (
        "INSERT INTO durable_history (instance, execution, sequence, events) SELECT 'w' || n,"
        " md5('w' || n), s, '[]' FROM generate_series(1, {waiting}) n, generate_series(1, 2) s"
    ),
    (
        "INSERT INTO durable_inbox (instance, dedup, kind, execution, command, attempt, visible_at,"
        " wake_at, check_at, sends) SELECT 'w' || n, 'timer:' || n, 'TimerFired', md5('w' || n), 1,"
        " 0, t, t, t - 30000000, 0 FROM (SELECT n, CAST(EXTRACT(EPOCH FROM now()) * 1000000 AS"
        " BIGINT) + 86400000000 + n AS t FROM generate_series(1, {waiting}) n) AS timers"
    ),
    (
        "INSERT INTO durable_outbox (execution, command, attempt, instance, kind, name, message,"
        " is_held, is_delegated, sends, sent_at, holder, check_at) SELECT md5('w' || n), 2, 1, 'w'"
        " || n, 'activity', 'shop.charge', '[]', FALSE, FALSE, 0, 1, CASE WHEN n % 60 = 0 THEN"
        " 'worker' || n % 50 END, NULL FROM generate_series(1, {waiting}) n"
    ),
    (
        "INSERT INTO durable_workers (id, hostname, started_at, last_seen) SELECT 'worker' || n,"
        " 'host', 1, CAST(EXTRACT(EPOCH FROM now()) * 1000000 AS BIGINT) FROM generate_series(0,"
        " 49) n"
    ),
    (
        "INSERT INTO durable_waiting (instance, execution, name, lane, precedence, ready_at,"
        " created_at, limits) SELECT 'q' || n, md5('q' || n), 'limited ' || n % 20, md5('lane' || n"
        " % 500), 0, CAST(EXTRACT(EPOCH FROM now()) * 1000000 AS BIGINT) + 86400000000 + n, 1, '[]'"
        " FROM generate_series(1, {waiting}) n"
    ),
    (
        "INSERT INTO durable_places (name, scope, instance) SELECT 'limited ' || n % 20, 'lane' ||"
        " n % 500, 'w' || n FROM generate_series(1, {waiting}) n"
    ),
    (
        "INSERT INTO durable_limits (name, looked_at) SELECT 'limited ' || n, 0 FROM"
        " generate_series(0, 2000) n"
    ),
    (
        "INSERT INTO durable_answers (instance, request, outcome, payload, answered_at) SELECT 'w'"
        " || n, md5('r' || n), 0, '1', CAST(EXTRACT(EPOCH FROM now()) * 1000000 AS BIGINT) + n FROM"
        " generate_series(1, {waiting}) n"
    ),
    (
        "INSERT INTO durable_audit (id, at, kind, target, verb, actor, door, effect) SELECT md5('a'"
        " || n), CAST(EXTRACT(EPOCH FROM now()) * 1000000 AS BIGINT) + n, 'orchestration', 'w' ||"
        " n, 'cancel', 'ann', 'cli', 'done' FROM generate_series(1, {waiting}) n"
    ),
    (
        "INSERT INTO durable_activity_waiting (execution, command, attempt, task, lane,"
        " precedence, ready_at, limits) SELECT md5('w' || n), 2, 1, 'shop.charge',"
        " md5('lane' || n % 500), 0, n, '[]' FROM"
        " generate_series(1, {waiting}) n"
    ),
    (
        "INSERT INTO durable_activity_places (execution, command, attempt, scope, permit) SELECT"
        " md5('w' || n), 2, 1, 'lane' || n % 20, '[]' FROM generate_series(1, 100) n"
    ),
    (
        "VACUUM ANALYZE durable_audit, durable_answers, durable_instances, durable_history, durable_inbox,"
        " durable_outbox, durable_workers, durable_waiting, durable_places, durable_limits,"
        " durable_activity_waiting, durable_activity_places"
    ),
]


def fill(store: Store, finished: int, waiting: int) -> None:
    """Insert that many of each, straight into the tables."""
    with store.database.cursor() as cursor:
        for sql in FILL:
            cursor.execute(sql.format(finished=finished, waiting=waiting))
