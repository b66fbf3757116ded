# SPDX-License-Identifier: Apache-2.0
"""The networks: unimodal extractors, fusion block, heads, and the teacher and student made of them."""
