# SPDX-License-Identifier: Apache-2.0
"""Fixtures that all tests share live in test/fixtures/, one file per subject; every `*.py` there is a pytest plugin.

No folder below test/ gets an `__init__.py`: `test/packaging` and `test/launch` would then hide the packages of these
names.
"""

from pathlib import Path

pytest_plugins = [f"fixtures.{path.stem}" for path in sorted((Path(__file__).parent / "fixtures").glob("[!_]*.py"))]
