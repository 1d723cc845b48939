"""What a sweep of many tiny jobs costs: time a job and where it goes, memory, files, and reading all of it.

    python benchmarks/thousand_jobs.py [--jobs 1000] [--workers 2] [--keep DIR] [key=value ...]

Runs `train.py -m launcher=joblib` over seeds, then the same command again, which skips all of them, then
reads the sweep. The split of a job's time is that of its files: each is written at the end of a stage. Linux.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from itertools import pairwise
from pathlib import Path
from statistics import median

TRAIN = Path(__file__).resolve().parents[1] / "train.py"
SMALL = (
    "model.cell.hidden_size=4",
    "task.length=8",
    "task.num_sequences=4",
    "task.batch_size=2",
    "trainer=cpu",
    "trainer.max_epochs=2",
    "logger=none",
    "callbacks=none",
)
# stages of a job, by the file that each ends with
STAGES = (
    ("set-up", "config.yaml"),
    ("training", "checkpoints/last.ckpt"),
    ("page", "report.html"),
    ("book-keeping", "status.json"),
)
PEAK = """
import resource, sys
{}
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024, file=sys.stderr)
"""
READERS = {
    "open_sweep": "from rnnlab.runs import open_sweep; open_sweep(sys.argv[1])",
    "sweep's page": "from rnnlab.report import write_sweep_report; write_sweep_report(sys.argv[1])",
}


def sweep(folder: Path, jobs: int, workers: int, given: list[str]) -> tuple[float, float, int]:
    """Run the command: seconds, processor seconds of all, MiB at the peak of the process that was started."""
    command = [sys.executable, str(TRAIN), "-m", f"seed=range(1,{jobs + 1})", "launcher=joblib"]
    command += [f"hydra.launcher.n_jobs={workers}", f"hydra.sweep.dir={folder}", *SMALL, *given]
    began, before, peak = time.monotonic(), os.times(), 0
    process = subprocess.Popen(command, env=os.environ | {"OMP_NUM_THREADS": "1"})
    while process.poll() is None:
        try:
            status = Path(f"/proc/{process.pid}/status").read_text()
            peak = max(peak, *(int(line.split()[1]) for line in status.splitlines() if "VmHWM" in line), 0)
        except OSError:
            pass  # it has just ended
        time.sleep(0.2)
    if process.returncode:
        sys.exit(f"the sweep ended with exit code {process.returncode}")
    after = os.times()
    spent = after.children_user - before.children_user + after.children_system - before.children_system
    return time.monotonic() - began, spent, peak // 1024


def split(folder: Path) -> dict[str, float]:
    """Seconds of each stage, median over jobs; between jobs of one process Hydra composes the next."""
    stages: dict[str, list[float]] = defaultdict(list)
    spans: dict[int, list[tuple[float, float]]] = defaultdict(list)
    for entry in (json.loads(path.read_text()) for path in (folder / "jobs").glob("*.json")):
        run = folder / entry["run"]
        times = [(run / name).stat().st_mtime for name in (".lock", *(file for _, file in STAGES))]
        spans[entry["pid"]].append((times[0], times[-1]))
        for (stage, _), (before, after) in zip(STAGES, pairwise(times), strict=True):
            stages[stage].append(after - before)
    for own in spans.values():
        own.sort()
        stages["between jobs"] += [after[0] - before[1] for before, after in pairwise(own)]
    return {stage: median(seconds) for stage, seconds in stages.items()}


def sizes(folder: Path) -> dict[str, tuple[int, int, int]]:
    """Of each kind of file: how many, their bytes, and the bytes they take on the disk."""
    found: dict[str, tuple[int, int, int]] = defaultdict(lambda: (0, 0, 0))
    for base, folders, files in os.walk(folder):
        inside = Path(base).relative_to(folder).parts
        for name in files:
            info = (Path(base) / name).stat()
            kind = "/".join(("JOB", *inside[1:], name)) if inside and inside[0] != "jobs" else "of the sweep"
            kind = "jobs/NUMBER.json" if inside[:1] == ("jobs",) else kind
            count, apparent, taken = found[kind]
            found[kind] = count + 1, apparent + info.st_size, taken + 512 * info.st_blocks
        count, apparent, taken = found["directories"]
        taken += 512 * os.stat(base).st_blocks
        found["directories"] = count + len(folders), apparent, taken
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--jobs", type=int, default=1000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--keep", type=Path, help="directory that the sweep is left in")
    options, given = parser.parse_known_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.keep or Path(temporary) / "sweep"
        began = time.time()
        seconds, spent, peak = sweep(folder, options.jobs, options.workers, given)
        first = min(path.stat().st_mtime for path in folder.glob("*/.lock")) - began
        print(
            f"{options.jobs} jobs, {options.workers} at once: {seconds:.0f} s, the first began after", end=" "
        )
        print(f"{first:.0f} s; {spent / options.jobs:.2f} processor s a job; the command at most {peak} MiB")
        print(", ".join(f"{stage} {value:.3f} s" for stage, value in split(folder).items()))
        total = (0, 0, 0)
        for kind, parts in sorted(sizes(folder).items()):
            total = tuple(a + b for a, b in zip(total, parts, strict=True))
            print(f"{kind:32}{parts[0]:8}{parts[1] / 1024:12.0f} KiB{parts[2] / 1024:12.0f} KiB on disk")
        print(f"{'all':32}{total[0]:8}{total[1] / 1024:12.0f} KiB{total[2] / 1024:12.0f} KiB on disk")
        seconds, spent, _ = sweep(folder, options.jobs, options.workers, given)
        print(
            f"the same command again: {seconds:.0f} s, {1000 * spent / options.jobs:.0f} processor ms a job"
        )
        for name, code in READERS.items():
            began = time.monotonic()
            command = [sys.executable, "-c", PEAK.format(code), str(folder)]
            done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=TRAIN.parent)
            taken = time.monotonic() - began
            print(f"{name}: {taken:.1f} s, peak {done.stderr.split()[-1]} MiB")


if __name__ == "__main__":
    main()
