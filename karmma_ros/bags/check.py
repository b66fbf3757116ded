# SPDX-License-Identifier: Apache-2.0
"""Whether a bag is fit for replay: what is in it, and what is wrong with it, each finding with its remedy."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from karmma_ros.bags.reader import Bag
from karmma_ros.bags.topic_check import LAG_S, Finding, Severity, TopicCheck, TopicReport
from karmma_ros.bags.topics import NONE, OPTIONS, Sensors, candidates, choose
from karmma_ros.errors import KarmmaError

__all__ = ["BagReport", "check_bag"]

_NS = 1_000_000_000
_SHORT_S = 2.0  # [s] a window


@dataclass
class BagReport:
    """What `record-check` tells. `fit`: no finding is an error."""

    path: str
    duration_s: float = 0.0
    messages: int = 0
    topics: dict[str, dict[str, Any]] = field(default_factory=dict)  # all of them: type, messages, used as
    used: list[TopicReport] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)

    @property
    def fit(self) -> bool:
        """Whether a replay makes sense."""
        return not any(finding.severity is Severity.ERROR for finding in self.findings)

    def to_json(self) -> dict[str, Any]:
        """For `--json`."""
        return {"fit": self.fit, **asdict(self)}


def check_bag(
    bag: Bag, wanted: Mapping[str, str | None], progress: Callable[[float], None] = lambda _: None
) -> BagReport:
    """Reads the whole bag and judges it.

    :param wanted: modality -> topic, `none`, or None: found by type.
    :param progress: called with the seconds of log time done.
    """
    report = BagReport(str(bag.path), bag.duration_s, bag.count)
    checks: list[TopicCheck] = []
    try:
        sensors = _sensors(bag, wanted, report)
        checks = [TopicCheck(bag, topic, modality) for modality, topic in sensors.items()]
        by_topic = {check.topic.name: check for check in checks}
        for message in bag.messages(list(by_topic)):
            by_topic[message.topic.name].take(message)
            progress((message.log_ns - bag.start_ns) / _NS)
    except KarmmaError as error:
        text, _, remedy = str(error).removeprefix(f"{bag.path}: ").partition(": ")
        report.findings.append(Finding(Severity.ERROR, "", text, remedy or "record it again"))
    used = {check.topic.name: check.modality for check in checks}
    report.topics = {
        t.name: {"type": t.type, "messages": t.count, "used_as": used.get(t.name, "")} for t in bag.topics.values()
    }
    for check in checks:
        report.used.append(check.report())
        report.findings += check.findings()
    report.findings += _whole(report)
    report.findings.sort(key=lambda finding: list(Severity).index(finding.severity))
    return report


def _sensors(bag: Bag, wanted: Mapping[str, str | None], report: BagReport) -> Sensors:
    """The topics that would be used; of several that could be meant, the first is looked at, and that is an error."""
    found = candidates(bag)
    resolved = dict(wanted)
    for modality, option in OPTIONS.items():
        topics = found[modality]
        if wanted.get(modality) is None:
            if len(topics) > 1:
                names = ", ".join(topic.name for topic in topics)
                text = f"{len(topics)} topics could be the {modality}: {names}"
                # few bundles ask for detections
                severity = Severity.WARNING if modality == "detections" else Severity.ERROR
                report.findings.append(Finding(severity, "", text, f"choose one with {option}"))
            resolved[modality] = topics[0].name if topics else NONE
    return choose(bag, resolved)


def _whole(report: BagReport) -> list[Finding]:
    """Findings about the bag as a whole."""
    findings = []

    def find(severity: Severity, text: str, remedy: str) -> None:
        findings.append(Finding(severity, "", text, remedy))

    there = {topic.modality for topic in report.used}
    if not there:
        find(Severity.ERROR, "no camera, no flow and no sound", "record the camera and the microphone (docs/bags.md)")
        return findings
    if "video" not in there:
        find(Severity.WARNING, "no camera", "record it, or live with a missing modality; predictions go by timer")
    if "audio" not in there:
        find(Severity.WARNING, "no sound", "record karmma_msgs/Audio, or live with a missing modality")
    if "flow" not in there and "video" in there:
        find(Severity.NOTE, "no flow", "none needed: it is computed from the camera")
    if report.duration_s < _SHORT_S:
        find(Severity.WARNING, f"only {report.duration_s:.1f} s long", "record more: a window of 2 s is never full")
    lags = {topic.modality: topic.lag_s for topic in report.used if topic.lag_s is not None}
    for modality in ("flow", "audio"):
        if "video" in lags and modality in lags and abs(lags[modality] - lags["video"]) > LAG_S:
            late_s = lags[modality] - lags["video"]
            text = f"stamps of {modality} lie {abs(late_s):.2f} s {'before' if late_s > 0 else 'after'} the camera's"
            find(Severity.WARNING, text, f"if that is constant: --stamp-offset {modality}={late_s:.2f}")
    return findings
