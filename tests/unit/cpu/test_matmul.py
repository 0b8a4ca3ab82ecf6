"""Products by oneDNN give torch's own numbers and gradients, and stay out where they do not belong."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from lorefuse.cpu import matmul
from lorefuse.cpu.matmul import Dense, linear, product

ROWS, WIDTH, COLUMNS = 300, 130, 70
"""Large enough for oneDNN, and no multiple of a register's width."""


@pytest.fixture(autouse=True)
def onednn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take oneDNN on every CPU, also where it is not the faster one, by one thread."""
    monkeypatch.setattr(matmul, "onednn_is_faster", lambda: True)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    assert ROWS * WIDTH * COLUMNS > matmul.MIN_MULTIPLICATIONS


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """Shapes of what oneDNN multiplied."""
    found: list[tuple[int, ...]] = []
    original = matmul._onednn

    def counted(values: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        found.append(tuple(values.shape))
        return original(values, weight, bias)

    monkeypatch.setattr(matmul, "_onednn", counted)
    return found


def layers() -> tuple[Dense, nn.Linear]:
    ours, plain = Dense(WIDTH, COLUMNS), nn.Linear(WIDTH, COLUMNS)
    plain.load_state_dict(ours.state_dict())
    return ours, plain


@pytest.mark.parametrize("shape", [(ROWS, WIDTH), (ROWS // 3, 3, WIDTH)])
def test_layer_and_its_gradients_are_torchs(shape: tuple[int, ...], calls: list[tuple[int, ...]]) -> None:
    ours, plain = layers()
    grads = []
    values = torch.randn(shape)
    for layer in (ours, plain):
        given = values.clone().requires_grad_()
        out = layer(given)
        assert out.shape == (*shape[:-1], COLUMNS)
        weighted = (out * torch.linspace(-1, 1, out.numel()).view(out.shape)).sum()
        grads.append((out, *torch.autograd.grad(weighted, (given, *layer.parameters()))))
    for mine, theirs in zip(*grads, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-4)
    assert calls == [(ROWS, WIDTH), (ROWS, COLUMNS), (COLUMNS, ROWS)]  # forward, of the input, of the weight


def test_narrow_weight_gradient_by_several_threads_copies_nothing(
    calls: list[tuple[int, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    grad, values = torch.randn(ROWS, COLUMNS), torch.randn(ROWS, WIDTH)
    alone = matmul.sum_of_outer(grad, values)
    assert calls == [(COLUMNS, ROWS)]
    for num_threads, num_calls in ((2, 2), (3, 2)):  # 130 columns are narrow for three threads, not for two
        monkeypatch.setattr(torch, "get_num_threads", lambda number=num_threads: number)
        torch.testing.assert_close(matmul.sum_of_outer(grad, values), alone, rtol=1e-4, atol=1e-4)
        assert len(calls) == num_calls


def test_frozen_input_costs_no_product(calls: list[tuple[int, ...]]) -> None:
    layers()[0](torch.randn(ROWS, WIDTH)).sum().backward()
    assert calls == [(ROWS, WIDTH), (COLUMNS, ROWS)]


def test_transposed_views_are_multiplied_too(calls: list[tuple[int, ...]]) -> None:
    values, weight = torch.randn(WIDTH, ROWS).T, torch.randn(WIDTH, COLUMNS).T
    torch.testing.assert_close(product(values, weight), values @ weight.T, rtol=1e-4, atol=1e-4)
    assert calls


def test_small_products_other_types_and_autocast_take_torchs_way(calls: list[tuple[int, ...]]) -> None:
    ours, plain = layers()
    small = torch.randn(4, WIDTH)
    assert torch.equal(ours(small), plain(small))
    large = torch.randn(ROWS, WIDTH)
    assert torch.equal(ours.double()(large.double()), plain.double()(large.double()))
    ours, plain = layers()
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(ours(large), plain(large))
    assert calls == []


def test_graph_for_export_holds_torchs_operators(calls: list[tuple[int, ...]]) -> None:
    with torch.no_grad():
        program = torch.export.export(layers()[0].eval(), (torch.randn(ROWS, WIDTH),))
    assert "mkldnn" not in str(program.graph)
    assert "linear" in str(program.graph)
    assert calls == []


@pytest.mark.parametrize(
    ("capability", "vendor", "expected"),
    [
        ("AVX512", "AuthenticAMD", True),
        ("AVX512", "GenuineIntel", False),
        ("AVX2", "AuthenticAMD", False),
        ("DEFAULT", "", False),
    ],
)
def test_the_kind_of_cpu_decides(
    capability: str, vendor: str, expected: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    (tmp_path / "cpuinfo").write_text(f"vendor_id\t: {vendor}\n")
    monkeypatch.setattr(matmul, "_CPU_PATH", tmp_path / "cpuinfo")
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    matmul.onednn_is_faster.cache_clear()
    assert matmul.onednn_is_faster() is expected
    matmul.onednn_is_faster.cache_clear()


def test_a_machine_that_says_nothing_about_its_cpu_takes_torchs_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    monkeypatch.setattr(matmul, "_CPU_PATH", tmp_path / "nothing")
    matmul.onednn_is_faster.cache_clear()
    assert not matmul.onednn_is_faster()
    matmul.onednn_is_faster.cache_clear()


def test_without_onednn_there_is_torchs_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    matmul.onednn_is_faster.cache_clear()
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    assert not matmul.onednn_is_faster()
    matmul.onednn_is_faster.cache_clear()
    assert linear(torch.ones(2, 3), torch.ones(4, 3)).tolist() == [[3.0] * 4] * 2
