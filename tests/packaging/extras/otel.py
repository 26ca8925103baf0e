"""An orchestration in a worker, traced as the documentation says.

The exporter writes its spans into the worker's log.
"""

import re

from beside import PATIENCE, wait_until, worker
from opentelemetry import trace

from shop import durable, pay, set_up_tracing

set_up_tracing()
with worker("shop") as log:
    durable.start(pay.s("42", 99)).wait(timeout=PATIENCE)
    wait_until(lambda: '"orchestration:' in log(), "the span of the orchestration")
    trace.get_tracer_provider().force_flush()
    print(*sorted(re.findall(r'"name": "(.*?)"', log())))
