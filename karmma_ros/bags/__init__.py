# SPDX-License-Identifier: Apache-2.0
"""Recorded rosbags without ROS: read, checked, replayed through the core, and turned into training data."""
