"""Every command and script that a document names is there, with the options that it is given."""

import argparse
import re
import shlex
from pathlib import Path

import dev
import pytest

from ldm_tutorial import cli

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *ROOT.glob("docs/**/*.md")])
BLOCK = re.compile(r"```.*?```|^(?: {4}.*\n)+", re.DOTALL | re.MULTILINE)
SPAN = re.compile(r"`([^`]+)`")
# A log names what was run at the time: with these words after it, options may be those of another commit.
THEN = re.compile(r"`[^`]+`\s+of commit [0-9a-f]{7}")


def code_of(page: str) -> list[str]:
    """The lines of the blocks of code, without comments, and the spans of code in the text."""
    page = THEN.sub("", page)
    lines = [line.partition(" #")[0].strip() for block in BLOCK.findall(page) for line in block.split("\n")]
    return lines + [" ".join(span.split()) for span in SPAN.findall(BLOCK.sub("", page))]


def subparsers(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    return next((action.choices for action in parser._actions if isinstance(action, argparse._SubParsersAction)), {})


def wrong_command(words: list[str]) -> str | None:
    """What is wrong with the words of a call of `ldm-tutorial`, its name aside; None if nothing is."""
    parser = cli.make_parser(words)
    for word in words[:2]:
        choices = subparsers(parser)
        if choices and not word.startswith(("-", "PART", "COMMAND")):
            if word not in choices:
                return f"there is no {word!r}"
            parser = choices[word]
    if words[0] == "lab":  # the rest is for JupyterLab
        return None
    unknown = {word.partition("=")[0] for word in words if re.match(r"--?[a-z]", word)} - {*parser._option_string_actions}
    return f"{' '.join(words[:2])} has no {unknown}" if unknown else None


def problems(page: str) -> list[str]:
    found = []
    for code in code_of(page):
        if call := re.match(
            r"(?:ldm-tutorial|python3? -m ldm_tutorial|torchrun .*-m ldm_tutorial) ([a-z-].*)|(train [a-z]+.*)$", code
        ):
            words = shlex.split((call[1] or call[2]).replace("\\", ""))
            found += [f"{code}: {wrong}"] if (wrong := wrong_command(words)) else []
        if (call := re.match(r"make ([a-z][a-z-]*)", code)) and call[1] not in dev.COMMANDS:
            found.append(f"{code}: make has no {call[1]!r}")
        found += [
            f"{code}: there is no {name}"
            for name in re.findall(r"\b(?:tools|tests)/[a-z\d_/]+\.py", code)
            if not (ROOT / name).exists()
        ]
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_commands_of_documents_are_there(page):
    assert problems(page.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    "text, wrong",
    [
        ("Run `ldm-tutorial train nothing`.", "there is no 'nothing'"),
        ("Run `ldm-tutorial\nfly`.", "there is no 'fly'"),
        ("```\nldm-tutorial generate 'a cat' --stepz 3   # three\n```\n", "has no {'--stepz'}"),
        ("As `train lora --data FOLDER --word x` does.", "train lora has no {'--word'}"),
        ("    make everything\n", "make has no 'everything'"),
        ("`python tools/none.py --all`", "there is no tools/none.py"),
    ],
)
def test_a_command_that_is_not_there_is_found(text, wrong):
    [problem] = problems(text)
    assert wrong in problem


def test_what_is_there_is_not_complained_of():
    page = "`ldm-tutorial train unet --data FOLDER --steps 3`, `make test`, `ldm-tutorial lab --no-browser`\n\n    make lab\n"
    assert problems(page + "`ldm-tutorial train unet --crop 1` of commit 0123456") == []
