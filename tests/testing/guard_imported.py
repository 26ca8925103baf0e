"""What an orchestrator imports when it gets there: a module that looks around as it is imported."""

import os
import time
from pathlib import Path

HERE = Path(__file__).read_text()
NOW = time.time()
HOME = os.environ.get("HOME")
