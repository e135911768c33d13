"""What holds for every test: in CI nothing is skipped, and without FUSE nothing that mounts is run."""

from __future__ import annotations

import os
import shutil
from collections.abc import Generator

import pytest
from hypothesis import settings

# A slow machine is not a failure; `timeout` in pyproject.toml catches what hangs.
settings.register_profile("ecfs", deadline=None, print_blob=True)
settings.load_profile("ecfs")

IN_CI = bool(os.environ.get("CI"))


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--s3", metavar="URL", help="run the tests of buckets on this store (AWS_* credentials)")


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("mount") and (why := why_no_mount()):
        pytest.skip(why)


def why_no_mount() -> str | None:
    """Why no FUSE file system can be mounted on this machine; None if nothing speaks against it."""
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        return "/dev/fuse can't be opened"
    if not shutil.which("fusermount3"):
        return "fusermount3 is missing (Debian package fuse3)"
    return None


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    # An expected failure (xfail) is reported as skipped too, but it has run.
    if IN_CI and report.skipped and not hasattr(report, "wasxfail"):
        fail_skipped(report)
    return report


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    if IN_CI and report.skipped:
        fail_skipped(report)
    return report


def fail_skipped(report: pytest.TestReport | pytest.CollectReport) -> None:
    """Turn a skip into a failure: a test that CI leaves out proves nothing, and nobody would notice."""
    reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    report.outcome = "failed"
    report.longrepr = f"skipped, which counts as failed where CI is set. {reason}"
