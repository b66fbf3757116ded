# SPDX-License-Identifier: Apache-2.0
"""How good a model is, measured as the robot runs it, and what it costs."""
