# SPDX-License-Identifier: Apache-2.0
"""Extractors that see a clip instead of a frame, and the paper's own networks: their cost, and a run at toy size."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs torch")

from karmma_ros.cli.main import main  # noqa: E402
from karmma_ros.clips import clip_positions  # noqa: E402
from karmma_ros.errors import UsageError  # noqa: E402
from karmma_ros.recognizer import Recognizer  # noqa: E402
from karmma_ros.window import assign_slots  # noqa: E402
from karmma_training.bundle.export import export_bundle  # noqa: E402
from karmma_training.checkpoint import extractors_digest  # noqa: E402
from karmma_training.config_file import apply_overrides  # noqa: E402
from karmma_training.data.augment import Look  # noqa: E402
from karmma_training.data.labels import Labels  # noqa: E402
from karmma_training.data.recording import Context, Recording  # noqa: E402
from karmma_training.data.store import StoredRecording, StoreFormat, write_recording  # noqa: E402
from karmma_training.networks.extractors import GridPool, build_extractor  # noqa: E402
from karmma_training.networks.model import build_model  # noqa: E402
from karmma_training.presets import as_system, preset  # noqa: E402

needs_torchvision = pytest.mark.skipif(
    importlib.util.find_spec("torchvision") is None, reason="the paper's backbones need torchvision"
)
needs_timm = pytest.mark.skipif(importlib.util.find_spec("timm") is None, reason="those of stream need timm")

# the paper's preset on pictures of a size that a test can train
SMALL = ["video.context=4", "video.height=32", "video.width=32", "audio.layout=[]", "audio.context=6400"]
SMALL += ["data.render_width=160", "data.render_height=120", "data.recording_s=2", "audio.mels=32"]


def of(setting: str) -> list[str]:
    """A setting of both video and flow."""
    return [f"video.{setting}", f"flow.{setting}"]


MIXED = [*of("backbone=torchvision:mc3_18"), *of("dim=512")]
STATISTICS = ["video.mean=[.4,.3,.2]", "video.std=[.3,.25,.1]"]  # of some data set


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
    torch.manual_seed(0)
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
    with torch.no_grad():
        next(iter(models[0].extractors["video"].parameters())).add_(1e-3)
    assert extractors_digest(models[0]) != first


def test_what_a_user_sets_for_the_streaming_student_holds_for_its_teacher() -> None:
    changes = ["dropout.modality_p=0", "video.height=160", "flow.width=192", "audio.rate=8000", "detections.boxes=9"]
    teacher = as_system(apply_overrides(preset("stream"), changes), "teacher")
    assert teacher.dropout.modality_p == 0
    assert (teacher.video.height, teacher.flow.width) == (160, 192)
    assert (teacher.audio.rate, teacher.detections.boxes) == (8000, 9)
    assert teacher.video.backbone == "torchvision:swin3d_b", "and the rest is the paper's"


def test_the_streaming_student_has_the_papers_teacher() -> None:
    student = apply_overrides(preset("stream", "baseline-dropout"), STATISTICS)
    teacher, theirs = as_system(student, "teacher"), preset("paper", "teacher")
    assert (teacher.video.mean, teacher.video.std) == ([0.4, 0.3, 0.2], [0.3, 0.25, 0.1]), "those of the data set"
    teacher.video.mean = teacher.video.std = []
    for m in student.modalities:
        assert teacher.slots(m) == theirs.slots(m)
        assert student.slots(m).slots > teacher.slots(m).slots == 1


@needs_torchvision
def test_a_toy_of_the_papers_preset_trains_from_teacher_to_student(tmp_path: Path) -> None:
    command = ["train", "--preset", "paper", "--modalities", "video,audio", "--store", str(tmp_path / "store"), "--out"]
    settings = [*SMALL, "data.minutes=0.2", "data.validation_minutes=0.03", "train.epochs=1", "train.batch=4"]
    settings += ["train.windows_per_second=0.5", "train.threads=1", "train.validate_step=60"]
    settings += ["train.precision=fp32", "pretrain.video=1", "pretrain.audio=1"]
    settings += ["video.weights=''", "audio.weights=''", "video.backbone=torchvision:swin3d_t"]
    arguments = [part for setting in settings for part in ("--set", setting)]
    small = [*arguments, "--set", "audio.backbone=torchvision:resnet18", "--set", "audio.grid=[5,5]"]
    sizes = [part for item in ("audio.tokens=25", "audio.dim=512", "video.dim=768") for part in ("--set", item)]
    teacher, student = tmp_path / "teacher", tmp_path / "student"
    assert main([*command, str(teacher), "--system", "teacher", *small, *sizes]) == 0
    assert main([*command, str(student), "--teacher", str(teacher), *arguments]) == 0
    assert "done: best validation score" in (student / "log.txt").read_text()
    assert not list((tmp_path / "store").glob("features-*")), "clips are not cached frame by frame"
    if importlib.util.find_spec("timm") is None:
        return  # the robot's student, which sees single frames, is one of timm's
    stream = tmp_path / "stream"
    command[command.index("paper")] = "stream"
    of_clips = ("video.context", "audio.layout", "audio.context", "audio.mels", "audio.weights", "video.backbone")
    arguments = [part for s in settings if not s.startswith(of_clips) for part in ("--set", s)]
    assert main([*command, str(stream), "--teacher", str(teacher), *arguments]) == 0
    assert "done: best validation score" in (stream / "log.txt").read_text()


@needs_torchvision
@pytest.mark.parametrize(
    ("name", "changes"),
    [
        pytest.param("stream", ["modalities=[video]", *STATISTICS], marks=needs_timm, id="stream-video"),
        pytest.param(
            "stream",
            ["modalities=[video]", "video.backbone=timm:repvit_m0_9"],
            marks=[needs_timm, pytest.mark.full],
            id="stream-repvit",
        ),
        pytest.param("stream", STATISTICS, marks=[needs_timm, pytest.mark.full], id="stream"),
        # wired as the paper's, around a network that is exported in seconds
        pytest.param("paper", ["modalities=[video,flow]", *MIXED], id="paper-layout"),
        pytest.param("paper", [], marks=pytest.mark.full, id="paper"),
    ],
)
def test_an_exported_student_says_on_the_robot_what_it_says_in_pytorch(
    tmp_path: Path, name: str, changes: list[str]
) -> None:
    """At reduced size, fed frame by frame and field by field, at 15 Hz, and with sound."""
    small = [*of("height=32"), *of("width=32"), *of("weights=''"), "audio.context=6400", "audio.mels=32"]
    small += of("context=4") if name == "paper" else []
    config = apply_overrides(preset(name, "baseline"), [*small, *changes])
    labels = Labels.from_names({"verb": ["a", "b"], "noun": ["x", "y", "z"]}, [("a", "x"), ("b", "y")])
    torch.manual_seed(0)
    model = build_model(config, labels.sizes()).eval()
    export_bundle(tmp_path, name, model, config, labels, {"verb": 1.0, "noun": 1.0})
    robot = Recognizer(tmp_path, providers="cpu")
    rng, begin_ns, count = np.random.default_rng(0), 10**18, 38
    stamps = begin_ns + np.arange(count) * 10**9 // 15
    frames = rng.integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)
    fields = rng.normal(0, 0.2, (count, 32, 32, 2)).astype(np.float32)
    sound = rng.normal(0, 0.1, count * config.audio.rate // 15).astype(np.float32)
    if "audio" in model.specs:
        robot.push("audio", begin_ns, sound)
    for stamp, frame, field in zip(stamps.tolist(), frames, fields, strict=True):
        robot.push("video", stamp, frame)
        if "flow" in model.specs:
            robot.push("flow", stamp, field)
    said = robot.predict(int(stamps[-1]))
    assert said.coverages == dict.fromkeys(model.specs, 1.0)
    # sound is encoded at multiples of its spacing, one of which is the beginning
    ends = np.arange(config.audio.context, len(sound), round(config.audio.spacing_s * config.audio.rate))
    heard = np.stack([sound[end - config.audio.context : end] for end in ends])
    samples = {"video": (stamps, frames), "flow": (stamps, fields), "audio": (begin_ns + ends * 62_500, heard)}
    with torch.inference_mode():
        tokens, present = {}, {}
        for m, spec in model.specs.items():
            at, of_modality = samples[m]
            which, context = assign_slots(at, int(stamps[-1]), spec), model.contexts[m]
            clips = which if m == "audio" else clip_positions(at, which, context.count, context.step_ns)
            tokens[m] = model.encode(m, torch.from_numpy(of_modality[clips])).flatten(0, 1)[None]
            present[m] = torch.ones(tokens[m].shape[:2], dtype=torch.bool)
        expected = model.fuse(tokens, present)
    for head, values in expected.items():
        np.testing.assert_allclose(said.logits[head], values[0].numpy(), atol=1e-5)


@pytest.mark.parametrize(("shape", "grid"), [((16, 7, 7), [12, 5, 5]), ((2, 1, 1), [12, 5, 5]), ((9, 13), [4, 13])])
def test_a_grid_of_averages_is_adaptive_pooling(shape: tuple[int, ...], grid: list[int]) -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 6, *shape)
    pool = torch.nn.functional.adaptive_avg_pool3d if len(grid) == 3 else torch.nn.functional.adaptive_avg_pool2d
    expected = pool(x, grid).flatten(2).transpose(1, 2)
    torch.testing.assert_close(GridPool(6, grid)(x), torch.nn.functional.layer_norm(expected, (6,)))
