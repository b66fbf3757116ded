# SPDX-License-Identifier: Apache-2.0
"""Pre-trained backbones by name: what is loaded is told, inputs are adapted, the result exports. No hub is reached."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

torch = pytest.importorskip("torch", reason="training needs torch")
for library in ("timm", "torchvision"):
    if importlib.util.find_spec(library) is None:
        pytest.skip(f"named backbones need {library}", allow_module_level=True)

from karmma_ros.errors import UsageError  # noqa: E402
from karmma_training.bundle.export import MAX_ERROR, export_bundle, sample_inputs  # noqa: E402
from karmma_training.config import Config  # noqa: E402
from karmma_training.config_file import apply_overrides  # noqa: E402
from karmma_training.data.labels import Labels  # noqa: E402
from karmma_training.learning.train import Trainer  # noqa: E402
from karmma_training.networks.backbones import NamedBackbone, load_backbone_weights  # noqa: E402
from karmma_training.networks.extractors import build_extractor  # noqa: E402
from karmma_training.networks.model import build_model  # noqa: E402
from karmma_training.networks.torchvision_import import import_torchvision  # noqa: E402
from karmma_training.presets import preset  # noqa: E402

import_torchvision()
import timm  # noqa: E402
from safetensors.torch import save_file  # noqa: E402  timm's own

NAME = "timm:test_resnet"


def with_backbones(name: str = NAME) -> Config:
    config = preset("tiny", "baseline-dropout")
    for m in config.modalities:
        config.slots(m).backbone = name
    return config


@pytest.mark.parametrize(
    "name", [NAME, "torchvision:resnet18", "torchvision:swin_t", "timm:test_mambaout", "timm:repvit_m0_9"]
)
@pytest.mark.parametrize("modality", ["video", "flow", "audio"])
def test_any_modality_goes_through_a_named_backbone(modality: str, name: str) -> None:
    config = with_backbones(name)
    extractor = build_extractor(modality, config)
    c = config.slots(modality)
    samples = torch.from_numpy(sample_inputs(config, modality, 3, np.random.default_rng(0)))
    tokens = extractor(samples)
    assert tokens.shape == (3, c.tokens, c.dim)
    tokens.square().sum().backward()
    first = next(m for m in extractor.backbone.modules() if isinstance(m, torch.nn.Conv2d))
    assert first.weight.grad.abs().sum() > 0


def test_a_checkpoint_is_loaded_and_what_does_not_fit_is_told(tmp_path: Path) -> None:
    torch.manual_seed(1)
    source = timm.create_model("test_resnet", num_classes=7).state_dict()
    lost = next(k for k in source if k.startswith("layer1") and k.endswith("weight"))
    del source[lost]
    wrong = next(k for k in source if k.startswith("layer2") and k.endswith("weight"))
    source[wrong] = torch.zeros(2, 2)
    path = tmp_path / "weights.pth"
    torch.save({"state_dict": {f"module.{k}": v for k, v in source.items()}}, path)
    backbone = NamedBackbone(NAME, 3, (36, 48), str(path))
    loaded = load_backbone_weights(NamedBackbone(NAME, 3, (36, 48), "").network, path)
    assert any(lost in name for name in loaded.missing)
    assert {k.removeprefix("module.") for k in loaded.left_over} == {"fc.weight", "fc.bias"}
    assert any(wrong in name for name in loaded.reshaped)
    assert loaded.loaded == len(source) - 3
    assert lost in backbone.report
    assert "2 left over" in backbone.report
    own = backbone.state_dict()
    right = next(k for k in source if k.startswith("layer3") and k.endswith("weight"))
    assert torch.equal(next(v for k, v in own.items() if k.endswith(right)), source[right])


@pytest.mark.parametrize(
    ("name", "size"),
    [("resnet18", (64, 64)), ("swin_t", (64, 64)), ("mobilenet_v2", (64, 64)), ("swin3d_t", (4, 32, 32))],
)
def test_a_file_of_torchvisions_own_weights_is_loaded_whole(tmp_path: Path, name: str, size: tuple[int, ...]) -> None:
    """What one is told to do where the hub is out of reach."""
    source = import_torchvision().models.get_model(name)
    torch.save(source.state_dict(), tmp_path / "weights.pth")
    backbone = NamedBackbone(f"torchvision:{name}", 3, size, str(tmp_path / "weights.pth"))
    assert ", 0 missing, 2 left over" in backbone.report, "all but the classifier's matrix and bias"
    own = {key.removeprefix("network."): value for key, value in backbone.state_dict().items()}
    theirs = {key: value for key, value in source.state_dict().items() if key in own}
    assert len(theirs) == len(source.state_dict()) - 2
    assert all(torch.equal(own[key], value) for key, value in theirs.items())


class Hub:
    """Stands in for the libraries' downloads: tensors of one network, its classifier included, with random values.

    asked: addresses, in order; tensors: by name.
    """

    def __init__(self, name: str, folder: Path) -> None:
        family, _, model = name.partition(":")
        with torch.device("meta"):
            network = timm.create_model(model) if family == "timm" else import_torchvision().models.get_model(model)
        generator = torch.Generator().manual_seed(0)
        self.tensors = {
            key: torch.rand(value.shape, generator=generator)
            if value.is_floating_point()
            else torch.zeros(value.shape, dtype=value.dtype)
            for key, value in network.state_dict().items()
        }
        self.folder = folder
        self.asked: list[str] = []

    def url(self, url: str, path: str, *_: object, **__: object) -> None:
        """Instead of `torch.hub.download_url_to_file`."""
        self.asked.append(url)
        torch.save(self.tensors, path)

    def file(self, repo_id: str, filename: str, **_: object) -> str:
        """Instead of `huggingface_hub.hf_hub_download`."""
        self.asked.append(f"{repo_id}/{filename}")
        save_file(self.tensors, self.folder / filename)
        return str(self.folder / filename)


SWIN, MOBILENET = "torchvision:swin3d_t", "timm:mobilenetv4_conv_small.e2400_r224_in1k"


@pytest.mark.parametrize(
    ("name", "changes", "backbone", "address", "who"),
    [
        (
            "paper",
            ["modalities=[video]", "video.context=4"],
            SWIN,
            "https://download.pytorch.org/models/swin3d_t-7615ae03.pth",
            "torchvision",
        ),
        (
            "stream",
            ["modalities=[video,flow]"],
            MOBILENET,
            "timm/mobilenetv4_conv_small.e2400_r224_in1k/model.safetensors",
            "timm (apache-2.0)",
        ),
    ],
    ids=["paper", "stream"],
)
def test_runs_begin_with_the_weights_of_the_hub_and_say_so(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    changes: list[str],
    backbone: str,
    address: str,
    who: str,
) -> None:
    """The presets' own networks and weights, on smaller pictures; only the download is not real."""
    hub = Hub(backbone, tmp_path)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr("torch.hub.download_url_to_file", hub.url)
    monkeypatch.setattr("timm.models._hub.hf_hub_download", hub.file)
    small = [f"{m}.{side}=32" for m in ("video", "flow") for side in ("height", "width")]
    config = apply_overrides(preset(name, "baseline-dropout"), [*small, *changes, "train.device=cpu"])
    labels = Labels.from_names({"action": ["a", "b"]}, [("a",), ("b",)])
    trainer = Trainer(config, labels, [], [], tmp_path / "run", Console(quiet=True), store=tmp_path)
    trainer._fit = trainer.save = lambda: None  # type: ignore[method-assign]
    trainer.fit()
    assert set(hub.asked) == {address}
    log = (tmp_path / "run" / "log.txt").read_text()
    for m in config.modalities:
        own = trainer.model.extractors[m].backbone.network.state_dict()
        assert f"{m} {backbone}: all {len(own)} tensors by {who}" in log
        for key, value in own.items():
            given = hub.tensors[key.removeprefix("network.")]
            if given.shape != value.shape:  # of the first convolution, for the two components of flow
                assert m == "flow"
                given = given.sum(1, keepdim=True).expand_as(value) / 2
            torch.testing.assert_close(value, given)


