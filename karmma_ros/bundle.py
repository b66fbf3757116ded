# SPDX-License-Identifier: Apache-2.0
"""A bundle on disk: a folder with graphs, a manifest that describes them, and hashes that tie the two together.

Loading is strict: it reads the manifest and the graphs it names, which must lie in the same folder, and nothing else.
A folder whose files are all links into one other folder (`colcon build --symlink-install` makes such) counts as that
folder.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from karmma_ros.errors import BundleError
from karmma_ros.files import write_json
from karmma_ros.manifest import (
    MAX_BYTES,
    SCHEMA,
    GraphSpec,
    Manifest,
    ModalitySpec,
    decode_manifest,
    parse_manifest,
)
from karmma_ros.share import share_folders

__all__ = [
    "MANIFEST",
    "SCHEMA",
    "Bundle",
    "ModalitySpec",
    "find_bundle",
    "load_bundle",
    "read_evaluation",
    "sha256",
    "write_manifest",
]

MANIFEST = "bundle.json"
_EVALUATION = "evaluation.json"
_MAX_GRAPH_BYTES = 2**31 - 1  # an ONNX file cannot be larger


@dataclass(frozen=True)
class Bundle(Manifest):
    """A loaded manifest and the folder it lies in."""

    folder: Path  # real path, links resolved

    def read_graph(self, spec: GraphSpec) -> bytes:
        """A graph's bytes, checked against the manifest's hash: what is hashed is what is run.

        :raises BundleError: missing, outside the folder, too large, or not the file that the manifest was made for.
        """
        data = _read_file(self.folder, spec.graph, _MAX_GRAPH_BYTES)
        if sha256(data) != spec.sha256:
            raise BundleError(
                f"{self.folder / spec.graph}: its SHA-256 is not the manifest's: copy or export the bundle again"
            )
        return data


def sha256(data: bytes) -> str:
    """SHA-256 as the manifest writes it: 64 lower-case hex digits."""
    return hashlib.sha256(data).hexdigest()


def load_bundle(name_or_path: str | os.PathLike[str]) -> Bundle:
    """Finds a bundle, reads its manifest and checks the hash of every graph.

    Whether the graphs do what the manifest says is for `runtime.Engine` to try.

    :raises BundleError: anything is missing, damaged or not as it should be.
    """
    folder = find_bundle(name_or_path)
    # Where the manifest really is, is where the bundle is.
    manifest_path = folder / MANIFEST
    real = Path(os.path.realpath(manifest_path)).parent
    where = str(manifest_path)
    manifest = parse_manifest(decode_manifest(_read_file(real, MANIFEST, MAX_BYTES), where), where)
    bundle = Bundle(**vars(manifest), folder=real)
    for spec in (*bundle.modalities.values(), bundle.fusion):
        bundle.read_graph(spec)
    return bundle


def read_evaluation(folder: Path) -> dict[str, Any]:
    """What the exporter measured: a bundle's evaluation.json; empty where it has none, or none that can be trusted."""
    try:
        value = decode_manifest(_read_file(Path(os.path.realpath(folder)), _EVALUATION, MAX_BYTES), _EVALUATION)
        json.dumps(value, allow_nan=False)  # 1e999 is infinite too
    except (BundleError, ValueError):
        return {}
    return value


def find_bundle(name_or_path: str | os.PathLike[str]) -> Path:
    """The folder of a bundle given by path, or by name.

    A name is looked for in the files that come with the package (checkout or share folder, `models/NAME`), then in the
    user's data folder (`$XDG_DATA_HOME/karmma/models`, by default `~/.local/share/karmma/models`). It is a path when it
    contains a separator or names a folder here that has a manifest.

    :raises BundleError: there is none; the message lists the bundles there are.
    """
    text = os.fspath(name_or_path)
    path = Path(text).expanduser()
    if not isinstance(name_or_path, str) or len(Path(text).parts) != 1 or os.sep in text or text.startswith((".", "~")):
        if (path / MANIFEST).is_file():
            return path
        raise BundleError(f"{path}: no bundle here ({MANIFEST} is missing): give a bundle's folder or its name")
    if (path / MANIFEST).is_file():
        return path
    if re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", text):
        for home in _homes():
            if (home / text / MANIFEST).is_file():
                return home / text
    known = sorted({found.parent.name for home in _homes() if home.is_dir() for found in home.glob(f"*/{MANIFEST}")})
    names = ", ".join(known) if known else "none installed"
    raise BundleError(f"no bundle named {text!r}: known are: {names}; or give the path of a bundle's folder")


def _homes() -> Iterator[Path]:
    for folder in share_folders():
        yield folder / "models"
    data = os.environ.get("XDG_DATA_HOME") or ""
    # The XDG specification has relative paths ignored.
    yield (Path(data) if os.path.isabs(data) else Path.home() / ".local" / "share") / "karmma" / "models"


def write_manifest(folder: str | os.PathLike[str], manifest: Mapping[str, Any]) -> Path:
    """Writes `bundle.json` into a folder that already has the graphs, whole or not at all.

    :param manifest: the manifest as a plain dict, `schema` and hashes included.
    :return: the file's path.
    :raises BundleError: the manifest would not load.
    :raises OSError: it cannot be written.
    """
    path = Path(folder) / MANIFEST
    parsed = Bundle(**vars(parse_manifest(manifest, str(path))), folder=Path(os.path.realpath(folder)))
    for spec in (*parsed.modalities.values(), parsed.fusion):
        parsed.read_graph(spec)
    write_json(path, manifest)
    return path


def _read_file(folder: Path, name: str, most: int) -> bytes:
    """Bytes of a regular file of at most `most` bytes that really lies in `folder` (a real path)."""
    path = folder / name
    if os.path.dirname(os.path.realpath(path)) != str(folder):
        raise BundleError(f"{path}: leads out of the bundle's folder: a bundle must hold its files itself")
    try:
        # Without O_NONBLOCK, opening a named pipe would wait for ever.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | getattr(os, "O_NONBLOCK", 0))
        with os.fdopen(descriptor, "rb") as file:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise BundleError(f"{path}: not a regular file")
            if status.st_size > most:
                raise BundleError(f"{path}: {status.st_size} bytes, at most {most} are allowed")
            return file.read(most + 1)[:most]
    except FileNotFoundError:
        raise BundleError(f"{path}: missing: copy or export the bundle again") from None
    except OSError as error:
        raise BundleError(f"{path}: cannot be read ({error.strerror})") from None
