# SPDX-License-Identifier: Apache-2.0
"""Extractors that see a clip instead of a frame, and the paper's own networks: their cost, and a run at toy size."""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs torch")

from karmma_ros.cli.main import main  # noqa: E402
from karmma_ros.clips import clip_positions  # noqa: E402
from karmma_ros.errors import UsageError  # noqa: E402
from karmma_ros.recognizer import Recognizer  # noqa: E402
from karmma_training.bundle.export import export_bundle  # noqa: E402
from karmma_training.checkpoint import extractors_digest  # noqa: E402
from karmma_training.config_file import apply_overrides  # noqa: E402
from karmma_training.data.augment import Look  # noqa: E402
from karmma_training.data.labels import Labels  # noqa: E402
from karmma_training.data.recording import Context, Recording  # noqa: E402
from karmma_training.data.store import StoredRecording, StoreFormat, write_recording  # noqa: E402
from karmma_training.evaluation.patterns import initials  # noqa: E402
from karmma_training.evaluation.profile import PAPER_GFLOPS, count  # noqa: E402
from karmma_training.networks.extractors import GridPool, build_extractor  # noqa: E402
from karmma_training.networks.model import build_model  # noqa: E402
from karmma_training.presets import as_system, preset  # noqa: E402

needs_torchvision = pytest.mark.skipif(
    importlib.util.find_spec("torchvision") is None, reason="the paper's backbones need torchvision"
)

# the paper's preset on pictures of a size that a test can train
SMALL = ["video.context=4", "video.height=32", "video.width=32", "audio.layout=[]", "audio.context=6400"]
SMALL += ["data.render_width=160", "data.render_height=120", "data.recording_s=2", "audio.mels=32"]


@pytest.fixture
def recording(tmp_path: Path) -> Recording:
    """Twelve frames, each of one grey level, 100 ms apart; the sixth is lost."""
    form = StoreFormat.of(preset("tiny"))
    frames = [(i * 100_000_000, np.full((60, 80, 3), 20 * i, np.uint8)) for i in range(12) if i != 5]
    meta = {"name": "levels", "intervals": [[0.0, 1.2, "a"]]}
    write_recording(tmp_path / "r", form, frames=frames, flows=None, sound=None, meta=meta)
    return StoredRecording(tmp_path / "r", Labels.from_names({"action": ["a"]}, [("a",)]))


