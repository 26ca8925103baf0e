"""What people and machines see of orchestrations from outside: metrics, traces, fields of log
records.

Nothing here is imported unless it is used: ``prometheus`` needs the extra ``[prometheus]``,
``tracing`` the extra ``[otel]``. The engine knows none of it; it tells an observer
(``engine.observers``) what was committed.
"""
