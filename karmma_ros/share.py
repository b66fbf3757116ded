# SPDX-License-Identifier: Apache-2.0
"""Finds the files that come with the package (models/, config/, launch/), wherever it runs from.

There are three homes for them: a checkout (the folders lie beside the package), a colcon workspace and a system or
virtual environment prefix (both `<prefix>/share/karmma_ros`). ROS's own index answers only once a workspace has been
sourced, and the command line has to work without ROS, so this looks at where the code itself lies first.
"""

import os
from collections.abc import Iterator
from pathlib import Path

from karmma_ros.errors import KarmmaError

_PACKAGE = "karmma_ros"


def share_folders() -> Iterator[Path]:
    """Folders that may hold the package's files, best first; some may not exist."""
    here = Path(__file__).resolve()
    checkout = here.parents[1]
    if (checkout / "package.xml").is_file():
        yield checkout
    for parent in here.parents:  # <prefix>/lib/python3.x/site-packages/karmma_ros/share.py
        yield parent / "share" / _PACKAGE
    for prefix in os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep):
        if prefix:
            yield Path(prefix) / "share" / _PACKAGE


def share_path(relative: str) -> Path:
    """Absolute path of a file or folder that comes with the package, such as `config/fastdds.xml`.

    :raises KarmmaError: it is in none of the places.
    """
    for folder in share_folders():
        path = folder / relative
        if path.exists():
            return path
    raise KarmmaError(f"{relative} is missing from this installation of karmma_ros: build or install the package again")
