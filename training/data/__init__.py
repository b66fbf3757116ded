# SPDX-License-Identifier: Apache-2.0
"""Recordings -> sample store -> windows, drawn as the robot sees them."""
