# SPDX-License-Identifier: Apache-2.0
"""Something-Something v2 (Goyal et al., ICCV 2017): labels, videos, and the detections that others made for it."""
