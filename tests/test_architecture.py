"""Who may import whom: read from the imports themselves."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

TRAINING = (
    "pytorch_lightning",
    "rnnlab.model",
    "rnnlab.learner",
    "rnnlab.task",
    "rnnlab.ensemble",
    "rnnlab.runs",
)
DYNAMICS = ("rnnlab.analysis", "rnnlab.systems", "rnnlab.autonomous")
PICTURES = ("matplotlib", "plotly", "rnnlab.figures", "rnnlab.report")

# the first pattern that fits a file decides; each names the packages that the file must never import
FORBIDDEN = {
    "rnnlab/cells/": ("pytorch_lightning", "hydra", "xarray", "matplotlib", "rnnlab."),
    "rnnlab/analysis/": (
        *TRAINING,
        *PICTURES,
        "rnnlab.cells",
        "rnnlab.autonomous",
        "rnnlab.gru_flow",
        "hydra",
    ),
    "rnnlab/figures/": (*TRAINING, "torch", "rnnlab.analysis", "hydra", "matplotlib.pyplot"),
    "rnnlab/studies/": ("rnnlab.report", "rnnlab.learner", "pytorch_lightning", "hydra", "matplotlib.pyplot"),
    "rnnlab/integrate.py": ("rnnlab.", "pytorch_lightning", "hydra", "xarray"),
    "rnnlab/gru_flow.py": (*TRAINING, *PICTURES, "rnnlab.analysis", "rnnlab.autonomous", "hydra", "xarray"),
    "rnnlab/ensemble.py": (*DYNAMICS, *PICTURES, "rnnlab.task", "rnnlab.runs", "hydra"),
    "rnnlab/members.py": ("rnnlab.", "torch", "pytorch_lightning", "hydra"),
    "rnnlab/intervals.py": ("rnnlab.", "pytorch_lightning", "hydra", "xarray"),
    "rnnlab/labelled.py": ("rnnlab.", "torch", "pytorch_lightning", "hydra"),
    "rnnlab/maps.py": ("rnnlab.", "pytorch_lightning", "hydra", "xarray"),
    "rnnlab/families.py": ("rnnlab.analysis", "rnnlab.learner", "rnnlab.task", "pytorch_lightning", "hydra"),
    "rnnlab/sweeps.py": (*TRAINING, *PICTURES, "torch", "hydra"),
    "rnnlab/traces.py": (*TRAINING, *PICTURES, "torch", "hydra"),
    "rnnlab/parameters.py": ("rnnlab.", "torch", "pytorch_lightning", "hydra"),
    "rnnlab/opened.py": (*PICTURES, "torch", "pytorch_lightning", "hydra"),
    "rnnlab/terminal.py": (*TRAINING, *PICTURES, "torch", "hydra"),
    "rnnlab/plaintext.py": ("rnnlab.", "torch", "hydra"),
    "rnnlab/stacking.py": (*TRAINING, *PICTURES, "torch", "hydra"),
    "rnnlab/glance.py": (*TRAINING, *PICTURES, "torch", "hydra"),
    "rnnlab/importance.py": ("rnnlab.", "torch", "pytorch_lightning", "hydra", "xarray"),
    "rnnlab/shares.py": (*TRAINING, *PICTURES, "hydra"),
    "rnnlab/products.py": ("rnnlab.", "pytorch_lightning", "hydra", "xarray"),
    "rnnlab/softmax.py": ("rnnlab.", "pytorch_lightning", "hydra", "xarray"),
    "rnnlab/store.py": ("torch", "pytorch_lightning", "hydra"),
    "rnnlab/report/": ("torch", "pytorch_lightning", "hydra"),
    "rnnlab/systems.py": ("rnnlab.", "pytorch_lightning", "hydra", "xarray"),
    "rnnlab/autonomous.py": (
        "pytorch_lightning",
        "hydra",
        "rnnlab.learner",
        "rnnlab.task",
        "rnnlab.analysis",
    ),
    "rnnlab/model.py": ("pytorch_lightning", "hydra", "rnnlab.learner", "rnnlab.task", "rnnlab.analysis"),
    "rnnlab/objectives.py": ("rnnlab.", "pytorch_lightning", "hydra"),
    "rnnlab/task.py": ("rnnlab.model", "rnnlab.learner", "hydra"),
    "rnnlab/learner.py": ("hydra", "rnnlab.analysis", "rnnlab.store", "rnnlab.figures", "rnnlab.systems"),
    "rnnlab/engines/": ("torch", "pytorch_lightning", "rnnlab.jobs", "rnnlab.overview"),
    "rnnlab/jobs.py": ("torch", "pytorch_lightning"),
    "rnnlab/overview.py": ("torch", "pytorch_lightning"),
    "rnnlab/ledger.py": ("rnnlab.", "torch", "pytorch_lightning", "hydra", "pandas", "xarray"),
    "rnnlab/runs.py": (),
    "rnnlab/cli.py": (),
    "rnnlab/": ("hydra",),
    "datamodules/": ("hydra", "callbacks", "rnnlab.model", "rnnlab.learner", "rnnlab.analysis"),
    "callbacks/": ("hydra", "datamodules", "conf", "rnnlab.cells", "rnnlab.runs"),
}
ALWAYS = {"rnnlab/": ("callbacks", "datamodules", "conf", "train", "rnnlab.studies")}
# what a file may import all the same
ALLOWED = {
    "rnnlab/cells/": ("rnnlab.cells",),
    "rnnlab/systems.py": ("rnnlab.integrate",),
    "rnnlab/integrate.py": ("rnnlab.systems.VectorField",),  # for its type
    "rnnlab/objectives.py": ("rnnlab.softmax",),
    "rnnlab/softmax.py": ("rnnlab.products",),
    "rnnlab/studies/": ("rnnlab.studies",),
}
FILES = sorted(
    p.relative_to(ROOT).as_posix()
    for top in ("rnnlab", "datamodules", "callbacks")
    for p in (ROOT / top).rglob("*.py")
)


def imports(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def starts(name: str, packages: tuple[str, ...]) -> bool:
    return any(f"{name}.".startswith(f"{package.rstrip('.')}.") for package in packages)


@pytest.mark.parametrize("file", FILES)
def test_imports_follow_the_plan_of_the_house(file):
    forbidden, always, allowed = (
        next((names for prefix, names in rules.items() if file.startswith(prefix)), ())
        for rules in (FORBIDDEN, ALWAYS, ALLOWED)
    )
    for name in imports(ROOT / file):
        if not starts(name, allowed):
            assert not starts(name, forbidden + always), f"{file} imports {name}"


def test_every_file_is_covered_by_a_rule():
    assert FILES
    assert all(any(file.startswith(prefix) for prefix in FORBIDDEN) for file in FILES)
