# SPDX-License-Identifier: Apache-2.0
"""What the figures in the documents come from; imported as karmma_benchmarks, run by `karmma bench`."""
