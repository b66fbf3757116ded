# SPDX-License-Identifier: Apache-2.0
"""Data sets: one interface (source.py), rendered scenes, anyone's own files, and the field's own data sets."""
