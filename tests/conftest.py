"""What all tests share: a Kubernetes API server, started by the first test that asks for `cluster`, and the profiles of
hypothesis, chosen by HYPOTHESIS_PROFILE.

`default` draws the same examples each time, so that a change is judged by what it does and not by luck; `thorough` draws many,
new ones each time. No profile keeps a database: a failing example is printed with the line that repeats it.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from hypothesis import HealthCheck, configuration, settings

from tests.cluster.fixtures import cluster

# What hypothesis keeps between runs stays outside of the repository.
configuration.set_hypothesis_home_dir(Path(tempfile.gettempdir()) / "occopus-hypothesis")
_COMMON = settings(deadline=None, database=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("default", _COMMON, max_examples=200, derandomize=True)
settings.register_profile("thorough", _COMMON, max_examples=5000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))

__all__ = ["cluster"]
