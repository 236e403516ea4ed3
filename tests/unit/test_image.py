"""The image's recipe: pinned, without root, without secrets, and with nothing in it that does not run."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
RECIPE = (ROOT / "Dockerfile").read_text()
#: Its instructions, each on one line; and those of the last stage, which is what runs.
INSTRUCTIONS = re.sub(r"\\\n( *#.*\n)*", " ", re.sub(r"^#.*\n", "", RECIPE, flags=re.MULTILINE)).splitlines()
LAST_STAGE = INSTRUCTIONS[max(place for place, it in enumerate(INSTRUCTIONS) if it.startswith("FROM")) :]


def of(kind: str) -> list[str]:
    return [it.removeprefix(kind).strip() for it in INSTRUCTIONS if it.startswith(kind + " ")]


def test_each_base_image_has_a_version_that_is_not_latest() -> None:
    default = dict(it.split("=") for it in of("ARG"))
    for base in of("FROM"):
        image = re.sub(r"\$\{(\w+)\}", lambda name: default[name[1]], base.split()[0])
        assert re.fullmatch(r"[\w./-]+:[\d.]+\S*", image), image


def test_every_package_comes_by_its_hash() -> None:
    installs = re.findall(r"pip install ([^&]*)", " ".join(of("RUN")))
    assert installs
    for options in installs:
        # The project's own wheel, made in this very stage, is the exception: it has no index to come from.
        assert "--require-hashes" in options or "--no-index" in options, options


def test_nothing_is_fetched_but_by_pip_and_nothing_is_unpacked_unseen() -> None:
    assert not of("ADD")
    assert not [it for it in of("RUN") if re.search(r"\b(curl|wget|apt-get|apt|sudo)\b", it)]


def test_the_image_runs_as_a_numeric_user_that_is_not_root() -> None:
    users = [it.split()[1] for it in LAST_STAGE if it.startswith("USER ")]
    assert users
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", users[-1])


def test_no_secret_is_built_in() -> None:
    built_in = [*of("ARG"), *of("ENV"), *of("COPY")]
    assert not [it for it in built_in if re.search(r"password|secret|token|\.env\b", it, re.IGNORECASE)]


def test_commands_are_lists_that_no_shell_reads_and_folders_are_absolute() -> None:
    commands = [*of("CMD"), *of("ENTRYPOINT")]
    assert commands
    assert all(it.startswith("[") for it in commands)
    assert all(it.startswith("/") for it in of("WORKDIR"))


def test_the_image_has_labels_with_author_and_licence() -> None:
    assert "org.opencontainers.image.licenses" in " ".join(of("LABEL"))
