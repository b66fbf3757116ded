# SPDX-License-Identifier: Apache-2.0
"""A long run of the real node under a storm of failing sensors, and the verdict on it.

Three kinds of processes around the node (unchanged, as on a robot): the sensors, which are killed now and then; a
subscriber that never reads; and the soak itself, which listens, changes parameters and watches the node's resources.
"""
