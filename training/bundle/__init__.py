# SPDX-License-Identifier: Apache-2.0
"""A run as a bundle for the robot."""
