"""The store: what goes in comes out, whole looks only, whatever happens to the process."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from zarr.storage import LocalStore

from rnnlab.store import MARK, Store

KINDS = {
    "flag": np.array([True, False, True]),
    "small": np.array([1, -2, 3], np.int16),
    "count": np.array([0, 7, 2**40]),
    "byte": np.array([0, 200, 255], np.uint8),
    "single": np.array([1.5, np.nan, -np.inf], np.float32),
    "double": np.array([np.pi, -0.0, np.nan]),
    "complex": np.array([1 + 2j, -1j, np.nan]),
    "moment": np.array(["2020-06-01", "NaT", "2021-01-01T12:00:00.5"], "M8[ns]"),
    "span": np.array([1, 2, 3], "m8[ms]"),
    "word": np.array(["a", "", "Frequenz ω = 0,218"]),
}


def look(epoch: int, points: int = 3) -> xr.Dataset:
    """A look whose every number follows from its epoch."""
    rng = np.random.default_rng(epoch)
    return xr.Dataset(
        {
            "y": (("probe", "time"), rng.standard_normal((2, 50)), {"units": "1"}),
            "settled": ("probe", rng.random(2) < 0.5),
            "eigenvalue": ("point", rng.standard_normal(points) + 1j * rng.standard_normal(points)),
            "period": ("point", rng.integers(1, 9, points)),
            "best": ((), rng.standard_normal()),
        },
        coords={"probe": ["omega = 0.218", "omega = 0.3"], "omega": ("probe", [0.218, 0.3])},
        attrs={"burn_in": 1200},
    )


def assert_looks(store: Store, epochs: list[int]) -> None:
    seen = store.read("bifurcation")
    assert seen.epoch.values.tolist() == epochs
    for epoch in epochs:
        xr.testing.assert_identical(seen.sel(epoch=epoch).drop_vars("epoch").load(), look(epoch))


def test_looks_come_back_as_they_went_in(tmp_path: Path) -> None:
    store = Store(tmp_path / "analysis.zarr")
    assert store.names == ()
    for epoch in (0, 100, 300):
        store.append("bifurcation", look(epoch), epoch=epoch)
    store.append("lyapunov", xr.Dataset({"exponent": ("index", [0.1, -0.2])}), epoch=5)
    assert store.names == ("bifurcation", "lyapunov")
    assert "lyapunov" in store
    assert "entropy" not in store
    assert_looks(Store(tmp_path / "analysis.zarr"), [0, 100, 300])
    assert store.read("bifurcation").attrs == {"burn_in": 1200}
    assert store.read("bifurcation").indexes["epoch"].tolist() == [0, 100, 300]


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_number_round_trips(tmp_path: Path, kind: str) -> None:
    values = KINDS[kind]
    there = xr.Dataset(
        {"value": ("i", values), "first": ((), values[0])}, coords={"i": values[:3], "c": values[1]}
    )
    if kind in ("single", "double", "complex", "moment"):  # no index with missing labels
        there = there.drop_vars("i")
    store = Store(tmp_path)
    store.append("a", there, epoch=1)
    store.append("a", there, epoch=2)
    seen = store.read("a")
    for epoch in (1, 2):
        xr.testing.assert_identical(seen.sel(epoch=epoch).drop_vars("epoch").load(), there)
    if kind != "word":
        assert seen["value"].dtype == values.dtype


def test_numbers_are_read_only_when_used(tmp_path: Path) -> None:
    store = Store(tmp_path)
    for epoch in range(3):
        store.append("bifurcation", look(epoch), epoch=epoch)
    seen = store.read("bifurcation")
    for chunk in (tmp_path / "bifurcation" / "y" / "c" / "1").rglob("*"):
        if chunk.is_file():
            chunk.write_bytes(b"not a chunk")
    np.testing.assert_array_equal(seen.y.sel(epoch=2), look(2).y)
    with pytest.raises(RuntimeError):
        seen.y.sel(epoch=1).load()


def test_unchanging_coordinates_are_stored_once_and_a_look_is_one_chunk(tmp_path: Path) -> None:
    store = Store(tmp_path)
    written = set()
    for epoch in range(4):
        store.append("bifurcation", look(epoch), epoch=epoch)
        written.add((tmp_path / "bifurcation" / "omega" / "c" / "0").stat().st_mtime_ns)
    assert len(written) == 1

    def chunks(key: str) -> int:
        return sum(path.is_file() for path in (tmp_path / "bifurcation" / key / "c").rglob("*"))

    assert store.read("bifurcation").omega.dims == ("probe",)
    assert (chunks("omega"), chunks("probe"), chunks("y"), chunks("epoch")) == (1, 1, 4, 1)


@pytest.mark.parametrize("kind", KINDS)
def test_axes_grow_and_missing_cells_are_filled(tmp_path: Path, kind: str) -> None:
    values = KINDS[kind]
    fill = {"b": False, "i": -1, "U": "", "M": "NaT", "m": "NaT"}.get(values.dtype.kind, np.nan)
    fill = np.iinfo(values.dtype).max if values.dtype.kind == "u" else fill
    store = Store(tmp_path)
    sizes = (2, 0, 3, 1)
    for epoch, size in enumerate(sizes):
        there = xr.Dataset({"value": (("i", "j"), np.stack([values[:size]] * 2, axis=1))})
        store.append("a", there, epoch=epoch)
    seen = store.read("a")["value"].values
    assert seen.shape == (4, 3, 2)
    for row, size in zip(seen, sizes, strict=True):
        np.testing.assert_array_equal(row[:size, 1], values[:size])
        np.testing.assert_array_equal(row[size:, 1], np.full(3 - size, fill, values.dtype))


def test_labels_of_a_growing_axis_grow_with_it(tmp_path: Path) -> None:
    store = Store(tmp_path)
    for epoch, labels in enumerate((["a", "b"], ["a"], ["a", "b", "long name"])):
        store.append("a", xr.Dataset({"v": ("i", np.arange(len(labels)))}, coords={"i": labels}), epoch=epoch)
    seen = store.read("a")
    assert seen.i.values.tolist() == ["a", "b", "long name"]
    assert seen.v.sel(i="b").values.tolist() == [1, -1, 1]


def test_truncate_forgets_later_looks_so_that_a_resumed_run_writes_them_once(tmp_path: Path) -> None:
    store = Store(tmp_path)
    for epoch in (0, 10, 20, 30):
        store.append("bifurcation", look(epoch), epoch=epoch)
    store.append("late", xr.Dataset({"v": ("i", [1.0, 2.0])}), epoch=30)
    store.truncate(15)
    assert store.names == ("bifurcation",)
    assert_looks(store, [0, 10])
    for epoch in (20, 30, 40):
        store.append("bifurcation", look(epoch), epoch=epoch)
    store.append("late", xr.Dataset({"other": ("k", [True])}), epoch=30)
    assert_looks(store, [0, 10, 20, 30, 40])
    assert list(store.read("late").data_vars) == ["other"]


def test_a_row_left_by_a_truncated_look_does_not_shine_through(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.append("a", xr.Dataset({"v": ("i", [1.0])}), epoch=0)
    store.append("a", xr.Dataset({"v": ("i", [2.0, 3.0, 4.0])}), epoch=1)
    store.truncate(0)
    store.append("a", xr.Dataset({"v": ("i", [5.0])}), epoch=1)
    np.testing.assert_array_equal(store.read("a").v, [[1.0, np.nan, np.nan], [5.0, np.nan, np.nan]])


WRONG = {
    "the same epoch": (look(7), 7, "epoch=7 is not after 7"),
    "an earlier epoch": (look(3), 3, "epochs must increase"),
    "a variable less": (look(8).drop_vars("best"), 8, "not all looks .* have best"),
    "a variable more": (look(8).assign(extra=1.0), 8, "not all looks .* have extra"),
    "other axes": (look(8).transpose("time", ...), 8, r"'y' .* has axes \('time', 'probe'\)"),
    "a wider type": (look(8).assign(settled=("probe", [0.5, 1.0])), 8, "'settled' .* holds float64"),
    "a changed label": (
        look(8).assign_coords(probe=["omega = 0.218", "p"]),
        8,
        "coordinate 'probe' .* is not",
    ),
    "an epoch axis": (look(8).expand_dims(epoch=1), 8, "has an 'epoch' already"),
    "an object": (look(8).assign(best=((), {"a": 1})), 8, "'best' holds object"),
    "an attribute": (look(8).assign_attrs(system=object()), 8, "attribute 'system' .* is a object"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_look_that_does_not_fit_is_refused_and_changes_nothing(tmp_path: Path, case: str) -> None:
    dataset, epoch, message = WRONG[case]
    store = Store(tmp_path)
    store.append("bifurcation", look(7), epoch=7)
    with pytest.raises(ValueError, match=message) as caught:
        store.append("bifurcation", dataset, epoch=epoch)
    assert "\n" not in str(caught.value)
    assert_looks(store, [7])


def test_unknown_names_are_refused(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with pytest.raises(ValueError, match=r"'bifurcation' .* there is nothing yet"):
        store.read("bifurcation")
    store.append("lyapunov", look(1), epoch=1)
    with pytest.raises(ValueError, match="there is lyapunov"):
        store.read("bifurcation")
    for name in ("", "a/b", "../up", ".hidden"):
        with pytest.raises(ValueError, match="cannot name an analysis"):
            store.append(name, look(1), epoch=1)


def test_a_foreign_or_damaged_directory_is_one_clear_line(tmp_path: Path) -> None:
    foreign = tmp_path / "photos"
    foreign.mkdir()
    (foreign / "cat.jpg").write_bytes(b"meow")
    with pytest.raises(ValueError, match=r"photos is no analysis store") as caught:
        Store(foreign)
    file = tmp_path / "file"
    file.write_text("x")
    with pytest.raises(OSError, match=r"cannot read the analysis store .*file"):
        Store(file)
    with pytest.raises(OSError, match=r"cannot (read|write) the analysis store .*file/below"):
        Store(file / "below").append("a", look(1), epoch=1)

    for damage in ("", '{"zarr_format": 3}', '{"half": ', "\x00\x00"):
        path = tmp_path / f"damaged {len(damage)}"
        Store(path).append("bifurcation", look(1), epoch=1)
        (path / "bifurcation" / "zarr.json").write_text(damage)
        with pytest.raises(ValueError, match="is damaged") as caught:
            Store(path)
        assert "\n" not in str(caught.value)


@pytest.mark.filterwarnings("ignore:Object at")
@pytest.mark.parametrize("damage", ["missing", "broken"])
def test_a_damaged_array_is_one_clear_line(tmp_path: Path, damage: str) -> None:
    store = Store(tmp_path)
    store.append("bifurcation", look(1), epoch=1)
    metadata = tmp_path / "bifurcation" / "epoch" / "zarr.json"
    if damage == "missing":
        metadata.unlink()
    else:
        metadata.write_text(metadata.read_text()[:40])
    for attempt in (lambda: store.read("bifurcation"), lambda: store.append("bifurcation", look(2), epoch=2)):
        with pytest.raises(ValueError, match="is damaged") as caught:
            attempt()
        assert "\n" not in str(caught.value)


def run_python(program: str, *arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program), *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
    )


@pytest.mark.skipif(not hasattr(os, "setuid"), reason="POSIX permissions")
def test_a_read_only_directory_is_one_clear_line(tmp_path: Path) -> None:
    program = """
        import os, sys
        import xarray as xr
        from rnnlab.store import Store
        store = Store(sys.argv[1])
        look = xr.Dataset({"v": ("i", [1.0])})
        Store(sys.argv[2]).append("a", look, epoch=0)  # everything is imported and open before rights go
        if os.getuid() == 0:
            os.setuid(65534)
        for attempt in (lambda: store.append("a", look, epoch=1), lambda: store.truncate(0)):
            try:
                attempt()
            except OSError as error:
                print(error.errno, error)
    """
    path = tmp_path / "analysis.zarr"
    Store(path).append("a", xr.Dataset({"v": ("i", [1.0])}), epoch=0)
    Store(path).append("b", xr.Dataset({"v": ("i", [1.0])}), epoch=7)
    for folder in (p for p in [tmp_path, *tmp_path.parents] if "pytest-of-" in str(p)):
        folder.chmod(0o755)
    folders = [path, *(folder for folder in path.rglob("*") if folder.is_dir())]
    for folder in folders:
        folder.chmod(0o555)
    output, _ = run_python(program, path, tmp_path / "other").communicate(timeout=60)
    for folder in folders:
        folder.chmod(0o755)
    lines = output.strip().splitlines()
    assert len(lines) == 2, output
    for line in lines:
        assert line.startswith("13 ")
        assert f"cannot write the analysis store {path}: Permission denied." in line
    assert Store(path).names == ("a", "b")


def test_a_full_disk_is_one_clear_line_and_loses_no_look(tmp_path: Path) -> None:
    pytest.importorskip("resource")
    program = """
        import resource, signal, sys
        import numpy as np, xarray as xr
        from rnnlab.store import Store
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # a file above the limit is then an OSError
        store = Store(sys.argv[1])
        store.append("a", xr.Dataset({"v": ("i", np.zeros(100_000))}), epoch=0)
        resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, resource.RLIM_INFINITY))
        noise = xr.Dataset({"v": ("i", np.random.default_rng(0).random(100_000))})
        try:
            store.append("a", noise, epoch=1)
        except OSError as error:
            print(error)
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        assert store.read("a").epoch.values.tolist() == [0]
        store.append("a", noise, epoch=1)
        np.testing.assert_array_equal(store.read("a").v.sel(epoch=1), noise.v)
        print("goes on")
    """
    path = tmp_path / "analysis.zarr"
    output, _ = run_python(program, path).communicate(timeout=60)
    lines = output.strip().splitlines()
    assert len(lines) == 2, output
    assert f"cannot write the analysis store {path}: File too large." in lines[0]
    assert lines[1] == "goes on"


def test_a_killed_writer_loses_no_acknowledged_look(tmp_path: Path) -> None:
    """SIGKILL at random moments: what was acknowledged is there, nothing half is seen, appending goes on."""
    program = f"""
        import sys
        sys.path.insert(0, {str(Path(__file__).parent)!r})
        from test_store import Store, look
        store, epoch = Store(sys.argv[1]), int(sys.argv[2])
        while True:
            store.append("bifurcation", look(epoch), epoch=epoch)
            print(epoch, flush=True)
            epoch += 1
    """
    path, rng = tmp_path / "analysis.zarr", np.random.default_rng(0)
    epochs: list[int] = []
    for _ in range(4):
        process = run_python(program, path, len(epochs))
        assert process.stdout is not None
        process.stdout.readline()  # the first look: from now on it may die at any time
        time.sleep(rng.uniform(0, 0.3))
        process.send_signal(signal.SIGKILL)
        acknowledged = [len(epochs), *map(int, process.stdout.read().split())]
        process.wait()
        store = Store(path)
        seen = store.read("bifurcation").epoch.values.tolist()
        # the last look may have been whole before its acknowledgement got through
        assert acknowledged[-1] + 1 <= len(seen) <= acknowledged[-1] + 2
        epochs = list(range(len(seen)))
        assert_looks(store, epochs)
        store.append("bifurcation", look(len(epochs)), epoch=len(epochs))
        epochs.append(len(epochs))
    assert_looks(Store(path), epochs)


def test_a_kill_between_any_two_writes_leaves_whole_looks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Dies at the first, second, ... file of a look that grows an axis: every moment a SIGKILL may find."""

    class Dead(Exception):
        pass

    def grown(epoch: int, labels: str) -> xr.Dataset:
        values = np.arange(len(labels)) + 10.0 * epoch
        return xr.Dataset({"v": ("i", values), "w": ("i", -values)}, coords={"i": list(labels)})

    write, moments = LocalStore.set, 0
    for moments in itertools.count():
        store = Store(tmp_path / str(moments))
        store.append("a", grown(0, "ab"), epoch=0)
        written: list[str] = []

        async def dying(
            self: LocalStore, key: str, value: object, *, stop: int = moments, written: list[str] = written
        ) -> None:
            if len(written) >= stop:
                raise Dead
            written.append(key)
            await write(self, key, value)  # type: ignore[arg-type]

        with monkeypatch.context() as patch, contextlib.suppress(Dead):
            patch.setattr(LocalStore, "set", dying)
            store.append("a", grown(1, "abxyz"), epoch=1)
            break

        again = Store(tmp_path / str(moments))
        xr.testing.assert_identical(again.read("a").sel(epoch=0).drop_vars("epoch").load(), grown(0, "ab"))
        assert again.read("a").sizes == {"epoch": 1, "i": 2}
        again.append("a", grown(1, "abc"), epoch=1)
        seen = again.read("a")
        assert seen.i.values.tolist() == ["a", "b", "c"]
        np.testing.assert_array_equal(seen.v, [[0, 1, np.nan], [10, 11, 12]])
        np.testing.assert_array_equal(seen.w, [[0, -1, np.nan], [-10, -11, -12]])
    assert moments > 10


