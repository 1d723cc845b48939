"""Kinds of fixed points of two gated units: the fast count against certificates; what the search found."""

import numpy as np
import pytest
import torch

from rnnlab.analysis import certified_fixed_points
from rnnlab.studies import gru_structures
from rnnlab.studies.gru_atlas.cases import NAMES, cases, flow, portraits
from rnnlab.studies.gru_structures import certified, count, draw, known_structures, main, vary

TABLE = known_structures()


@pytest.mark.parametrize(
    "row", list(TABLE.itertuples()), ids=lambda row: f"{row.sinks}-{row.sources}-{row.saddles}"
)
def test_every_structure_of_the_table_is_certified(row):
    field = flow(torch.tensor([getattr(row, name) for name in NAMES], dtype=torch.float64))
    found = certified_fixed_points(field)
    assert found.complete
    assert found.index_sum == 1
    assert (found.kind != "non-hyperbolic").all()
    counts = [int((found.unstable == k).sum()) for k in (0, 2, 1)]
    assert counts == [row.sinks, row.sources, row.saddles]
    assert found.certified == row.fixed_points


def test_more_than_the_paper_has():
    kinds = {(row.sinks, row.sources, row.saddles): row.in_the_paper for row in TABLE.itertuples()}
    assert kinds[5, 1, 5] == "yes"  # the paper's largest
    assert kinds[4, 2, 5] == kinds[6, 1, 6] == kinds[5, 2, 6] == kinds[1, 1, 1] == "no"
    assert TABLE.fixed_points.max() >= 13


def test_the_count_agrees_with_certificates():
    for name in ("ix", "x", "xxii", "xxiii", "xxxi", "xxxvi"):
        case = cases()[name]
        parameters = torch.from_numpy(case.parameters)
        assert count(parameters[None].float())[0].tolist() == list(case.counts.values())[:3]
    parameters = draw(15, np.random.default_rng(0))
    counts = [tuple(row) for row in count(parameters).tolist()]
    proved = [certified(row) for row in parameters]
    assert np.mean([a == b for a, b in zip(counts, proved, strict=True)]) > 0.8
    assert len(set(proved)) > 2


def test_what_is_degenerate_is_certified_as_no_kind():
    assert certified(torch.from_numpy(portraits()["3b"].parameters)) is None


def test_variation_stays_near_and_finite():
    parents = draw(500, np.random.default_rng(1))
    children = vary(parents, np.random.default_rng(2))
    assert children.abs().max() <= 100
    changed = (children != parents).any(1)
    assert 0.3 < changed.float().mean() <= 1
    assert ((children - parents).abs() <= 6 * (parents.abs() + 0.2)).all()


def test_the_study_finds_the_common_structures(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(gru_structures, "BATCH", 64)
    main(["--sets", "256", "--out", str(tmp_path)])
    printed = capsys.readouterr().out
    assert "| 2 | 0 | 1 | 3 | yes |" in printed
    assert "128 sets at random, 128 by variation, seed 0" in printed
    lines = (tmp_path / "structures.csv").read_text().splitlines()
    assert lines[0].split(",")[-12:] == list(NAMES)
    assert (tmp_path / "largest.png").stat().st_size > 10_000
    with pytest.raises(ValueError, match=r"^sets=10 is not possible: give at least 256\.$"):
        main(["--sets", "10", "--out", str(tmp_path)])
