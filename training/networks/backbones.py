# SPDX-License-Identifier: Apache-2.0
"""Backbones by name, with their weights: `timm:NAME`, `torchvision:NAME`, `transformers:ID-OR-FOLDER`.

Each becomes a module (n, inputs, h, w) -> (n, c, h', w'); of clips (n, inputs, t, h, w) -> (n, c, t', h', w'). A first
convolution made for three channels is adapted to two (flow) or one (spectrogram). What was loaded, what was missing and
what was left over is told, never guessed.
"""

from __future__ import annotations

import difflib
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from karmma_ros.errors import UsageError
from karmma_training.networks.torchvision_import import import_torchvision

__all__ = ["FAMILIES", "Loaded", "NamedBackbone", "load_backbone_weights"]

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))  # mean and standard deviation of RGB in [0, 1]

SHOWN = 4  # names of tensors listed before "and n more"


@dataclass(frozen=True)
class Loaded:
    """What became of a checkpoint: names of tensors."""

    loaded: int
    missing: tuple[str, ...]  # the network has them, the checkpoint not: they keep their random values
    left_over: tuple[str, ...]  # the checkpoint has them, the network not
    reshaped: tuple[str, ...]  # of another shape: not loaded

    def __str__(self) -> str:
        parts = [f"{self.loaded} tensors loaded"]
        for what, names in (
            ("missing", self.missing),
            ("left over", self.left_over),
            ("of another shape", self.reshaped),
        ):
            more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
            parts.append(f"{len(names)} {what}" + (f" ({', '.join(names[:SHOWN])}{more})" if names else ""))
        return ", ".join(parts)


class NamedBackbone(nn.Module):
    """A library's network without its classifier.

    :param name: FAMILY:NAME.
    :param inputs: channels of the input; size: (height, width) of a picture, (frames, height, width) of a clip.
    :param weights: empty (random), `hub` (the library's own, downloaded or cached), or a file of tensors.
    :raises UsageError: unknown name, missing library, or weights that cannot be had.
    """

    def __init__(self, name: str, inputs: int, size: Sequence[int], weights: str) -> None:
        super().__init__()
        family, _, model = name.partition(":")
        if family not in FAMILIES or not model:
            raise UsageError(f"backbone {name!r}: expected one of {', '.join(f'{f}:NAME' for f in FAMILIES)}")
        try:
            self.network, self.report = FAMILIES[family](model, weights == "hub")
            if weights and weights != "hub":
                self.report = f"{weights}: {load_backbone_weights(self.network, Path(weights))}"
            if inputs != 3:
                _adapt_first_convolution(self.network, inputs)
            with torch.no_grad():
                shape = self.eval()(torch.zeros(1, inputs, *size)).shape
        except ImportError as error:
            raise UsageError(f"backbone {name}: {error}; pip install '.[backbones]' in the repository") from error
        except UsageError:
            raise
        except Exception as error:  # each library has its own kinds, and its own for hubs out of reach
            reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            hint = "; download the weights and name the file" if weights == "hub" else ""
            raise UsageError(f"backbone {name}, input {'x'.join(map(str, reversed(size)))}: {reason}{hint}") from error
        self.channels, self.cells = int(shape[1]), tuple(int(n) for n in shape[2:])
        mean, std = getattr(self.network, "statistics", IMAGENET)
        self.statistics = (list(mean), list(std))  # of RGB in [0, 1], in the pictures that the weights know
        self.train()

    def forward(self, x: Tensor) -> Tensor:
        """(n, inputs, [t,] h, w) -> (n, c, *cells); of a transformer's sequence, the cells are its length and 1"""
        y: Tensor = self.network(x)
        if y.ndim == 3:
            y = y.transpose(1, 2).unsqueeze(-1)
        return y


