"""Each Chinese page is a translation of its English page as it is now: digest, code, links."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

PAGE = """\
# Page

[中文]({})

See [the tutorial]({}).

```sh
baozi demo  # ten times as fast
```
"""


def translations(root: Path, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, ROOT / "deploy" / "translations", *options, root],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A folder with one small page in the place of each named one, and their Chinese versions."""
    (tmp_path / "docs" / "zh-CN").mkdir(parents=True)
    for name in ["tutorial.md", "remote_mp.md", "reliability.md"]:
        (tmp_path / "docs" / name).write_text(PAGE.format(f"zh-CN/{name}", "tutorial.md"))
        chinese = PAGE.format(f"../{name}", "tutorial.md#page").replace("ten times as fast", "快十倍")
        (tmp_path / "docs" / "zh-CN" / name).write_text(chinese)
    (tmp_path / "README.md").write_text(PAGE.format("README.zh-CN.md", "docs/tutorial.md"))
    (tmp_path / "README.zh-CN.md").write_text(PAGE.format("README.md", "docs/zh-CN/tutorial.md"))
    done = translations(tmp_path, "--renew")
    assert (done.returncode, done.stderr) == (0, "")
    return tmp_path


def replace(path: Path, old: str, new: str) -> None:
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))


def test_the_chinese_pages_are_translations_of_the_english_pages_as_they_are_now() -> None:
    done = translations(ROOT)
    assert done.returncode == 0, done.stderr


def test_a_changed_english_page_is_named_until_the_digest_of_its_translation_is_renewed(clone: Path) -> None:
    replace(clone / "docs" / "tutorial.md", "See", "Read")
    done = translations(clone)
    assert done.returncode == 1
    assert done.stderr == (
        "docs/tutorial.md has changed since docs/zh-CN/tutorial.md was written. "
        "Renew the translation, then run `make translated`.\n"
    )
    assert translations(clone, "--renew").returncode == 0
    assert translations(clone).returncode == 0
    assert (clone / "docs" / "zh-CN" / "tutorial.md").read_text().count("translation of") == 1


def test_a_new_english_page_needs_a_chinese_version(clone: Path) -> None:
    (clone / "docs" / "how-to").mkdir()
    (clone / "docs" / "how-to" / "new.md").write_text("# New\n")
    done = translations(clone)
    assert done.returncode == 1
    assert done.stderr == (
        "docs/how-to/new.md has no Chinese version. "
        "Write docs/zh-CN/how-to/new.md, then run `make translated`.\n"
    )


@pytest.mark.parametrize(
    ("page", "old", "new", "problem"),
    [
        (
            "docs/zh-CN/tutorial.md",
            "baozi demo",
            "baozi dem0",
            "Block of code 1 of docs/zh-CN/tutorial.md is",
        ),
        ("docs/zh-CN/tutorial.md", "```sh", "```text", "Block of code 1 of docs/zh-CN/tutorial.md is"),
        ("README.zh-CN.md", "```", "", "README.zh-CN.md has 0 blocks of code, README.md has 1."),
        ("README.zh-CN.md", "zh-CN/tutorial", "zh-CN/x", "links to docs/zh-CN/x.md, which does not exist."),
        ("docs/zh-CN/remote_mp.md", "#page", "#x", "docs/zh-CN/tutorial.md#x, but the page has no such"),
        (
            "docs/zh-CN/remote_mp.md",
            "(tutorial.md#page)",
            "(../tutorial.md)",
            "Link to docs/zh-CN/tutorial.md.",
        ),
        ("docs/zh-CN/remote_mp.md", "[中文]", "# ", "has no link to docs/remote_mp.md in its first 6 lines."),
    ],
)
def test_wrong_code_and_wrong_links_are_named(
    clone: Path, page: str, old: str, new: str, problem: str
) -> None:
    replace(clone / page, old, new)
    done = translations(clone)
    assert done.returncode == 1
    assert problem in done.stderr


def test_a_chinese_page_without_its_english_page_is_named(clone: Path) -> None:
    (clone / "docs" / "remote_mp.md").unlink()
    done = translations(clone)
    assert done.returncode == 1
    assert "docs/remote_mp.md is missing." in done.stderr
    assert "docs/zh-CN/remote_mp.md is the translation of no page." in done.stderr
