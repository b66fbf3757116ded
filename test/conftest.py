# SPDX-License-Identifier: Apache-2.0
"""Fixtures that all tests share live in test/fixtures/, one file per subject; every `*.py` there is a pytest plugin.

No folder below test/ gets an `__init__.py`: `test/packaging` and `test/launch` would then hide the packages of these
names.
"""

import signal
from pathlib import Path

from hypothesis import settings

pytest_plugins = [f"fixtures.{path.stem}" for path in sorted((Path(__file__).parent / "fixtures").glob("[!_]*.py"))]

# How long an example takes is the machine's business. `make test` takes the same ones every time; new ones are for
# `make test-all`, which says --hypothesis-profile=new.
settings.register_profile("same", deadline=None, derandomize=True, database=None)
settings.register_profile("new", deadline=None)
settings.load_profile("same")

# A shell starts what it puts in the background with SIGINT ignored, and children inherit that: tests that press Ctrl-C
# on a child would wait forever. A handler of our own is back to the default in every child.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
