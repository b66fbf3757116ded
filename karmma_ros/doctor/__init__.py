# SPDX-License-Identifier: Apache-2.0
"""What `karmma doctor` looks at: one module for each group of checks, each of which gives findings."""