class _Last(nn.Module):
    """The last of a list of feature maps."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.network(x)[-1]
        return y


class _ChannelsSecond(nn.Module):
    """(n, t, h, w, c) -> (n, c, t, h, w)"""

    def forward(self, x: Tensor) -> Tensor:
        return x.movedim(-1, 1)


class _Hidden(nn.Module):
    """The last hidden state of a transformers model."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.network(pixel_values=x).last_hidden_state
        return y


def _timm(name: str, pretrained: bool) -> tuple[nn.Module, str]:
    import_torchvision()  # timm imports it
    import timm

    if not timm.is_model(name):
        close = difflib.get_close_matches(name, timm.list_models(), n=4)
        raise UsageError(f"timm has no model {name}" + (f"; close: {', '.join(close)}" if close else ""))
    network = timm.create_model(name, pretrained=pretrained, features_only=True, out_indices=(-1,))
    made = _Last(network)
    config = getattr(network, "pretrained_cfg", None) or getattr(network, "default_cfg", {})
    made.statistics = (config.get("mean", IMAGENET[0]), config.get("std", IMAGENET[1]))  # type: ignore[assignment]
    licence = config.get("license") or "licence not stated"
    return made, f"all {len(network.state_dict())} tensors by timm ({licence})" if pretrained else "random"


def _torchvision(name: str, pretrained: bool) -> tuple[nn.Module, str]:
    models = import_torchvision().models
    if name not in (*models.list_models(module=models), *models.list_models(module=models.video)):
        raise UsageError(f"torchvision has no image or video model {name}")
    network = models.get_model(name, weights="DEFAULT" if pretrained else None)
    if hasattr(network, "layer4"):  # ResNets: everything before pooling and classifier
        parts = dict(list(network.named_children())[:-2])
    elif name.startswith("swin3d"):
        parts = {part: getattr(network, part) for part in ("patch_embed", "pos_drop", "features", "norm")}
        parts["channels_second"] = _ChannelsSecond()
    elif isinstance(getattr(network, "features", None), nn.Module):
        # of the others, channels are last inside
        names = ("features", "norm", "permute") if name.startswith("swin") else ("features",)
        parts = {part: getattr(network, part) for part in names}
    else:
        raise UsageError(f"torchvision:{name} has no feature map that can be taken; timm has most networks")
    made = nn.Sequential(OrderedDict(parts))  # under their own names, by which files of weights know them
    transforms = models.get_model_weights(name).DEFAULT.transforms()
    made.statistics = (transforms.mean, transforms.std)  # type: ignore[assignment]
    return made, f"all {len(made.state_dict())} tensors by torchvision" if pretrained else "random"


def _transformers(name: str, pretrained: bool) -> tuple[nn.Module, str]:
    with suppress(ImportError):
        import_torchvision()  # transformers imports it where it is installed
    import transformers

    transformers.logging.set_verbosity_error()
    where, _, revision = (name, "", "") if Path(name).is_dir() else name.partition("@")
    pin = {"revision": revision} if revision else {}  # the user's to give
    if not pretrained:
        config = transformers.AutoConfig.from_pretrained(where, **pin)  # nosec B615
        made = _Hidden(transformers.AutoModel.from_config(config))
        return made, f"random{_take_statistics(made, where, pin)}"
    network, info = transformers.AutoModel.from_pretrained(where, output_loading_info=True, **pin)  # nosec B615
    loaded = Loaded(
        len(network.state_dict()) - len(info["missing_keys"]) - len(info["mismatched_keys"]),
        tuple(sorted(info["missing_keys"])),
        tuple(sorted(info["unexpected_keys"])),
        tuple(sorted(str(key[0]) for key in info["mismatched_keys"])),
    )
    made = _Hidden(network)
    return made, f"{name}: {loaded}{_take_statistics(made, where, pin)}"


