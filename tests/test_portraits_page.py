"""The page says of every network which topology it has, and lists its points."""

from __future__ import annotations

import numpy as np

from rnnlab.report import portraits
from rnnlab.report.portraits import count_topologies, list_cycles, list_history, list_points, phase_portrait
from tests.figures.portraits import alone, looks


def test_topologies_are_counted_the_most_frequent_first():
    rows = count_topologies(looks([[1.5, 0.9, -2.0, 0.8]]))
    assert rows == [
        ("2 of 4", "member 1, member 3", "1 sink", "1 sink"),
        ("1 of 4", "member 0", "1 saddle", "1 saddle"),
        ("1 of 4", "member 2", "1 saddle", "1 sink"),  # as a flow it is another one
    ]


def test_many_members_of_one_topology_are_not_all_named():
    ((count, which, *_),) = count_topologies(looks([[0.9] * 15]))
    assert count == "15 of 15"
    assert which.endswith("member 11, ...")


def test_changes_over_training_are_told_once():
    rows = list_history(alone([0.9, 0.8, -2.0, 1.5, 1.6, 0.9]))
    assert rows == [
        ("0 to 100", "1 sink", "1 sink"),
        ("200", "1 saddle", "1 sink"),
        ("300 to 400", "1 saddle", "1 saddle"),
        ("500", "1 sink", "1 sink"),
    ]


def test_points_and_cycles_of_the_last_look():
    dataset = looks([[0.9, 0.9], [-2.0, -1.0]])
    assert list_points(dataset) == [
        ("member 0", "(0, 0)", "(0.2, -0.1)", "saddle", "sink", "-2, 0.5", "1.0e-17"),
        ("member 1", "(0, 0)", "(0.2, -0.1)", "undecided", "sink", "-1, 0.5", "1.0e-17"),
    ]
    assert list_cycles(dataset) == [("member 1", "2", "-1.4 to 1.8, -0.5 to 0.3")]


def test_the_section_of_a_network_and_of_an_ensemble():
    one = phase_portrait(alone([0.9, -2.0]))
    for said in ("At epoch 100", "<td>100</td><td>1 saddle</td><td>1 sink</td>", "All there are, by proof."):
        assert said in one, said
    assert one.count("Plotly.newPlot") == 2
    many = phase_portrait(looks([[0.9, 0.8], [0.9, -2.0]]))
    assert "<td>1 of 2</td>" in many
    assert many.count("Plotly.newPlot") == 3  # with topologies over the epochs


def test_a_projection_and_points_without_proof_are_said():
    page = phase_portrait(alone([0.9], goal=False, planar=False))
    assert "a projection" in page
    assert "there may be more" in page
    assert "by proof" not in page


def test_what_is_undecided_is_no_proof_of_the_rest():
    dataset = alone([0.9])
    dataset["undecided"][:] = 2
    assert "but for what is undecided" in phase_portrait(dataset)


def test_long_vectors_and_complex_numbers_are_short():
    assert portraits._vector(np.arange(40.0)).endswith("11, ...)")
    assert portraits._complex(0.5 - 0.25j) == "0.5 - 0.25i"


def test_names_are_escaped():
    dataset = alone([0.9]).assign_coords(probe=["<b>&"])
    page = phase_portrait(dataset)
    assert "<b>&" not in page.replace("<b>&amp;", "")
