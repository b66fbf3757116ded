# SPDX-License-Identifier: Apache-2.0
"""Names the action in front of a robot, whichever of its sensors still work."""

__version__ = "0.1.0"
