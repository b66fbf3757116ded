# SPDX-License-Identifier: Apache-2.0
"""Systems against each other over several seeds, and the document that says how they did."""
