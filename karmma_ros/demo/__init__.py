# SPDX-License-Identifier: Apache-2.0
"""The demo: a scene is played to the node over ROS 2 in real time while its sensors fail one after another.

Four processes: the node (unchanged, as on a robot), the player that publishes what the sensors would, a renderer that
works ahead of the player, and the demo itself, which listens, shows and records.
"""
