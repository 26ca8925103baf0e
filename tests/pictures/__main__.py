"""Draw everything anew into the files that the tests compare with: ``python -m tests.pictures``,
then look at the difference.
"""

from __future__ import annotations

from tests.pictures.scenes import FILES

for path, draw in FILES.items():
    path.write_text(draw(), "utf-8")
    print(f"wrote {path}")
