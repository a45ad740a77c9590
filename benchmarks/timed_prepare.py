"""Runs ``prepare`` once and says as JSON how long it took, imports apart.

What ``prepare`` imports late, Beam, its local runner and the drawing of the report, is
imported first. The one argument is a JSON object of the arguments of ``prepare``.
"""

from __future__ import annotations

import json
import sys
import time

import apache_beam.runners.portability.fn_api_runner.fn_runner  # noqa: F401
import matplotlib.style  # noqa: F401

import adaptiverec.pipeline.driver
import adaptiverec.pipeline.report  # noqa: F401
from adaptiverec.pipeline import prepare


def main() -> None:
    """Runs it."""
    begin = time.perf_counter()
    metadata = prepare(**json.loads(sys.argv[1]))
    seconds = time.perf_counter() - begin
    kept = ("counts", "num_users", "num_items", "fingerprint")
    print(json.dumps({"seconds": seconds, **{key: metadata[key] for key in kept}}))


if __name__ == "__main__":
    main()
