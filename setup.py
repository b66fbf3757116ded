# SPDX-License-Identifier: Apache-2.0
"""Builds the package: `colcon build` on a robot, `pip install -e .` in a checkout.

The robot side is `karmma_ros/`; `training/` is imported as `karmma_training` and needs the extra of the same name, and
`benchmarks/` as `karmma_benchmarks`.
"""

import sys
from pathlib import Path

from setuptools import find_packages, setup

NAME = "karmma_ros"
SHARED_FOLDERS = ("launch", "config", "models")


def shared_files() -> list[tuple[str, list[str]]]:
    """Every file below the shared folders, each going to the same place below share/karmma_ros."""
    files: dict[str, list[str]] = {}
    for folder in SHARED_FOLDERS:
        for path in sorted(Path(folder).rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts and not path.name.startswith("."):
                files.setdefault(f"share/{NAME}/{path.parent.as_posix()}", []).append(path.as_posix())
    return sorted(files.items())


def data_files() -> list[tuple[str, list[str]]]:
    """What ROS looks up by package name."""
    if "editable_wheel" in sys.argv:  # `pip install -e`: read from the checkout, where a copy would go stale
        return []
    return [
        ("share/ament_index/resource_index/packages", [f"resource/{NAME}"]),
        (f"share/{NAME}", ["package.xml"]),
        *shared_files(),
    ]


setup(
    name=NAME,
    version="0.1.0",
    description="Names the action in front of a robot, whichever of its camera, optical flow and sound still work",
    author="karmma_ros maintainers",
    maintainer="karmma_ros maintainers",
    maintainer_email="maintainers@karmma-ros.example.org",
    license="Apache-2.0",
    packages=[
        *find_packages(include=[NAME, f"{NAME}.*"]),
        "karmma_training",
        *(f"karmma_training.{package}" for package in find_packages("training")),
        "karmma_benchmarks",
    ],
    package_dir={"karmma_training": "training", "karmma_benchmarks": "benchmarks"},
    data_files=data_files(),
    python_requires=">=3.11",
    install_requires=[
        "setuptools",
        "numpy>=1.26,<3",
        "opencv-python-headless>=4.6,<6",
        "PyYAML>=6",
        "av>=11",
        "rich>=13",
    ],
    extras_require={
        "cpu": ["onnxruntime>=1.18,<2"],
        "gpu": ["onnxruntime-gpu[cuda,cudnn]>=1.21,<2"],
        "bags": ["rosbags>=0.11,<0.12"],
        "microphone": ["sounddevice>=0.4.6"],
        "training": ["torch>=2.5", "accelerate>=1", "tensorboard>=2.16", "onnx>=1.16", "onnxscript", "matplotlib"],
        "backbones": ["timm>=1", "torchvision>=0.20", "transformers>=4.45"],
        "datasets": ["h5py>=3"],
        "test": ["pytest>=8", "pytest-timeout", "hypothesis"],
    },
    zip_safe=False,
    entry_points={
        "console_scripts": [
            f"action_node = {NAME}.nodes.action_node:main",
            f"microphone_node = {NAME}.nodes.microphone_node:main",
            f"flow_node = {NAME}.nodes.flow_node:main",
            f"overlay_node = {NAME}.nodes.overlay_node:main",
            f"wait_active = {NAME}.nodes.wait_active:main",
            f"karmma = {NAME}.cli.main:main",
        ],
    },
)
