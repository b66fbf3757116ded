# SPDX-License-Identifier: Apache-2.0
"""placeholder"""
class ManifestSource:
    def __init__(self, *a): pass
