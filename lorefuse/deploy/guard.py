"""Live guards of a trial: what the router counted, read from Triton's metrics page, and what follows from it."""

from __future__ import annotations

import math
import urllib.request
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from lorefuse.config import GuardConfig
from lorefuse.core.errors import UnreachableError
from lorefuse.export.signature import CANARY, STABLE

PREFIX, ANSWERED = "lorefuse_front_", "nv_inference_request_success"
SCRAPE_TIMEOUT_S = 3.0
SCORE_OFFSET = 1000.0
"""The router adds it to every score, for a Prometheus counter must not fall."""
Counts = dict[str, float]


class Judgement(StrEnum):
    """What the guards say."""

    GOOD = "good"
    BAD = "bad"
    WAIT = "wait"  # too few requests to tell


@dataclass(frozen=True)
class Finding:
    """A judgement and its numbers.

    Attributes:
        judgement: What the guards say.
        reason: In words, with the numbers.
        num_requests: Requests of the new version that were judged.
    """

    judgement: Judgement
    reason: str
    num_requests: int


def scrape(metrics_url: str) -> Counts:
    """Read the router's counters: ``<front>|<version>|<name>[|<le>]`` → value; empty before the first request.

    Raises:
        UnreachableError: The metrics page does not answer.
    """
    counts: Counts = {}
    for sample in _samples(metrics_url):
        if sample.name.startswith(PREFIX) and {"front", "version"} <= set(sample.labels):
            name = sample.name.removeprefix(PREFIX).removesuffix("_total")
            labels = [sample.labels["front"], sample.labels["version"], name, sample.labels.get("le", "")]
            counts["|".join(filter(None, labels))] = sample.value
    return counts


def num_answered(metrics_url: str, model: str) -> float:
    """Return how many requests of a model were answered since the server started.

    Raises:
        UnreachableError: The metrics page does not answer.
    """
    samples = _samples(metrics_url)
    return float(sum(one.value for one in samples if one.name == ANSWERED and one.labels.get("model") == model))


def _samples(metrics_url: str) -> list[Any]:
    from prometheus_client.parser import text_string_to_metric_families

    try:
        with urllib.request.urlopen(metrics_url, timeout=SCRAPE_TIMEOUT_S) as page:  # noqa: S310  (our own server)
            text = page.read().decode()
    except (OSError, ValueError) as error:
        raise UnreachableError("Triton's metrics do not answer.", expected=metrics_url, got=str(error)) from None
    return [sample for family in text_string_to_metric_families(text) for sample in family.samples]


def judge(baseline: Counts, counts: Counts, stable: int, canary: int, guard: GuardConfig) -> Finding:
    """Hold what the new version did since the baseline to the guards.

    Args:
        baseline: Counters at the beginning of the trial.
        counts: Counters now. A counter below its baseline has been reset by a restart, and counts from 0.
        stable: Version that answered before.
        canary: Version on trial.
        guard: The limits.

    Returns:
        `bad` as soon as one limit is broken for good, `wait` below the least number of requests, else `good`.
    """
    since = {name: value - _before(baseline.get(name, 0.0), value) for name, value in counts.items()}
    new, old = _Front(since, CANARY, canary), _Front(since, STABLE, stable)
    total = new.answered + new.failed
    if new.failed > guard.max_error_rate * max(total, guard.min_requests):
        return Finding(Judgement.BAD, f"{new.failed:.0f} of {total:.0f} requests failed", int(total))
    if total < guard.min_requests:
        return Finding(Judgement.WAIT, f"{total:.0f} of {guard.min_requests} requests so far", int(total))
    lines = [f"{total:.0f} requests, {new.failed:.0f} failed"]
    p99, p99_before = new.quantile_ms(0.99), old.quantile_ms(0.99)
    if math.isfinite(p99) and math.isfinite(p99_before):
        lines.append(f"p99 {p99:.3g} ms against {p99_before:.3g} ms")
        if p99 > guard.max_p99_ratio * p99_before:
            return Finding(Judgement.BAD, f"too slow: {', '.join(lines)}", int(total))
    shift = _shift(new, old)
    if shift is not None:
        lines.append(f"best score moved by {shift:.2f} standard deviations")
        if shift > guard.max_score_shift:
            return Finding(Judgement.BAD, f"other scores: {', '.join(lines)}", int(total))
    overlap = new.mean_overlap()
    if overlap is not None:
        lines.append(f"{overlap:.0%} of the items are the same")
    return Finding(Judgement.GOOD, ", ".join(lines), int(total))


def _before(baseline: float, value: float) -> float:
    return baseline if value >= baseline else 0.0


class _Front:
    """Counters of one front."""

    def __init__(self, since: Counts, front: str, version: int) -> None:
        prefix = f"{front}|{version}|"
        self.counts = {name.removeprefix(prefix): value for name, value in since.items() if name.startswith(prefix)}
        self.answered, self.failed = self.counts.get("requests", 0.0), self.counts.get("failures", 0.0)

    def quantile_ms(self, quantile: float) -> float:
        """Return the upper end of the bucket that holds the quantile; NaN where nothing was answered."""
        buckets = sorted(
            (float(name.partition("|")[2]), count)
            for name, count in self.counts.items()
            if name.startswith("latency_bucket|")
        )
        rest = quantile * sum(count for _, count in buckets)
        for end_ms, count in buckets:
            rest -= count
            if rest <= 1e-9 and count:
                return end_ms
        return math.nan

    def moments(self) -> tuple[float, float] | None:
        """Return mean and standard deviation of the best score; None below two users."""
        num = self.counts.get("score_count", 0.0)
        if num < 2:
            return None
        mean = self.counts.get("score_sum", 0.0) / num - SCORE_OFFSET
        variance = self.counts.get("score_square_sum", 0.0) / num - mean**2
        return mean, math.sqrt(max(0.0, variance))

    def mean_overlap(self) -> float | None:
        """Return the mean share of items that both versions name; None outside shadow mode."""
        num = self.counts.get("overlap_count", 0.0)
        return self.counts.get("overlap_sum", 0.0) / num if num else None


def _shift(new: _Front, old: _Front) -> float | None:
    after, before = new.moments(), old.moments()
    if after is None or before is None or before[1] <= 0:
        return None
    return abs(after[0] - before[0]) / before[1]
