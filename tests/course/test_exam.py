"""tools/exam.py: the same seed gives the same test, another seed another one that is as difficult, and both can be printed."""

import html.parser
import json
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import dev
import exam
import pytest
from questions import read, render

ROOT = Path(__file__).parent.parent.parent
QUESTIONS = read()
SIZES = [1, 7, 16, 20, 40, 64]


def drawn(seed, count=20, questions=QUESTIONS):
    return [render(question, seed) for question in exam.choose(questions, count, seed)]


def difficulty(test):
    """How many questions of each level there are in each notebook, and how evenly its goals are asked for."""
    goals = Counter((question.notebook, question.goal) for question in test)
    spread = Counter((notebook, times) for (notebook, _), times in goals.items())
    return Counter((question.notebook, question.level) for question in test), spread


# ---- which questions


def test_the_same_seed_gives_the_same_test():
    assert drawn(7) == drawn(7)


@pytest.mark.parametrize("count", SIZES)
def test_another_seed_gives_a_test_of_the_same_difficulty(count):
    first = difficulty(drawn(0, count))
    assert all(difficulty(drawn(seed, count)) == first for seed in range(1, 8))


def test_another_seed_gives_other_questions_and_other_numbers():
    tests = [drawn(seed) for seed in range(8)]
    assert len({tuple(question.id for question in test) for test in tests}) == 8
    common = {q.id: q for q in tests[0]}
    again = [(common[q.id], q) for test in tests[1:] for q in test if q.id in common and q.numbers]
    assert sum(one.numbers != other.numbers for one, other in again) > len(again) / 3


def test_few_questions_are_in_every_test():
    """Only those which have no other of their notebook and level may be."""
    always = set.intersection(*({question.id for question in drawn(seed)} for seed in range(12)))
    assert len(always) <= 2


@pytest.mark.parametrize("count", SIZES)
def test_notebooks_take_part_equally_and_levels_about_forty_forty_twenty(count):
    test = drawn(3, count)
    per_notebook = Counter(dict.fromkeys((question.notebook for question in QUESTIONS), 0))
    per_notebook.update(question.notebook for question in test)
    assert len(test) == count == len({question.id for question in test})
    assert max(per_notebook.values()) - min(per_notebook.values()) <= 1
    if count >= 16:
        levels = Counter(question.level for question in test)
        assert all(abs(levels[level] / count - share) < 0.1 for level, share in ((1, 0.4), (2, 0.4), (3, 0.2)))


def test_a_goal_is_asked_for_again_only_when_it_must_be():
    own = [question for question in QUESTIONS if question.notebook == "08"]
    for seed in range(5):
        assert len({question.goal for question in drawn(seed, 5, own)}) == 5


def test_all_questions_can_be_asked_for_and_not_more():
    own = [question for question in QUESTIONS if question.notebook == "08"]
    assert {question.id for question in drawn(1, len(own), own)} == {question.id for question in own}
    for count in (0, len(own) + 1):
        with pytest.raises(ValueError, match=f"--count {count}: choose from 1 to {len(own)}"):
            exam.choose(own, count, 1)


def test_notebooks_are_named_singly_or_as_a_range():
    known = ["00", "01", "02", "08"]
    assert exam.notebooks_of([], known) == known
    assert exam.notebooks_of(["08", "00-01", "01"], known) == ["00", "01", "08"]
    with pytest.raises(ValueError, match="--notebooks 99: there are questions for 00, 01"):
        exam.notebooks_of(["99"], known)


# ---- the pages


class Page(html.parser.HTMLParser):
    VOID = {"meta", "br", "!doctype"}

    def __init__(self, text):
        super().__init__()
        self.open, self.outside, self.texts = [], [], []
        self.feed(text)
        assert self.open == ["html"] or self.open == [], self.open

    def handle_starttag(self, tag, attributes):
        self.outside += [value for name, value in attributes if name in ("src", "href")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)


@pytest.mark.parametrize("make", [exam.paper, exam.key])
def test_a_page_is_one_well_formed_file_that_needs_no_network(make):
    text = make(drawn(7), 7)
    page = Page(text)
    assert page.outside == [] and "http" not in text and "<script" not in text and "url(" not in text
    assert "@page" in text and "break-inside: avoid" in text and 'lang="en"' in text


