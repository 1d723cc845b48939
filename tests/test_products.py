import pytest
import torch

from rnnlab import products
from rnnlab.products import onednn_products

SWITCH = getattr(torch.backends.mkldnn, "matmul", None)
needs_switch = pytest.mark.skipif(SWITCH is None, reason="torch before 2.9 has no such switch")


def rounding(n=300):
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.randn(n, n, generator=generator) for _ in range(2))
    exact = a.double() @ b.double()
    return float((a @ b - exact).norm() / exact.norm())


def test_products_stay_float32():
    with onednn_products():
        assert rounding() < 1e-6  # bfloat16: 2e-3


def test_float64_is_left_alone():
    a = torch.randn(300, 300, dtype=torch.float64)
    plain = a @ a
    with onednn_products():
        assert torch.equal(a @ a, plain)


@needs_switch
def test_the_switch_is_put_back():
    before = SWITCH.fp32_precision
    assert before in ("none", "ieee")  # else a test before this one has left it on
    with onednn_products() as on, onednn_products() as again:
        assert on == again
        assert (SWITCH.fp32_precision == "bf16") == on
    assert SWITCH.fp32_precision == before
    with pytest.raises(KeyError), onednn_products():
        raise KeyError
    assert SWITCH.fp32_precision == before


class Rounds:
    """A switch that does what it says: matrices are rounded to bfloat16 before they are multiplied."""

    fp32_precision = "none"


@pytest.fixture
def fresh():
    products._stays_exact.cache_clear()
    yield
    products._stays_exact.cache_clear()


def test_nothing_happens_where_products_are_rounded(fresh, monkeypatch):
    switch, multiply = Rounds(), torch.Tensor.__matmul__

    def rounded(a, b):
        if switch.fp32_precision == "bf16":
            a, b = (m.bfloat16().float() for m in (a, b))
        return multiply(a, b)

    monkeypatch.setattr(products, "_switch", lambda: switch)
    monkeypatch.setattr(torch.Tensor, "__matmul__", rounded)
    with onednn_products() as on:
        assert not on
        assert switch.fp32_precision == "none"
        assert rounding() < 1e-6


@pytest.mark.parametrize("chosen", ["bf16", "tf32"])
def test_what_someone_has_chosen_is_left_alone(fresh, monkeypatch, chosen):
    switch = Rounds()
    switch.fp32_precision = chosen
    monkeypatch.setattr(products, "_switch", lambda: switch)
    with onednn_products() as on:
        assert not on
        assert switch.fp32_precision == chosen


def test_an_older_torch_has_no_switch(fresh, monkeypatch):
    monkeypatch.setattr(products, "_switch", lambda: None)
    with onednn_products() as on:
        assert not on