def levels(clip: np.ndarray) -> list[int]:
    return (clip[:, 0, 0, 0].astype(int) // 20).tolist()


def test_a_clip_holds_the_frames_nearest_to_its_times(recording: Recording) -> None:
    every_second = Context(4, 200_000_000)
    clips = recording.samples("video", np.array([10, 2, 0]), every_second)
    assert clips.shape == (3, 4, 36, 48, 3)
    assert levels(clips[0]) in ([4, 6, 9, 11], [6, 6, 9, 11], [4, 7, 9, 11], [6, 7, 9, 11]), "frame 5 was lost"
    assert levels(clips[1]) == [0, 0, 0, 2], "the first frame stands for what lies before it"
    assert levels(clips[2]) == [0, 0, 0, 0]
    stamps = recording.stamps["video"]
    for which, clip in enumerate(recording.clips("video", np.arange(11), Context(4, 130_000_000))):
        for i, back in zip(clip, (390, 260, 130, 0), strict=True):
            away = np.abs(stamps[: which + 1] - (stamps[which] - back * 1_000_000))
            assert away[i] == away.min()
    assert recording.samples("video", np.array([3]), Context()).shape == (1, 1, 36, 48, 3)


def test_the_same_look_for_every_frame_of_a_clip(recording: Recording) -> None:
    """Augmentation must not flicker inside a clip."""
    negative = np.repeat(np.arange(255, -1, -1, dtype=np.uint8)[None, :, None], 3, 2)
    look = Look(1.0, True, (0.0, 0.0), (0, 1, 2), negative, 1.0, 0.0)
    context = Context(3, 100_000_000)
    (plain,) = recording.samples("video", np.array([4]), context)
    (changed,) = look.samples(recording, "video", np.array([4]), context, np.random.default_rng(0))
    assert (changed == 255 - plain[:, :, ::-1]).all()
    (flow,) = recording.samples("flow", np.array([4]), context)
    (turned,) = look.samples(recording, "flow", np.array([4]), context, np.random.default_rng(0))
    np.testing.assert_allclose(turned, flow[:, :, ::-1] * [-1, 1], atol=1e-6)


@needs_torchvision
@pytest.mark.parametrize(("name", "dim"), [("swin3d_t", 768), ("r3d_18", 512)])
@pytest.mark.parametrize("modality", ["video", "flow"])
def test_clips_go_through_a_video_backbone(modality: str, name: str, dim: int) -> None:
    grid = ["grid=[2,1,1]", "tokens=2", f"dim={dim}"]
    for pooling in (grid, ["tokens=3", "dim=16"]):
        part = [f"backbone=torchvision:{name}", "context=4", "height=32", "width=32", *pooling]
        config = apply_overrides(preset("tiny", "baseline"), [f"{modality}.{item}" for item in part])
        config.check()
        extractor = build_extractor(modality, config)
        shape = (2, 4, 32, 32, 3 if modality == "video" else 2)
        clip = torch.rand(shape) if modality == "flow" else torch.randint(0, 256, shape, dtype=torch.uint8)
        tokens = extractor.eval()(clip)
        c = config.slots(modality)
        assert tokens.shape == (2, c.tokens, c.dim)
        other = clip.clone()
        other[:, 1] = clip[:, 2]
        assert not torch.allclose(tokens, extractor(other), atol=1e-4), "every frame counts"
        assert not torch.allclose(tokens, extractor(clip.flip(1)), atol=1e-4), "and their order"


@needs_torchvision
def test_mistakes_with_clips_are_one_line() -> None:
    config = preset("tiny", "baseline")
    for change, message in {
        "video.context=8": "video.context 8 needs a video.backbone for clips, e.g. torchvision:swin3d_t",
        "video.grid=[2,2]": "video.grid [2, 2] makes 4 tokens, but video.tokens is 1",
    }.items():
        with pytest.raises(UsageError) as error:
            apply_overrides(config, [change]).check()
        assert str(error.value) == message
    wide = apply_overrides(config, ["video.grid=[1,1]", "video.dim=7"])
    with pytest.raises(UsageError, match=r"have the 32 channels of their backbone, but dim is 7"):
        build_extractor("video", wide)
    for name, context in (("swin3d_t", 1), ("resnet18", 4)):
        flat = apply_overrides(config, [f"video.backbone=torchvision:{name}", f"video.context={context}"])
        with pytest.raises(UsageError) as error:
            build_extractor("video", flat)
        assert "\n" not in str(error.value)
        assert f"backbone torchvision:{name}, input 48x36" in str(error.value)


def test_pieces_of_a_spectrogram_become_the_frames_of_a_video() -> None:
    """A click is in the pieces around its moment and in no other."""
    config = apply_overrides(
        preset("tiny", "baseline"), ["audio.context=32000", "audio.layout=[5,16,24]", "audio.piece_s=0.4"]
    )
    extractor = build_extractor("audio", config).eval()
    quiet, click = torch.zeros(1, 32000), torch.zeros(1, 32000)
    click[0, 16000:16080] = 0.5  # after 1 s of 2: pieces begin at 0, 0.4, 0.8, 1.2 and 1.6 s
    with pytest.raises(UsageError, match=r"audio.piece_s 3.0 is longer than the 2 s of its context"):
        build_extractor("audio", apply_overrides(config, ["audio.piece_s=3"]))
    heard = (extractor.prepare(click) - extractor.prepare(quiet)).abs()
    assert heard.shape == (1, 1, 5, 16, 24)
    assert (heard.amax((0, 1, 3, 4)) > 0.1).tolist() == [False, False, True, False, False]


def test_cached_tokens_are_known_by_all_that_shapes_them() -> None:
    """The same weights make other tokens of other clips or other pieces of sound."""
    config = preset("tiny", "baseline")
    models = [
        build_model(apply_overrides(config, [change] if change else []), {"action": 2})
        for change in ("", "", "video.context_step_s=0.5", "audio.piece_s=0.2", "audio.weights=hub")
    ]
    for model in models[1:]:
        model.load_state_dict(models[0].state_dict())
    first, same, clip, piece, origin = (extractors_digest(model) for model in models)
    assert first == same == origin
    assert len({first, clip, piece}) == 3


@needs_torchvision
def test_the_papers_preset_is_the_papers_size() -> None:
    """GFLOPs of all fourteen bars, and what a deployed student reads beside them."""
    heads = {"verb": 97, "noun": 300}
    for system, bars in PAPER_GFLOPS.items():
        counted = count(preset("paper", system), heads)
        for chosen, row in counted.items():
            subset = initials("+".join(chosen))
            assert row["gflops"] == pytest.approx(bars[subset], abs=0.1), (system, subset)
        assert len(counted) == len(bars) == 7
    audio = count(preset("paper"), heads)[("audio",)]
    assert audio["gflops"] + 1 < audio["gflops_deployed"] < audio["gflops"] + 5, "600 learned tokens of video and flow"


@needs_torchvision
def test_the_streaming_student_has_the_papers_teacher_and_costs_a_hundredth() -> None:
    pytest.importorskip("timm", reason="its networks are timm's")
    without = [f"{m}.weights=''" for m in ("video", "flow")]
    student = apply_overrides(preset("stream", "baseline-dropout"), without)
    teacher, theirs = as_system(student, "teacher"), preset("paper", "teacher")
    for m in student.modalities:
        assert replace(teacher.slots(m), weights="") == replace(theirs.slots(m), weights="")
        assert student.slots(m).slots > teacher.slots(m).slots == 1
    heads = {"verb": 97, "noun": 300}
    ours = count(student, heads)[("video", "flow", "audio")]
    papers = count(preset("paper", "baseline-dropout"), heads)[("video", "flow", "audio")]
    assert 100 * ours["gflops_online"] < papers["gflops_online"]
    assert ours["gflops_online"] < 1


@needs_torchvision
def test_a_toy_of_the_papers_preset_trains_from_teacher_to_student(tmp_path: Path) -> None:
    command = ["train", "--preset", "paper", "--modalities", "video,audio", "--store", str(tmp_path / "store"), "--out"]
    settings = [*SMALL, "data.minutes=0.2", "data.validation_minutes=0.03", "train.epochs=1", "train.batch=4"]
    settings += ["train.windows_per_second=0.5", "train.threads=2", "train.validate_step=60"]
    settings += ["video.weights=''", "audio.weights=''", "video.backbone=torchvision:swin3d_t"]
    arguments = [part for setting in settings for part in ("--set", setting)]
    small = [*arguments, "--set", "audio.backbone=torchvision:resnet18", "--set", "audio.grid=[5,5]"]
    sizes = [part for item in ("audio.tokens=25", "audio.dim=512", "video.dim=768") for part in ("--set", item)]
    teacher, student = tmp_path / "teacher", tmp_path / "student"
    assert main([*command, str(teacher), "--system", "teacher", *small, *sizes]) == 0
    assert main([*command, str(student), "--teacher", str(teacher), *arguments]) == 0
    assert "done: best validation score" in (student / "log.txt").read_text()
    assert not list((tmp_path / "store").glob("features-*")), "clips are not cached frame by frame"


@needs_torchvision
@pytest.mark.full
def test_the_papers_student_runs_on_the_robot(tmp_path: Path) -> None:
    """Swin3D-T at reduced size, exported, fed frame by frame: what PyTorch says of the clip that they make."""
    config = apply_overrides(preset("paper", "baseline"), ["modalities=[video,audio]", *SMALL, "video.weights=''"])
    labels = Labels.from_names({"verb": ["a", "b"], "noun": ["x", "y", "z"]}, [("a", "x"), ("b", "y")])
    torch.manual_seed(0)
    model = build_model(config, labels.sizes()).eval()
    folder = tmp_path / "paper"
    folder.mkdir()
    export_bundle(folder, "paper", model, config, labels, {"verb": 1.0, "noun": 1.0})
    robot = Recognizer(folder, providers="cpu")
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (20, 32, 32, 3), dtype=np.uint8)
    stamps = 10**18 + np.arange(20, dtype=np.int64) * 10**9 // 30
    for stamp, frame in zip(stamps.tolist(), frames, strict=True):
        robot.push("video", stamp, frame)
    said = robot.predict(int(stamps[-1]))
    assert said.coverages == {"video": 1.0, "audio": 0.0}
    (clip,) = clip_positions(stamps, np.array([19]), 4, round(1e9 / 15))
    assert clip.tolist() == [13, 15, 17, 19]
    with torch.inference_mode():
        tokens = {m: torch.zeros(1, s.slots * s.tokens, s.dim) for m, s in model.specs.items()}
        tokens["video"] = model.encode("video", torch.from_numpy(frames[clip])[None])
        present = {m: torch.full(t.shape[:2], m == "video") for m, t in tokens.items()}
        expected = model.fuse(tokens, present)
    for head, values in expected.items():
        np.testing.assert_allclose(said.logits[head], values[0].numpy(), atol=1e-4)


@pytest.mark.parametrize(("shape", "grid"), [((16, 7, 7), [12, 5, 5]), ((2, 1, 1), [12, 5, 5]), ((9, 13), [4, 13])])
def test_a_grid_of_averages_is_adaptive_pooling(shape: tuple[int, ...], grid: list[int]) -> None:
    x = torch.randn(2, 6, *shape)
    pool = torch.nn.functional.adaptive_avg_pool3d if len(grid) == 3 else torch.nn.functional.adaptive_avg_pool2d
    expected = pool(x, grid).flatten(2).transpose(1, 2)
    torch.testing.assert_close(GridPool(6, grid)(x), torch.nn.functional.layer_norm(expected, (6,)))
