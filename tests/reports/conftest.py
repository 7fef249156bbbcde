"""One browser for all browser tests of the reports."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.reports.chromium import Chromium, executable


@pytest.fixture(scope="session")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    if executable() is None:
        reason = "NO BROWSER: the HTML report was not driven. Install chromium to run these tests."
        pytest.skip(reason)
    browser = Chromium(tmp_path_factory.mktemp("chromium"))
    yield browser
    browser.close()
