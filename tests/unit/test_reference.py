"""The page docs/reference.md is made of the docstrings, and is as they are now."""

import subprocess
import sys
from pathlib import Path

import baozi

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "reference.md"


def test_the_reference_is_what_make_docs_makes_now() -> None:
    made = subprocess.run(
        [sys.executable, "deploy/reference"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert made.returncode == 0, made.stderr
    assert made.stdout == PAGE.read_text(), "docs/reference.md is out of date. Run `make docs`."


def test_the_reference_has_each_exported_name_and_what_an_app_calls() -> None:
    page = PAGE.read_text()
    for name in baozi.__all__:
        assert f"\n## {name}\n" in page
    for called in ["Reliable.task", "Retry.attempts", "Transaction.execute", "Transaction.session"]:
        assert f"\n### {called}\n" in page
    assert ":class:" not in page
    assert "``" not in page.replace("```", "")
