#!/usr/bin/env python3
"""A test to print, and its key with the reasons, from course/questions.yml.

    python tools/exam.py --seed 7                                   20 questions from all notebooks
    python tools/exam.py --seed 7 --notebooks 00-03 08 --count 12   from some
    python tools/exam.py --seed 7 --levels 1 2 --language de        easy and middle ones, in another language

Written are runs/exams/seed-7/test.html and key.html: one file each, without network, for A4 and Letter. The same seed gives the
same test. Another seed gives other questions and other numbers of the same difficulty: as many from each notebook, as many of
each level there, and as many different goals.
"""

from __future__ import annotations

import argparse
import html
import itertools
import json
import random
import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path

from questions import LETTERS, QUESTIONS, Question, Rendered, languages, read, read_translated, render, words

ROOT = QUESTIONS.parent.parent
LEVELS = (1, 2, 1, 2, 3)  # in turn: 40 % to recall or trace, 40 % to apply, 20 % to transfer
TITLE = re.compile(r"^#\s+(?P<number>\d\d[a-z]?) · (?P<title>.+)$", re.MULTILINE)


# ---- which questions


def plan(questions: Sequence[Question], count: int) -> dict[str, Counter[int]]:
    """How many questions of each level come from each notebook. No seed is in it, so every test of this size has the same plan.

    Raises ValueError if there are fewer than `count` questions.
    """
    if not 1 <= count <= len(questions):
        raise ValueError(f"--count {count}: choose from 1 to {len(questions)} questions")
    left: dict[str, Counter[int]] = defaultdict(Counter)
    for question in questions:
        left[question.notebook][question.level] += 1
    wanted: dict[str, Counter[int]] = defaultdict(Counter)
    turns = itertools.cycle(sorted(left))
    for i in range(count):
        notebook = next(name for name in turns if left[name].total())
        level = LEVELS[(i + i // len(left)) % len(LEVELS)]
        if not left[notebook][level]:  # then the level of which most are left, the lower one first
            level = max(sorted(left[notebook]), key=lambda each: left[notebook][each])
        left[notebook][level] -= 1
        wanted[notebook][level] += 1
    return {name: wanted[name] for name in sorted(wanted)}


def choose(questions: Sequence[Question], count: int, seed: int) -> list[Question]:
    """The questions of a test, in the order of the notebooks: as `plan` says, with as many different goals as it allows."""
    chance = random.Random(f"exam {seed}")
    chosen = []
    for notebook, levels in plan(questions, count).items():
        own = [question for question in questions if question.notebook == notebook]
        chosen += chance.choice(best_choices(own, levels))
    return sorted(chosen, key=lambda question: question.id)


def best_choices(questions: Sequence[Question], levels: Counter[int]) -> list[list[Question]]:
    """All choices with so many questions of each level, of those that repeat goals the least."""
    parts = [
        list(itertools.combinations([question for question in questions if question.level == level], number))
        for level, number in sorted(levels.items())
    ]
    choices = [list(itertools.chain(*choice)) for choice in itertools.product(*parts)]
    least = min(map(repeats, choices))
    return [choice for choice in choices if repeats(choice) == least]


def repeats(choice: Sequence[Question]) -> list[int]:
    """How often goals are asked for, the most frequent first: the smaller, the more evenly."""
    return sorted(Counter(question.goal for question in choice).values(), reverse=True)


# ---- the pages

STYLE = """
:root { color-scheme: light; font: 11pt/1.45 Georgia, "Times New Roman", "DejaVu Serif", serif; }
body { max-width: 44rem; margin: 2rem auto; padding: 0 1rem; color: #111; background: #fff; }
h1 { font-size: 1.5rem; margin: 0 0 .3rem; }
h2 { font-size: 1.05rem; margin: 1.6rem 0 .4rem; border-bottom: 1px solid #777; break-after: avoid; }
.about { margin: 0 0 1rem; color: #333; }
.who { display: flex; gap: 1.5rem; margin: 1rem 0 .5rem; }
.who span { flex: 1; border-bottom: 1px solid #111; padding-bottom: .2rem; }
section { break-inside: avoid; margin: 0 0 1.1rem; }
.stem { margin: 0 0 .35rem; font-weight: 600; }
ol { list-style: none; margin: 0; padding: 0; }
li { display: grid; grid-template-columns: 2.6rem 1fr; margin: .16rem 0; }
.box { font-weight: 600; white-space: nowrap; }
.right > span:not(.because) { font-weight: 700; }
.because { grid-column: 2; font-size: .92em; color: #333; }
.meta { font-weight: 400; font-size: .82em; color: #444; }
code { font: .88em "DejaVu Sans Mono", Menlo, Consolas, monospace; overflow-wrap: anywhere; }
sub { line-height: 0; font-size: .75em; }
table { border-collapse: collapse; margin: .5rem 0 1rem; }
td, th { border: 1px solid #777; padding: .1rem .5rem; text-align: center; }
@page { margin: 18mm 16mm; }
@media print { body { max-width: none; margin: 0; padding: 0; } }
"""


def page(title: str, body: str, language: str) -> str:
    head = f'<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{html.escape(title)}</title>'
    head += f"\n<style>{STYLE}</style>"
    return f'<!doctype html>\n<html lang="{language}">\n<head>{head}</head>\n<body>\n{body}</body>\n</html>\n'


def paper(test: Sequence[Rendered], seed: int, language: str = "en") -> str:
    """The test as it is handed out."""
    say = words(language)
    body = f"<h1>{say['title']}</h1>\n<p class=about>{about(test, seed, say)} {say['instruction']}</p>\n"
    body += f"<p class=who><span>{say['name']}</span><span>{say['date']}</span></p>\n"
    for i, question in enumerate(test, 1):
        options = "".join(
            f"<li><span class=box>{letter}&ensp;☐</span><span>{inline(option.text)}</span></li>\n"
            for letter, option in zip(LETTERS, question.options)
        )
        body += heading(test, i) + section(f"{i}. {inline(question.question)}", options)
    return page(f"{say['title']} {seed}", body, language)


def key(test: Sequence[Rendered], seed: int, language: str = "en") -> str:
    """The same with what is right, and the reason for every option."""
    say = words(language)
    body = f"<h1>{say['key']}</h1>\n<p class=about>{about(test, seed, say)}</p>\n{answers(test)}"
    for i, question in enumerate(test, 1):
        options = ""
        for letter, option in zip(LETTERS, question.options):
            row, mark = ("<li class=right>", "✓") if option.right else ("<li>", "–")
            options += f"{row}<span class=box>{letter}&ensp;{mark}</span><span>{inline(option.text)}</span>"
            options += f"<span class=because>{inline(option.because)}</span></li>\n"
        meta = f"{question.id}, {say['goal']} {question.goal}, {say['level']} {question.level}"
        stem = f"{i}. {inline(question.question)} <span class=meta>({meta})</span>"
        body += heading(test, i) + section(stem, options)
    return page(f"{say['key']} {seed}", body, language)


def section(stem: str, options: str) -> str:
    return f"<section>\n<p class=stem>{stem}</p>\n<ol>\n{options}</ol>\n</section>\n"


def about(test: Sequence[Rendered], seed: int, say: dict[str, str]) -> str:
    return say["about"].format(count=len(test), seed=seed)


def answers(test: Sequence[Rendered]) -> str:
    """Number and letter of each question, ten in a row."""
    rows = ""
    for start in range(0, len(test), 10):
        part = list(enumerate(test, 1))[start : start + 10]
        rows += "<tr>" + "".join(f"<th scope=col>{i}</th>" for i, _ in part) + "</tr>\n"
        rows += "<tr>" + "".join(f"<td>{question.answer}</td>" for _, question in part) + "</tr>\n"
    return f"<table>\n{rows}</table>\n"


def heading(test: Sequence[Rendered], i: int) -> str:
    """The title of a notebook, before its first question."""
    notebook = test[i - 1].notebook
    return "" if i > 1 and test[i - 2].notebook == notebook else f"<h2>{html.escape(title_of(notebook))}</h2>\n"


def title_of(notebook: str) -> str:
    [path] = (ROOT / "notebooks").glob(f"{notebook}_*.ipynb")
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    found = next(match for cell in cells if (match := TITLE.search("".join(cell["source"]))))
    return f"{found['number']} · {found['title']}"


SUBSCRIPT = re.compile(r"(?<![A-Za-z])([A-Za-zα-ωᾱ][\u0302\u0303]?)_(\([^)]*\)|[A-Za-z]+|\d+)")


DIGITS = str.maketrans("₀₁₂₃₄₅₆₇₈₉", "0123456789")


def inline(text: str) -> str:
    """The little Markdown of a question as HTML: `code`, *emphasis*, and an index as in x_0."""
    parts = re.split(r"`([^`]*)`", text)
    for i, part in enumerate(parts):
        part = html.escape(part, quote=False).replace(" × ", "\u00a0×\u00a0")
        if i % 2:
            parts[i] = f"<code>{part}</code>"
        else:
            part = re.sub("[₀-₉]+", lambda match: f"<sub>{match[0].translate(DIGITS)}</sub>", part)  # in the font of the rest
            part = SUBSCRIPT.sub(lambda match: f"{match[1]}<sub>{match[2].strip('()')}</sub>", part)
            parts[i] = re.sub(r"\*(\w[^*]*)\*", r"<em>\1</em>", part)
    return "".join(parts)


def as_json(test: Sequence[Rendered]) -> str:
    """For learning platforms: everything, the answers too."""
    rows = [
        {
            "id": question.id,
            "notebook": question.notebook,
            "goal": question.goal,
            "level": question.level,
            "question": question.question,
            "options": {letter: {"text": o.text, "because": o.because} for letter, o in zip(LETTERS, question.options)},
            "answer": question.answer,
        }
        for question in test
    ]
    return json.dumps(rows, ensure_ascii=False, indent=1) + "\n"


# ---- the command


def notebooks_of(names: Sequence[str], known: Sequence[str]) -> list[str]:
    """00-03 and 08 as a list of notebooks; all of them without any."""
    chosen = []
    for name in names or [f"{known[0]}-{known[-1]}"]:
        first, _, last = name.partition("-")
        if first not in known or (last or first) not in known:
            raise ValueError(f"--notebooks {name}: there are questions for {', '.join(known)}")
        chosen += [each for each in known if first <= each <= (last or first)]
    return sorted(set(chosen))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, required=True, help="the test's number: the same number, the same test")
    parser.add_argument("--count", type=int, default=20, help="how many questions (default: 20)")
    parser.add_argument("--notebooks", nargs="+", default=[], metavar="NN", help="08, or 00-03 for several (default: all)")
    parser.add_argument("--levels", nargs="+", type=int, default=[1, 2, 3], choices=[1, 2, 3], help="default: 1 2 3")
    parser.add_argument("--language", default="en", choices=languages(), help="default: en")
    parser.add_argument("--folder", type=Path, help="where to write (default: runs/exams/seed-SEED)")
    parser.add_argument("--json", action="store_true", help="write test.json, too, with the answers")
    arguments = parser.parse_args()
    try:
        questions = read_translated(arguments.language) if arguments.language != "en" else read()
        names = notebooks_of(arguments.notebooks, sorted({question.notebook for question in questions}))
        questions = [question for question in questions if question.notebook in names and question.level in arguments.levels]
        test = [render(question, arguments.seed) for question in choose(questions, arguments.count, arguments.seed)]
    except ValueError as wrong:
        parser.error(str(wrong))
    folder = arguments.folder or ROOT / "runs" / "exams" / f"seed-{arguments.seed}"
    files = {
        "test.html": paper(test, arguments.seed, arguments.language),
        "key.html": key(test, arguments.seed, arguments.language),
    }
    if arguments.json:
        files["test.json"] = as_json(test)
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8")
        print(folder / name)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
