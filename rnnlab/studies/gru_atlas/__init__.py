"""The atlas of Jordan et al. (2019): every phase portrait of the paper, and what is certified of it.

    python -m rnnlab.studies.gru_atlas

`table_1.csv` and `table_3.csv` hold the paper's parameters, of the portraits of Section 4 (Table 1) and of
the 36 topologies of appendix C (Table 3); `table_2.csv` holds the published numbers of fixed points by
type. They are as printed, slips included. `corrected.csv` is not the paper's: it holds parameters near the
printed ones at which a row holds, found by `python -m rnnlab.studies.gru_atlas.corrections`.

References:
    I. D. Jordan, P. A. Sokol and I. M. Park, "Gated recurrent units viewed through the lens of continuous
    time dynamical systems" (submitted to ICLR 2019 as "The expressive power of gated recurrent units as a
    continuous dynamical system"): Tables 1 to 3, Fig. 2 to 9.
"""
