"""Payload: the kernel suite, once for each set of probes that the environment names, separated by spaces."""

from __future__ import annotations

import os
import traceback

from inside import report  # type: ignore[import-not-found]  # put beside the payload by the harness
from suite import run  # type: ignore[import-not-found]


def main() -> None:
    """Report the result of each run under the probes it was made without; ``-`` means all probes."""
    for probes in os.environ["SUITE_PROBES_OFF"].split():
        off = () if probes == "-" else tuple(probes.split(","))
        try:
            report(**{probes: run(off)})
        except Exception:  # noqa: BLE001 - the test wants to see it, whatever it is
            report(**{probes: {"error": traceback.format_exc()}})


if __name__ == "__main__":
    main()