def _take_statistics(made: nn.Module, where: str, pin: dict[str, str]) -> str:
    """Give a transformers model the mean and standard deviation of its own preprocessing; says so where it has none."""
    from transformers.image_processing_utils import BaseImageProcessor

    try:
        found, _ = BaseImageProcessor.get_image_processor_dict(where, **pin)
        mean, std = found["image_mean"], found["image_std"]
    except (OSError, KeyError):
        return "; no mean and standard deviation beside it: ImageNet's"
    made.statistics = (mean, std)  # type: ignore[assignment]
    return ""


# (name within the family, whether with the library's weights) -> network, what became of the weights
FAMILIES: dict[str, Callable[[str, bool], tuple[nn.Module, str]]] = {
    "timm": _timm,
    "torchvision": _torchvision,
    "transformers": _transformers,
}


def load_backbone_weights(network: nn.Module, path: Path) -> Loaded:
    """Load a file of tensors into a network, whatever prefix either gives its names.

    :param path: .safetensors, or what torch.save wrote: tensors by name, or a dictionary that holds them under
        state_dict, model or weights.
    :raises UsageError: unreadable, or fewer than half of the network's tensors are in it.
    """
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            tensors: Any = load_file(str(path))
        else:
            tensors = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch and safetensors raise many kinds
        raise UsageError(f"cannot read weights {path}: {str(error).strip().splitlines()[0]}") from error
    for name in ("state_dict", "model", "weights"):
        if isinstance(tensors, Mapping) and isinstance(tensors.get(name), Mapping):
            tensors = tensors[name]
    given = {k: v for k, v in tensors.items() if isinstance(v, Tensor)} if isinstance(tensors, Mapping) else {}
    own = network.state_dict()
    names = _aligned(given, own)
    fits = {ours: given[theirs] for ours, theirs in names.items() if given[theirs].shape == own[ours].shape}
    if 2 * len(fits) < len(own):
        raise UsageError(
            f"{path}: only {len(fits)} of this network's {len(own)} tensors are in it: it is of another one"
        )
    network.load_state_dict(fits, strict=False)
    used = set(names.values())
    return Loaded(
        len(fits),
        tuple(k for k in own if k not in names),
        tuple(k for k in given if k not in used),
        tuple(k for k in names if k not in fits),
    )


def _aligned(given: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> dict[str, str]:
    """Our name -> the checkpoint's: equal after their commonest prefixes are taken off (`module.`, `network.` ...)."""
    best: dict[str, str] = {}
    for ours in _prefixes(own):
        for theirs in _prefixes(given):
            found = {
                name: theirs + name.removeprefix(ours)
                for name in own
                if name.startswith(ours) and theirs + name.removeprefix(ours) in given
            }
            if len(found) > len(best):
                best = found
    return best


def _prefixes(names: Mapping[str, Tensor]) -> list[str]:
    """The empty prefix, and those that some names share, up to three parts long."""
    found = {""}
    for name in names:
        parts = name.split(".")
        found |= {".".join(parts[:i]) + "." for i in range(1, min(4, len(parts)))}
    return sorted(found, key=len)


def _adapt_first_convolution(network: nn.Module, inputs: int) -> None:
    """Let the first convolution take `inputs` channels: each gets the mean of its weights, the sum kept."""
    for module in network.modules():
        for name, child in module.named_children():
            if isinstance(child, nn.Conv2d | nn.Conv3d):
                new = type(child)(
                    inputs,
                    child.out_channels,
                    child.kernel_size,  # type: ignore[arg-type]
                    child.stride,  # type: ignore[arg-type]
                    child.padding,  # type: ignore[arg-type]
                    bias=child.bias is not None,
                )
                with torch.no_grad():
                    new.weight.copy_(child.weight.sum(1, keepdim=True).expand_as(new.weight) / inputs)
                    if child.bias is not None and new.bias is not None:
                        new.bias.copy_(child.bias)
                setattr(module, name, new)
                for owner in network.modules():  # transformers check the count themselves
                    if hasattr(owner, "num_channels"):
                        vars(owner)["num_channels"] = inputs
                return
    raise UsageError("this backbone does not begin with a convolution, so it takes RGB images only")
