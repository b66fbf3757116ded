# SPDX-License-Identifier: Apache-2.0
"""How networks learn: stage 0, losses, the training loop and what it writes."""
