# SPDX-License-Identifier: Apache-2.0
"""Subcommands of `karmma` that need the training extra."""