def test_a_hub_out_of_reach_is_one_line_that_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError("Network is unreachable\nand more")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr("torch.hub.download_url_to_file", fail)
    monkeypatch.setattr("timm.models._hub.hf_hub_download", fail)
    for backbone in ("torchvision:resnet18", MOBILENET):
        with pytest.raises(UsageError) as error:
            NamedBackbone(backbone, 3, (32, 32), "hub")
        assert str(error.value) == (
            f"backbone {backbone}, input 32x32: Network is unreachable; download the weights and name the file"
        )


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    torch.save(import_torchvision().models.get_model("resnet18").state_dict(), tmp_path / "weights.pth")
    with pytest.raises(UsageError, match="it is of another one"):
        NamedBackbone("torchvision:swin_t", 3, (64, 64), str(tmp_path / "weights.pth"))


def test_weights_of_three_channels_serve_flow_and_sound(tmp_path: Path) -> None:
    """A grey picture, split over fewer channels, gives what it gave: the sum of the first weights is kept."""
    torch.manual_seed(1)
    path = tmp_path / "weights.pth"
    torch.save(timm.create_model("test_resnet").state_dict(), path)
    rgb, two = (NamedBackbone(NAME, n, (36, 48), str(path)).eval() for n in (3, 2))
    grey = torch.rand(1, 1, 36, 48)
    with torch.no_grad():
        torch.testing.assert_close(rgb(grey.expand(1, 3, 36, 48)), two(grey.expand(1, 2, 36, 48)), atol=1e-4, rtol=1e-3)


