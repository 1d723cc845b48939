"""Programs that redo what the papers show without training: `python -m rnnlab.studies.NAME`."""
