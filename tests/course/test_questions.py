"""course/questions.yml keeps its promises: complete, fair, and refused with one clear message if it is not."""

import json
import re
from collections import Counter
from pathlib import Path

import pytest
from questions import LETTERS, evaluate, fill, parse, read, render, render_quiz

ROOT = Path(__file__).parent.parent.parent
NOTEBOOKS = sorted((ROOT / "notebooks").glob("[01]*.ipynb"))
QUESTIONS = read()


def goals(path):
    """The numbered goals under "After this page you can"."""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    [text] = ["".join(cell["source"]) for cell in cells if "After this page you can" in "".join(cell["source"])]
    return [int(number) for number in re.findall(r"^(\d)\. ", text.split("After this page you can")[1], re.MULTILINE)]


def of(path):
    return [question for question in QUESTIONS if question.notebook == path.name.partition("_")[0]]


# ---- what is in the file


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_every_goal_of_a_notebook_has_a_question_and_every_question_a_goal(path):
    assert {question.goal for question in of(path)} == set(goals(path))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_has_at_least_eight_questions_and_shows_four_to_six_of_them(path):
    assert len(of(path)) >= 8
    assert 4 <= sum(question.show for question in of(path)) <= 6


def test_there_are_enough_questions_and_enough_of_them_vary():
    assert len(QUESTIONS) >= 120 and sum(bool(question.vary) for question in QUESTIONS) >= 40


def test_every_question_belongs_to_a_notebook():
    assert {question.notebook for question in QUESTIONS} == {path.name.partition("_")[0] for path in NOTEBOOKS}


def test_ids_are_numbered_without_gaps_in_the_order_of_the_file():
    for notebook, number in Counter(question.notebook for question in QUESTIONS).items():
        own = [question.id for question in QUESTIONS if question.notebook == notebook]
        assert own == [f"{notebook}-{i:02}" for i in range(1, number + 1)]


def test_levels_are_mixed_about_forty_forty_twenty():
    share = {level: count / len(QUESTIONS) for level, count in Counter(q.level for q in QUESTIONS).items()}
    assert 0.3 < share[1] < 0.5 and 0.3 < share[2] < 0.5 and 0.12 < share[3] < 0.25


def test_the_right_option_is_neither_the_longest_nor_the_shortest_by_habit():
    """By chance it would be each in a quarter of the questions. (Where numbers vary, the options are of one length.)"""
    texts = [question for question in QUESTIONS if not question.vary]
    for extreme in (max, min):
        chosen = [extreme(question.options, key=lambda option: len(option.text)) for question in texts]
        assert sum(option.right for option in chosen) / len(texts) < 0.33


def test_no_option_points_at_the_others():
    for question in QUESTIONS:
        for option in question.options:
            assert not re.search(r"\b(all|none|both|neither) of (the above|these|them all)\b", option.text.lower()), question.id


def test_a_right_answer_does_not_stand_in_the_text_of_any_question():
    """Word for word, if it is long enough to be more than a number or a name."""
    for question in QUESTIONS:
        [right] = [option.text for option in question.options if option.right]
        if len(right) > 24 and not question.vary:
            assert not [other.id for other in QUESTIONS if right.lower() in other.question.lower()], question.id


def test_no_reason_is_given_twice():
    for question in QUESTIONS:
        reasons = [option.because for option in question.options]
        assert len(set(reasons)) == 4, question.id


def test_texts_are_plain_text_that_prints_everywhere():
    """No LaTeX, no HTML, no links: the same text stands in notebooks, on paper and in other languages."""
    for question in QUESTIONS:
        for text in (question.question, *(part for option in question.options for part in (option.text, option.because))):
            assert not re.search(r"\$|</?[a-z]|\]\(|https?:|\\", re.sub(r"`[^`]*`", "", text)), (question.id, text)
            assert text == text.strip() and "  " not in text, (question.id, text)


def test_every_combination_of_numbers_has_four_different_options():
    for question in QUESTIONS:
        for numbers in question.combinations():
            assert len({fill(option.text, numbers) for option in question.options}) == 4, (question.id, numbers)


