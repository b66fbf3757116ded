# SPDX-License-Identifier: Apache-2.0
"""Rendered first-person tabletop scenes with sound: data for training, tests and the demo, without a camera or torch.

A hand acts on one of a few objects on a table. What is done (verb) shows in motion, pose and rhythm; what it is done to
(noun) shows in shape and colour and is heard in the material's timbre. Two pairs of nouns look alike and differ only in
material; two pairs share a material and differ only in looks: no single sensor can name every action.
"""
