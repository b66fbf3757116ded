# SPDX-License-Identifier: Apache-2.0
"""Fixtures that all tests share live in test/fixtures/, one file per subject; every `*.py` there is a pytest plugin.

No folder below test/ gets an `__init__.py`: `test/packaging` and `test/launch` would then hide the packages of these
names.
"""

import signal
from pathlib import Path

from hypothesis import settings

pytest_plugins = [f"fixtures.{path.stem}" for path in sorted((Path(__file__).parent / "fixtures").glob("[!_]*.py"))]

# How long an example takes is the machine's business.
settings.register_profile("karmma", deadline=None)
settings.load_profile("karmma")

# A shell starts what it puts in the background with SIGINT ignored, and children inherit that: tests that press Ctrl-C
# on a child would wait forever. A handler of our own is back to the default in every child.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
