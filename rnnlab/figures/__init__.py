"""One picture, one file: pure functions from labelled numbers to a figure; no torch, no pyplot state."""
