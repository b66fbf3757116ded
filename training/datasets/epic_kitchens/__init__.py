# SPDX-License-Identifier: Apache-2.0
"""EPIC-KITCHENS-100 (Damen et al., IJCV 2022): annotations, files, the challenge's scores and submission."""
