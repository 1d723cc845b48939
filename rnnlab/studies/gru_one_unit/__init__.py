"""One gated recurrent unit as a flow: `fixed_points` has the mathematics, `python -m` draws Fig. 1."""
