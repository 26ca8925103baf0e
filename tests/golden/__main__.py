"""Keep what the programs write and send now: ``python -m tests.golden [NAME ...]``.

Then look at the difference: each line of it is something that old workers, stored rows or messages
under way would meet.
"""

from __future__ import annotations

import logging
import sys
import tempfile
from pathlib import Path

from celery_durable.store.database import Database
from celery_durable.store.migrate import migrate

from .programs import PROGRAMS
from .stage import GoldenWorld, kept, text_of

logging.disable(logging.CRITICAL)
for program in PROGRAMS:
    if sys.argv[1:] and program.name not in sys.argv[1:]:
        continue
    with tempfile.TemporaryDirectory() as folder:
        url = f"sqlite:///{Path(folder) / 'golden.db'}"
        database = Database(url)
        migrate(database)
        database.dispose()
        world = GoldenWorld(url, program)
        world.run()
        for problem in world.problems:
            print(f"{program.name}: {problem}")  # noqa: T201
        kept(program).write_text(text_of(world.journal.steps), "utf-8")
        world.close()
        print(f"wrote {kept(program).name}: {len(world.journal.steps)} steps")  # noqa: T201
