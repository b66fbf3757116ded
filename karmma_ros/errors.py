# SPDX-License-Identifier: Apache-2.0
"""Errors a user or a sensor can cause, each one clear line with its remedy.

The command line prints them on stderr and exits with 2; the node counts them and never dies of them. Mistakes of the
programmer stay ordinary Python exceptions (ValueError, TypeError), so that they are not mistaken for bad input.
"""

__all__ = ["BagError", "BundleError", "EngineError", "KarmmaError", "MediaError", "SampleError", "UsageError"]


class KarmmaError(Exception):
    """Base of every error that is not a bug of ours; `str(error)` is one line for the user."""


class BagError(KarmmaError):
    """A recording that cannot be read, or lacks what is asked of it."""


class BundleError(KarmmaError):
    """A bundle that is missing, damaged or not what its manifest says."""


class EngineError(KarmmaError):
    """ONNX Runtime cannot do what was asked: an execution provider that is absent, or a run that failed."""


class MediaError(KarmmaError):
    """A video or audio file that cannot be read or written."""


class UsageError(KarmmaError):
    """A command or a setting that makes no sense."""


class SampleError(KarmmaError):
    """One sample of a sensor that cannot be used.

    `cause` is a short phrase without numbers, the same for every sample with the same fault: counters and logging once
    per cause are keyed by it. `str(error)` is the cause followed by the particulars, if there are any.
    """

    def __init__(self, cause: str, detail: str = "") -> None:
        super().__init__(f"{cause}: {detail}" if detail else cause)
        self.cause = cause
        self.detail = detail