def test_a_kill_in_the_first_look_leaves_an_empty_store(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.append("a", look(0), epoch=0)
    metadata = tmp_path / "a" / "zarr.json"
    attributes = json.loads(metadata.read_text())
    del attributes["attributes"][MARK]
    metadata.write_text(json.dumps(attributes))
    assert Store(tmp_path).names == ()
    store.append("a", xr.Dataset({"other": 1.0}), epoch=0)
    assert list(store.read("a").data_vars) == ["other"]


@pytest.mark.filterwarnings("ignore:Object at")
def test_a_partial_file_of_a_killed_first_append_is_no_stranger(tmp_path: Path) -> None:
    (tmp_path / "zarr.0123.partial").write_text("{")
    store = Store(tmp_path)
    store.append("bifurcation", look(0), epoch=0)
    assert_looks(store, [0])


def test_a_reader_sees_whole_looks_while_a_writer_grows_them(tmp_path: Path) -> None:
    store, reader = Store(tmp_path), Store(tmp_path)
    store.append("bifurcation", look(0), epoch=0)
    before = reader.read("bifurcation")
    store.append("bifurcation", look(1, points=9), epoch=1)
    xr.testing.assert_identical(before.sel(epoch=0).drop_vars("epoch").load(), look(0))
    assert reader.read("bifurcation").sizes["point"] == 9
