# SPDX-License-Identifier: Apache-2.0
"""Where a new bundle goes: what it may be called, and its folder, which appears whole, or replaces another whole."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from karmma_ros.bundle import MANIFEST
from karmma_ros.errors import UsageError
from karmma_ros.files import whole_folder

__all__ = ["bundle_name", "new_bundle"]


def bundle_name(name: str | None, out: Path) -> str:
    """The name given, or its folder's.

    :raises UsageError: it cannot name a bundle.
    """
    name = name or out.resolve().name
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", name):
        raise UsageError(f"{name!r} cannot name a bundle: use letters, digits, '.', '_' and '-'")
    return name


@contextmanager
def new_bundle(out: Path, *, replace: bool) -> Iterator[Path]:
    """A folder to write into, which is `out` once all went well.

    :param replace: whether a bundle that is there gives way.
    :raises UsageError: `out` is taken.
    """
    out = Path(os.path.realpath(out))  # a link stays one, and its target becomes the folder
    taken = out.exists() and (not out.is_dir() or any(out.iterdir()))
    if taken and not (replace and (out / MANIFEST).is_file()):
        hint = "--replace replaces a bundle" if not replace else "it is no bundle, so it is not replaced"
        raise UsageError(f"{out} exists: {hint}")
    fresh = out.with_name(f".{out.name}.new") if taken else out
    if taken:
        shutil.rmtree(fresh, ignore_errors=True)
    with whole_folder(fresh) as folder:
        yield folder
    if taken:
        old = out.with_name(f".{out.name}.old")
        shutil.rmtree(old, ignore_errors=True)  # of an export that was interrupted here
        os.replace(out, old)
        os.replace(fresh, out)
        shutil.rmtree(old)
