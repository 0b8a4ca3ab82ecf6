from __future__ import annotations

import http.server
import threading

import pytest

from lorefuse.config import GuardConfig
from lorefuse.core.errors import UnreachableError
from lorefuse.deploy.guard import SCORE_OFFSET, Judgement, judge, scrape
from lorefuse.export.signature import CANARY, STABLE

GUARD = GuardConfig(min_requests=10, max_error_rate=0.1, max_p99_ratio=2.0, max_score_shift=1.0)


def counts(
    front: str,
    version: int,
    *,
    requests: int,
    failures: int = 0,
    latency_ms: float = 5.0,
    scores: tuple[float, ...] = (0.0, 1.0),
) -> dict[str, float]:
    return {
        f"{front}|{version}|requests": requests,
        f"{front}|{version}|failures": failures,
        f"{front}|{version}|latency_bucket|{latency_ms}": requests,
        f"{front}|{version}|score_count": len(scores),
        f"{front}|{version}|score_sum": sum(scores) + SCORE_OFFSET * len(scores),
        f"{front}|{version}|score_square_sum": sum(value**2 for value in scores),
    }


OLD = counts(STABLE, 1, requests=100)


def test_a_version_like_the_one_before_is_good() -> None:
    finding = judge({}, OLD | counts(CANARY, 2, requests=20), 1, 2, GUARD)
    assert finding.judgement == Judgement.GOOD
    assert "20 requests, 0 failed" in finding.reason


def test_too_few_requests_tell_nothing() -> None:
    finding = judge({}, OLD | counts(CANARY, 2, requests=9), 1, 2, GUARD)
    assert (finding.judgement, finding.num_requests) == (Judgement.WAIT, 9)


def test_failures_need_no_quorum_once_they_break_it_for_good() -> None:
    """Two failures of three: even if the next seven succeed, 2 of 10 are more than a tenth."""
    assert judge({}, counts(CANARY, 2, requests=1, failures=2), 1, 2, GUARD).judgement == Judgement.BAD
    assert judge({}, counts(CANARY, 2, requests=1, failures=1), 1, 2, GUARD).judgement == Judgement.WAIT


def test_the_p99_is_held_to_the_old_versions() -> None:
    slow = counts(CANARY, 2, requests=20, latency_ms=11.0)
    finding = judge({}, OLD | slow, 1, 2, GUARD)
    assert finding.judgement == Judgement.BAD
    assert "p99 11 ms against 5 ms" in finding.reason


def test_the_p99_is_the_bucket_of_the_99th_of_a_hundred() -> None:
    fast = {
        f"{CANARY}|2|latency_bucket|1.0": 98.0,
        f"{CANARY}|2|latency_bucket|9.0": 2.0,
        f"{CANARY}|2|requests": 100.0,
    }
    old = {f"{STABLE}|1|latency_bucket|5.0": 100.0, f"{STABLE}|1|requests": 100.0}
    assert "p99 9 ms against 5 ms" in judge({}, old | fast, 1, 2, GUARD).reason


def test_scores_that_move_by_more_than_the_old_deviation_are_bad() -> None:
    """Old scores 0 and 1: mean .5, deviation .5. A mean of 1.5 is two deviations away."""
    moved = counts(CANARY, 2, requests=20, scores=(1.0, 2.0))
    finding = judge({}, OLD | moved, 1, 2, GUARD)
    assert finding.judgement == Judgement.BAD
    assert "2.00 standard deviations" in finding.reason


def test_what_was_counted_before_the_trial_does_not_count() -> None:
    before = counts(CANARY, 2, requests=50, failures=50)
    after = {name: value * 1.0 for name, value in before.items()} | {f"{CANARY}|2|requests": 65.0}
    finding = judge(before, OLD | after, 1, 2, GUARD)
    assert (finding.judgement, finding.num_requests) == (Judgement.GOOD, 15)


def test_a_restarted_server_counts_from_zero() -> None:
    finding = judge({f"{CANARY}|2|requests": 1000.0}, OLD | counts(CANARY, 2, requests=20), 1, 2, GUARD)
    assert finding.num_requests == 20


def test_scrape_reads_the_fronts_alone() -> None:
    page = (
        "# TYPE lorefuse_front_requests counter\n"
        'lorefuse_front_requests{front="recommend_canary",version="2"} 7\n'
        "# TYPE lorefuse_front_latency_bucket counter\n"
        'lorefuse_front_latency_bucket{front="recommend_canary",version="2",le="1.25"} 3\n'
        "# TYPE nv_inference_count counter\n"
        'nv_inference_count{model="ranker",version="1"} 9\n'
    )

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(page.encode())

        def log_message(self, *_: object) -> None: ...

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        got = scrape(f"http://127.0.0.1:{server.server_port}/metrics")
        server.shutdown()
    assert got == {"recommend_canary|2|requests": 7.0, "recommend_canary|2|latency_bucket|1.25": 3.0}
    with pytest.raises(UnreachableError, match="metrics do not answer"):
        scrape(f"http://127.0.0.1:{server.server_port}/metrics")
