# SPDX-License-Identifier: Apache-2.0
"""From a sound card to stamped chunks of samples; ROS is not needed."""