# ---- rendering


def test_the_same_seed_gives_the_same_question():
    assert [render(question, 7) for question in QUESTIONS] == [render(question, 7) for question in QUESTIONS]


def test_another_seed_gives_other_numbers_and_another_order():
    varied = [question for question in QUESTIONS if question.vary]
    assert any(render(question, 1).numbers != render(question, 2).numbers for question in varied)
    assert any(render(question, 1).answer != render(question, 2).answer for question in QUESTIONS)


@pytest.mark.parametrize("notebook", sorted({question.notebook for question in QUESTIONS}))
def test_the_letters_of_a_quiz_do_not_tell_the_next_one(notebook):
    page = [question for question in QUESTIONS if question.notebook == notebook and question.show]
    letters = "".join(rendered.answer for rendered in render_quiz(page))
    assert len(page) >= 3 and len(set(letters)) >= 3
    assert not any(3 * letter in letters for letter in letters), letters
    assert render_quiz(page) == render_quiz(page)


def test_every_letter_is_right_about_equally_often():
    found = Counter(render(question, seed).answer for question in QUESTIONS for seed in range(5))
    assert all(0.2 < found[letter] / found.total() < 0.3 for letter in LETTERS)


def test_what_is_rendered_has_no_braces_left_and_true_minus_signs():
    for question in QUESTIONS:
        made = render(question, 3)
        for text in (made.question, *(option.text for option in made.options)):
            assert not re.search(r"\{[a-z]\w*(:[^}]*)?\}", text), text
    assert fill("{x:.1f} and {y}", {"x": -0.5, "y": -3}) == "−0.5 and −3"


# ---- a wrong file


GOOD = {
    "id": "08-01",
    "notebook": "08",
    "goal": 1,
    "level": 1,
    "question": "What is {a} + {a}?",
    "vary": {"a": [3, 5]},
    "derive": {"right": "2 * a", "square": "a * a"},
    "options": [
        {"text": "{right}", "right": True, "because": "It is twice {a}."},
        {"text": "{square}", "because": "This multiplies."},
        {"text": "{a}", "because": "This adds nothing."},
        {"text": "0", "because": "This subtracts."},
    ],
}


def with_option(i, **changes):
    options = [dict(option) for option in GOOD["options"]]
    options[i] |= changes
    return {"options": options}


def test_the_good_example_is_read():
    assert parse(GOOD).show is False


@pytest.mark.parametrize(
    "changes, says",
    [
        ({"id": "8-1"}, "id must be"),
        ({"id": "09-01"}, "id must be"),
        ({"level": 4}, "level must be 1, 2 or 3, not 4"),
        ({"level": True}, "level must be a whole number, not True"),
        ({"goal": 0}, "goal must be"),
        ({"question": "  "}, "question is empty"),
        ({"question": 3}, "question must be text, not 3"),
        ({"note": "later"}, "'note' is not a key"),
        ({"options": GOOD["options"][:3]}, "found 3, 1 right"),
        (with_option(1, right=True), "found 4, 2 right"),
        (with_option(0, right=False), "found 4, 0 right"),
        (with_option(2, because=""), "option 3: because is empty"),
        (with_option(1, text="{right}", because="{square}"), "two options are the same with {'a': 3"),
        (with_option(1, text="{b}"), "{b} is neither in vary nor in derive"),
        (with_option(1, text="{a!r}"), "{a} is not a name"),
        (with_option(1, text="{a.real}"), "{a.real} is not a name"),
        (with_option(1, text="{a"), "a brace itself is written twice"),
        ({"vary": {"a": [3]}}, "a must be a list of two or more different numbers"),
        ({"vary": {"a": [3, 3]}}, "a must be a list of two or more different numbers"),
        ({"vary": {"a": [3, "five"]}}, "a must be a list of two or more different numbers"),
        ({"vary": {"a": [3, 5], "b": [1, 2]}}, "b is defined and never used"),
        ({"vary": {"a": [3, 5], False: [1, 2]}}, "False is not a name (YAML reads"),
        ({"vary": {}}, "vary is missing"),
        ({"derive": GOOD["derive"] | {"a": "1"}}, "a is one of vary already"),
        ({"derive": GOOD["derive"] | {"right": "2 *"}}, "'2 *' is not arithmetic"),
        ({"derive": GOOD["derive"] | {"right": 6}}, "must be arithmetic in quotes"),
        ({"derive": {"right": "1 / (a - 3)", "square": "a"}}, "division by zero"),
    ],
)
def test_a_wrong_question_is_refused_with_its_reason(changes, says):
    with pytest.raises(ValueError) as refused:
        parse(GOOD | changes)
    assert says in str(refused.value)