def test_the_paper_shows_every_question_and_no_reason():
    test = drawn(7)
    seen = " ".join("".join(Page(exam.paper(test, 7)).texts).split())
    for question in test:
        for option in question.options:
            assert plain(exam.inline(option.text)) in seen
            assert plain(exam.inline(option.because)) not in seen
    assert "✓" not in seen


def test_the_key_marks_what_is_right_and_gives_every_reason():
    test = drawn(7)
    text = exam.key(test, 7)
    seen = " ".join("".join(Page(text).texts).split())
    assert text.count("<li class=right>") == len(test) == seen.count("✓")
    assert all(plain(exam.inline(option.because)) in seen for question in test for option in question.options)
    letters = re.findall(r"<td>([A-D])</td>", text)
    assert letters == [question.answer for question in test]


def plain(markup):
    return " ".join("".join(Page(markup).texts).split())


@pytest.mark.parametrize(
    "text, markup",
    [
        ("x_0 and σ_next², x̂_0 and ᾱ_prev", "x<sub>0</sub> and σ<sub>next</sub>², x̂<sub>0</sub> and ᾱ<sub>prev</sub>"),
        ("x̂₀ = x₉₉₉ and √ᾱ₃", "x̂<sub>0</sub> = x<sub>999</sub> and √ᾱ<sub>3</sub>"),
        ("x_(t−1) is not `x_0 * 2`", "x<sub>t−1</sub> is not <code>x_0 * 2</code>"),
        ("*hug* & 2 * 3 < 7", "<em>hug</em> &amp; 2 * 3 &lt; 7"),
        ("`scale_model_input`", "<code>scale_model_input</code>"),
    ],
)
def test_the_markup_of_a_question_becomes_html(text, markup):
    assert exam.inline(text) == markup


# ---- the command


def command(*arguments):
    done = subprocess.run(
        [sys.executable, ROOT / "tools" / "exam.py", *arguments], capture_output=True, text=True, encoding="utf-8"
    )
    return done.returncode, done.stdout + done.stderr


def test_the_command_writes_test_key_and_json(tmp_path):
    asked = ["--seed=7", "--notebooks", "00-02", "08", "--count=8", "--levels", "1", "2", f"--folder={tmp_path}", "--json"]
    code, said = command(*asked)
    assert code == 0 and [Path(line).name for line in said.splitlines()] == ["test.html", "key.html", "test.json"]
    rows = json.loads((tmp_path / "test.json").read_text(encoding="utf-8"))
    assert len(rows) == 8 and {row["notebook"] for row in rows} == {"00", "01", "02", "08"}
    assert {row["level"] for row in rows} == {1, 2} and all(row["answer"] in row["options"] for row in rows)
    first = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    command(*asked)
    assert first == {path.name: path.read_bytes() for path in tmp_path.iterdir()}


@pytest.mark.parametrize(
    "arguments, says",
    [
        ([], "--seed"),
        (["--seed=1", "--count=999"], "--count 999: choose from 1 to"),
        (["--seed=1", "--notebooks", "77"], "--notebooks 77: there are questions for 00, 01"),
        (["--seed=1", "--levels", "4"], "invalid choice: 4"),
        (["--seed=1", "--language", "tlh"], "invalid choice: 'tlh'"),
    ],
)
def test_a_wrong_argument_is_refused_and_nothing_is_written(tmp_path, arguments, says):
    code, said = command(*arguments, f"--folder={tmp_path / 'none'}")
    assert code == 2 and says in said and not (tmp_path / "none").exists()


@pytest.mark.parametrize(("seed", "words"), [("7", ["--seed=7", "--count=5"]), (None, ["--count=5"])])
def test_make_exam_hands_seed_and_arguments_on(monkeypatch, seed, words):
    monkeypatch.setattr(dev, "environment", lambda *extras: "python")
    monkeypatch.setattr(dev, "run", lambda command: command)
    monkeypatch.delenv("SEED", raising=False)
    if seed:
        monkeypatch.setenv("SEED", seed)
    assert dev.exam(["--count=5"]) == ["python", "tools/exam.py", *words]
