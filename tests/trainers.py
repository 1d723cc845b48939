"""A trainer that says and writes nothing of its own."""

import pytorch_lightning as pl


def quiet_trainer(*callbacks, epochs=1, **options):
    """On the CPU, with these callbacks and no others; any argument of the trainer may be given."""
    silent = {
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }
    return pl.Trainer(accelerator="cpu", max_epochs=epochs, callbacks=list(callbacks), **silent | options)