@pytest.mark.parametrize("key", ["id", "notebook", "goal", "level", "question", "options"])
def test_a_missing_key_is_named(key):
    with pytest.raises(ValueError, match=f"^{key} is missing"):
        parse({name: value for name, value in GOOD.items() if name != key})


@pytest.mark.parametrize(
    "text, says",
    [
        ("- id: [", "questions.yml, line 1: "),
        ("id: 08-01", "questions.yml: must be a list of questions"),
        ("- hello", "questions.yml, question number 1: must be a mapping"),
        ("- id: '08-01'\n  id: '08-02'", "questions.yml, line 1: the key 'id' stands twice"),
        ("- !!python/object/apply:os.getcwd []", "could not determine a constructor"),
    ],
)
def test_a_file_that_is_no_list_of_questions_is_refused(tmp_path, text, says):
    path = tmp_path / "questions.yml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError) as refused:
        read(path)
    assert says in str(refused.value)


def test_the_message_names_file_and_question_and_two_of_one_id_are_refused(tmp_path):
    path = tmp_path / "questions.yml"
    path.write_text(json.dumps([GOOD | {"level": 9}]), encoding="utf-8")  # JSON is YAML
    with pytest.raises(ValueError, match=r"^questions\.yml, question 08-01: level must be"):
        read(path)
    path.write_text(json.dumps([GOOD, GOOD]), encoding="utf-8")
    with pytest.raises(ValueError, match="two questions have the id '08-01'"):
        read(path)
    path.write_text(json.dumps([GOOD, GOOD | {"id": "08-02"}]), encoding="utf-8")
    with pytest.raises(ValueError, match="two questions have the question"):
        read(path)
    with pytest.raises(ValueError, match="No such file"):
        read(tmp_path / "none.yml")


# ---- arithmetic


@pytest.mark.parametrize(
    "expression, value",
    [
        ("2 + 3 * 4 ** 2 - 7 // 2 % 2", 49),
        ("-a + 1", -8),
        ("sqrt(a) + log(exp(2))", 5),
        ("round(2.567, 1) + max(1, 2) - min(1, 2)", 3.6),
        ("1e-3 * a", 0.009),
    ],
)
def test_arithmetic_is_computed(expression, value):
    assert evaluate(expression, {"a": 9}) == pytest.approx(value)


@pytest.mark.parametrize(
    "expression",
    [
        "__import__('os').system('true')",
        "a.real",
        "[1, 2][0]",
        "'text'",
        "True",
        "a if a else 1",
        "lambda: 1",
        "sum(a)",
        "sqrt(x=4)",
        "unknown + 1",
        "(-1) ** 0.5",
        "sqrt(-1)",
    ],
)
def test_anything_else_is_refused(expression):
    with pytest.raises(ValueError, match="derive: "):
        evaluate(expression, {"a": 9})


# ---- words


def test_questions_use_the_terms_of_the_field():
    """No private words for noise, predictions, text embeddings, network evaluations or a classifier."""
    private = r"\b(dice|hears?|heard|listens?|told|anew|price|verdicts?|judges?|looks? at the network|states of the words)\b"
    for question in QUESTIONS:
        for text in (question.question, *(part for option in question.options for part in (option.text, option.because))):
            found = re.search(private, text, re.IGNORECASE)
            assert not found, (question.id, text)