def test_a_local_transformers_model(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers", reason="named backbones of Hugging Face need transformers")
    config = transformers.ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic")
    transformers.ResNetForImageClassification(config).save_pretrained(tmp_path / "net")
    backbone = NamedBackbone(f"transformers:{tmp_path / 'net'}", 3, (36, 48), "hub").eval()
    assert "0 missing" in backbone.report
    assert "ImageNet's" in backbone.report, "it says nothing of the pictures that it knows"
    (tmp_path / "net" / "preprocessor_config.json").write_text(
        '{"image_mean": [0.5, 0.4, 0.3], "image_std": [1, 1, 2]}'
    )
    backbone = NamedBackbone(f"transformers:{tmp_path / 'net'}", 3, (36, 48), "hub").eval()
    assert backbone.statistics == ([0.5, 0.4, 0.3], [1, 1, 2])
    assert "ImageNet" not in backbone.report
    assert "classifier" in backbone.report, "its classifier is left over"
    with torch.no_grad():
        assert backbone(torch.zeros(2, 3, 36, 48)).shape[:2] == (2, 16)
        flow = NamedBackbone(f"transformers:{tmp_path / 'net'}", 2, (30, 40), "hub")
        assert flow(torch.zeros(2, 2, 30, 40)).shape[:2] == (2, 16)


@pytest.mark.parametrize(
    ("name", "weights", "message"),
    [
        ("resnet18", "", "expected one of timm:NAME"),
        ("timm:resnet1800", "", "timm has no model resnet1800; close: "),
        ("torchvision:gone", "", "torchvision has no image or video model gone"),
        ("timm:test_vit", "", "backbone timm:test_vit, input 48x36: Input height"),
        (NAME, "/nowhere/w.pth", "cannot read weights"),
        ("transformers:/nowhere", "", "backbone transformers:/nowhere"),
    ],
)
def test_mistakes_are_one_line(name: str, weights: str, message: str) -> None:
    with pytest.raises(UsageError) as error:
        NamedBackbone(name, 3, (36, 48), weights)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_a_checkpoint_needs_no_weights_by_name() -> None:
    """What was trained from a hub's weights is evaluated and exported where there is no hub."""
    config = with_backbones()
    config.video.weights = "/nowhere/w.pth"
    build_model(config, {"action": 2})
    assert config.video.weights == "/nowhere/w.pth"
    with pytest.raises(UsageError, match=r"cannot read weights /nowhere"):
        build_model(config, {"action": 2}, pretrained=True)


def test_a_run_goes_on_without_the_weights_it_began_with_and_in_its_precision(tmp_path: Path) -> None:
    config = with_backbones()
    config.train.device, config.train.precision = "cpu", "bf16"
    config.video.weights = str(tmp_path / "w.pth")
    torch.save(timm.create_model("test_resnet").state_dict(), config.video.weights)
    labels = Labels.from_names({"action": ["a", "b"]}, [("a",), ("b",)])

    def trainer() -> Trainer:
        return Trainer(config, labels, [], [], tmp_path / "run", Console(quiet=True), store=tmp_path)

    (tmp_path / "run").mkdir()
    first = trainer()
    first.progress.step = 5
    first.save()
    first._stage0 = first._fit = lambda: None  # type: ignore[method-assign]
    first.fit()  # writes config.yaml
    config.train.precision = "fp32"  # what `auto` means on another machine
    Path(config.video.weights).unlink()
    again = trainer()
    again.resume()
    assert again.progress.step == 5
    assert again.precision == "bf16"
    assert again.ema.module.reduced is None, "validated in float32, as it is exported"
    assert all(torch.equal(a, b) for a, b in zip(first.model.parameters(), again.model.parameters(), strict=True))
    (tmp_path / "run" / "last.pt").unlink()
    with pytest.raises(UsageError, match="cannot read weights"):
        trainer()


def test_a_named_backbone_for_sound_exports(tmp_path: Path) -> None:
    """For video and flow: test_clips.py, into the robot's recogniser."""
    config = with_backbones()
    config.modalities = ["audio"]
    labels = Labels.from_names({"action": ["a", "b"]}, [("a",), ("b",)])
    torch.manual_seed(0)
    model = build_model(config, labels.sizes())
    assert export_bundle(tmp_path, "named", model, config, labels, {"action": 1.0}) <= MAX_ERROR


IMAGENET = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
OURS = ([0.4, 0.3, 0.2], [0.3, 0.25, 0.1])
ORANGE = torch.tensor([255, 102, 0], dtype=torch.uint8)


def normalised(statistics: tuple[list[float], list[float]]) -> torch.Tensor:
    """ORANGE, red first."""
    mean, std = map(torch.tensor, statistics)
    return (torch.tensor([1.0, 0.4, 0.0]) - mean) / std


@pytest.mark.parametrize(
    ("name", "context", "given", "used"),
    [
        ("torchvision:resnet18", 1, ([], []), IMAGENET),
        ("torchvision:mc3_18", 2, ([], []), ([0.43216, 0.394666, 0.37645], [0.22803, 0.22145, 0.216989])),
        ("", 1, ([], []), ([0.5] * 3, [0.25] * 3)),
        ("torchvision:resnet18", 1, OURS, OURS),
        ("torchvision:mc3_18", 2, OURS, OURS),
        ("", 1, OURS, OURS),
    ],
)
def test_pictures_are_normalised_as_the_weights_know_them_or_as_the_data_set_asks(
    name: str, context: int, given: tuple[list[float], list[float]], used: tuple[list[float], list[float]]
) -> None:
    config = preset("tiny", "baseline")
    v = config.video
    v.backbone, v.context, (v.mean, v.std) = name, context, given
    config.check()
    prepared = build_extractor("video", config).prepare(ORANGE.expand(2, context, v.height, v.width, 3))
    assert prepared.shape[:2] == (2, 3)
    torch.testing.assert_close(prepared.movedim(1, -1), normalised(used).expand(*prepared.movedim(1, -1).shape))


@pytest.mark.parametrize(
    "given", [(OURS[0], []), ([], OURS[1]), ([0.4], [0.2]), ([124, 116, 104], [58, 57, 57]), (OURS[0], [0.2, 0.2, 0.0])]
)
def test_statistics_that_no_picture_has_are_refused(given: tuple[list[float], list[float]]) -> None:
    config = preset("tiny", "baseline")
    config.video.mean, config.video.std = given
    with pytest.raises(UsageError, match=r"must be of red, green and blue, between 0 and 1, or both empty"):
        config.check()
