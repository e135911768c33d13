"""A skipped test is a failure where CI is set, and nowhere else (`conftest.py`)."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

IN_THE_BODY = "import pytest\ndef test_a(): pytest.skip('no disk')"
BY_MARK = "import pytest\n@pytest.mark.skip(reason='no disk')\ndef test_a(): pass"
WHOLE_FILE = "import pytest\npytest.skip('no disk', allow_module_level=True)"
EXPECTED_FAILURE = "import pytest\n@pytest.mark.xfail(reason='known')\ndef test_a(): assert False"
PASSES = "def test_a(): pass"


def run_pytest(folder: Path, source: str, *, ci: bool) -> subprocess.CompletedProcess[str]:
    """Run pytest on one test file, with our conftest and nothing else of the project's."""
    (folder / "test_one.py").write_text(source)
    environment = {name: value for name, value in os.environ.items() if name != "CI" and "PYTEST" not in name}
    environment |= {"PYTHONPATH": str(ROOT)} | ({"CI": "true"} if ci else {})
    command = [sys.executable, "-m", "pytest", "-p", "tests.conftest", "-rA", "--rootdir", str(folder), "test_one.py"]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)


@pytest.mark.parametrize("source", [IN_THE_BODY, BY_MARK, WHOLE_FILE])
def test_skip_fails_in_ci_naming_the_test_and_the_reason(source: str, tmp_path: Path) -> None:
    result = run_pytest(tmp_path, source, ci=True)
    assert result.returncode not in (0, 5), result.stdout
    assert "test_one.py" in result.stdout
    assert "skipped, which counts as failed where CI is set" in result.stdout
    assert "no disk" in result.stdout


@pytest.mark.parametrize("source", [EXPECTED_FAILURE, PASSES])
def test_what_has_run_passes_in_ci(source: str, tmp_path: Path) -> None:
    result = run_pytest(tmp_path, source, ci=True)
    assert result.returncode == 0, result.stdout


@pytest.mark.parametrize("source", [IN_THE_BODY, BY_MARK])
def test_skip_is_fine_elsewhere(source: str, tmp_path: Path) -> None:
    result = run_pytest(tmp_path, source, ci=False)
    assert result.returncode == 0, result.stdout
    assert "1 skipped" in result.stdout
