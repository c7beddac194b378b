"""What a payload may use inside the guest to say its results."""

from __future__ import annotations

import json
import sys
from typing import Any


def report(**fields: Any) -> None:
    """One result: a line on the console that the harness reads."""
    sys.stdout.write(f"R> {json.dumps(fields)}\n")
    sys.stdout.flush()
