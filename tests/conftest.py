"""Every test starts from one thread and one seed."""

import random

import numpy as np
import pytest
import torch
from hypothesis import settings

# a shared machine may stall at any moment: no example fails for the time it took
settings.register_profile("rnnlab", deadline=None)
settings.load_profile("rnnlab")


@pytest.fixture(autouse=True)
def _reproducible():
    torch.set_num_threads(1)
    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002
    random.seed(0)
    dtype = torch.get_default_dtype()
    yield
    torch.set_default_dtype(dtype)


def pytest_collection_modifyitems(items):
    if not torch.cuda.is_available():
        skip = pytest.mark.skip(reason="no CUDA device here")
        for item in items:
            if "gpu" in item.keywords:
                item.add_marker(skip)
