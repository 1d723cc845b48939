"""WikiText-2 from the Hugging Face Hub, or from a copy of its files there."""

from __future__ import annotations

import hashlib
import os
import queue
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from datamodules.corpus import PARTS, sha256, write

if TYPE_CHECKING:
    import requests

REPOSITORY = "Salesforce/wikitext"
REVISION = "b08601e04326c79dfdd32d625aee71d232d685c3"
FILES = {
    "train": "wikitext-2-v1/train-00000-of-00001.parquet",
    "valid": "wikitext-2-v1/validation-00000-of-00001.parquet",
    "test": "wikitext-2-v1/test-00000-of-00001.parquet",
}
PATIENCE = 8.0  # seconds without an answer, or without a byte


def fetch(cache: Path, hashes: Mapping[str, str], source: Path | None = None) -> Path:
    """Put the three texts into the cache, if they are not there, byte for byte as they were published.

    A part is written only when it is complete and its hash is right; what a broken download has not brought
    is fetched by the next. The environment variables HF_ENDPOINT, for a mirror, and HF_HUB_OFFLINE are
    heeded, and those that name proxies.

    Args:
        cache: Folder of the cache.
        hashes: SHA-256 of each text.
        source: A folder with the files of the Hub. Default: the Hub.

    Returns:
        The folder with train.txt, valid.txt and test.txt.

    Raises:
        ConnectionError: The Hub can't be reached, or breaks off.
        ValueError: What it gives is not the text.
        OSError: The cache can't be written.
    """
    folder = cache / "wikitext-2"
    for part in PARTS:
        target = folder / f"{part}.txt"
        if target.is_file() and sha256(target) == hashes[part]:
            continue
        origin = str(source / FILES[part]) if source else _address(part)
        text = text_of(Path(origin).read_bytes() if source else _download(origin, part), origin)
        if (found := hashlib.sha256(text).hexdigest()) != hashes[part]:
            raise ValueError(
                f"{origin} is not the text of WikiText-2 (its SHA-256 is {found[:8]}..., not "
                f"{hashes[part][:8]}...): fetch it again, or give task.data_dir=FOLDER with train.txt, "
                "valid.txt and test.txt."
            )
        write(target, text)
    return folder


def holds_hub_files(folder: Path) -> bool:
    """Whether a folder has WikiText-2 as the Hub does."""
    return all((folder / name).is_file() for name in FILES.values())


def text_of(parquet: bytes, origin: str) -> bytes:
    """The text in a Parquet file of the Hub: its rows are the lines, where "" is a blank one, " \\n".

    Args:
        parquet: Content of the file.
        origin: What to call it.

    Raises:
        ValueError: It is damaged, or has no column of text.
    """
    # takes half a second to import, and only a first run needs it
    import pyarrow
    from pyarrow.parquet import read_table

    try:
        rows = read_table(pyarrow.BufferReader(parquet), columns=["text"])["text"].to_pylist()
        return "".join(row or " \n" for row in rows).encode()
    except (pyarrow.ArrowException, OSError, KeyError, TypeError) as error:
        raise ValueError(
            f"{origin} is no Parquet file with a column text, or is damaged: fetch it again."
        ) from error


def _address(part: str) -> str:
    endpoint = os.environ.get("HF_ENDPOINT") or "https://huggingface.co"
    return f"{endpoint.rstrip('/')}/datasets/{REPOSITORY}/resolve/{REVISION}/{FILES[part]}"


def _download(address: str, part: str) -> bytes:
    import requests
    from tqdm import tqdm

    if os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE"):
        raise ConnectionError(_unreachable(address, "HF_HUB_OFFLINE is set"))
    try:
        with _within(PATIENCE, lambda: requests.get(address, stream=True, timeout=PATIENCE)) as answer:
            answer.raise_for_status()
            size = int(answer.headers.get("Content-Length", 0)) or None
            content = bytearray()
            with tqdm(desc=f"WikiText-2 {part}", total=size, unit="B", unit_scale=True) as bar:
                for chunk in answer.iter_content(1 << 16):
                    content += chunk
                    bar.update(len(chunk))
    except (requests.RequestException, TimeoutError) as error:
        raise ConnectionError(_unreachable(address, _cause(error))) from error
    return bytes(content)


def _cause(error: Exception) -> str:
    import requests

    if isinstance(error, requests.HTTPError):
        return f"{error.response.status_code} {error.response.reason}"
    if isinstance(error, requests.exceptions.ChunkedEncodingError):
        return "it broke off"
    if isinstance(error, TimeoutError | requests.Timeout):
        return "no answer"
    return "no connection" if type(error) is requests.ConnectionError else type(error).__name__


def _unreachable(address: str, cause: str) -> str:
    return (
        f"WikiText-2 can't be fetched from {address.split('/datasets/')[0]} ({cause}): try again, or give "
        "task.data_dir=FOLDER with train.txt, valid.txt and test.txt."
    )


def _within(seconds: float, ask: Callable[[], requests.Response]) -> requests.Response:
    """An answer, if it comes in time: looking up a name and trying its addresses in turn have no limit."""
    answers: queue.SimpleQueue[requests.Response | Exception] = queue.SimpleQueue()

    def work() -> None:
        try:
            answers.put(ask())
        except Exception as error:
            answers.put(error)

    threading.Thread(target=work, daemon=True).start()
    try:
        answer = answers.get(timeout=seconds)
    except queue.Empty:
        raise TimeoutError(f"no answer in {seconds} s") from None
    if isinstance(answer, Exception):
        raise answer
    return answer
