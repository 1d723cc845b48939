"""Who may import whom: read from the imports themselves."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# the first pattern that fits a file decides; each names the packages that the file must never import
FORBIDDEN = {
    "rnnlab/cells/": ("pytorch_lightning", "hydra", "xarray", "matplotlib", "rnnlab."),
    "rnnlab/analysis/": ("rnnlab.model", "rnnlab.cells", "pytorch_lightning", "matplotlib", "hydra"),
    "rnnlab/figures/": ("torch", "pytorch_lightning", "hydra", "matplotlib.pyplot"),
    "rnnlab/intervals.py": ("rnnlab.", "pytorch_lightning", "hydra", "xarray"),
    "rnnlab/labelled.py": ("rnnlab.", "torch", "pytorch_lightning", "hydra"),
    "rnnlab/maps.py": ("rnnlab.", "pytorch_lightning", "hydra", "xarray"),
    "rnnlab/families.py": ("rnnlab.analysis", "rnnlab.learner", "rnnlab.task", "pytorch_lightning", "hydra"),
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
    "rnnlab/runs.py": (),
    "rnnlab/cli.py": (),
    "rnnlab/": ("hydra",),
    "datamodules/": ("hydra", "callbacks", "rnnlab.model", "rnnlab.learner", "rnnlab.analysis"),
    "callbacks/": ("hydra", "datamodules", "conf", "rnnlab.cells", "rnnlab.runs"),
}
ALWAYS = {"rnnlab/": ("callbacks", "datamodules", "conf", "train")}
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


@pytest.mark.parametrize("file", FILES)
def test_imports_follow_the_plan_of_the_house(file):
    forbidden = next(names for prefix, names in FORBIDDEN.items() if file.startswith(prefix))
    forbidden += next((names for prefix, names in ALWAYS.items() if file.startswith(prefix)), ())
    if file.startswith("rnnlab/cells/"):
        forbidden = tuple(name for name in forbidden if name != "rnnlab.") + (
            "rnnlab.model",
            "rnnlab.task",
            "rnnlab.learner",
            "rnnlab.analysis",
            "rnnlab.systems",
        )
    for name in imports(ROOT / file):
        for bad in forbidden:
            assert name != bad.rstrip("."), f"{file} imports {name}"
            assert not name.startswith(bad.rstrip(".") + "."), f"{file} imports {name}"


def test_every_file_is_covered_by_a_rule():
    assert FILES
    assert all(any(file.startswith(prefix) for prefix in FORBIDDEN) for file in FILES)
