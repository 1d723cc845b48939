"""A browser without a window, to use pages as a person does. It ends with the tests that share it."""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

WAIT = 30  # seconds for anything that is to happen on a page
FLAGS = (
    "--headless=new",
    "--no-sandbox",  # which root may not have
    "--disable-dev-shm-usage",
    "--disable-gpu",
    "--enable-unsafe-swiftshader",  # WebGL by the processor
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--window-size=1300,1000",
)


class Browser:
    """A window with one page.

    Attributes:
        driver: Selenium's.
    """

    def __init__(self, driver: Any) -> None:
        self.driver = driver

    def open(self, page: Path) -> None:
        """Load a page."""
        self.driver.get(page.resolve().as_uri())

    def all(self, selector: str) -> list[Any]:
        """The elements that a CSS selector finds."""
        return self.driver.find_elements("css selector", selector)

    def one(self, selector: str) -> Any:
        """The only such element."""
        (found,) = self.all(selector)
        return found

    def column(self, table: str, number: int) -> list[str]:
        """What stands in a column, counted from 1, in the rows that are to be seen."""
        cells = self.all(f"{table} > tbody > tr > td:nth-child({number})")
        return [cell.text for cell in cells if cell.is_displayed()]

    def wait(self, condition: Any) -> Any:
        """Until it gives something true; fails after `WAIT` seconds."""
        from selenium.webdriver.support.ui import WebDriverWait

        return WebDriverWait(self.driver, WAIT, poll_frequency=0.1).until(lambda _: condition())

    def errors(self) -> list[str]:
        """What the page complained of since the last time, warnings aside."""
        return [line["message"] for line in self.driver.get_log("browser") if line["level"] == "SEVERE"]


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """Chromium, run by its driver; skips where one of them is missing."""
    pytest.importorskip("selenium", reason="no selenium here: pip install selenium")
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    names = ("chromium", "chromium-browser", "google-chrome")
    binary = next(filter(None, map(shutil.which, names)), None)
    driver = shutil.which("chromedriver")
    if binary is None or driver is None:
        pytest.skip("no chromium and chromedriver here, of Debian: apt-get install chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = binary
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('chromium')}"):
        options.add_argument(flag)
    service = Service(driver)
    opened = webdriver.Chrome(options=options, service=service)
    processes = [service.process.pid, opened.capabilities.get("goog:processID")]
    try:
        opened.set_page_load_timeout(2 * WAIT)
        opened.set_script_timeout(WAIT)
        yield Browser(opened)
    finally:
        with suppress(Exception):  # a browser that has crashed is to be gone as well
            opened.quit()
        for process in filter(None, processes):
            _end(process)


def _end(process: int) -> None:
    """Wait for a process that was told to end, and make it."""
    for _ in range(50):
        if not Path(f"/proc/{process}").exists():
            return
        time.sleep(0.1)
    with suppress(ProcessLookupError):
        os.kill(process, signal.SIGKILL)
