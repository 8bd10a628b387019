"""The course in other languages: what is shipped fits the English, and what the English has outrun is shown in English."""

import json
import re

import nbformat
import nbtool
import pytest
import questions
from nbformat.v4 import new_code_cell, new_notebook, new_output
from questions import fill, read, read_translated, words
from translate import FRESH, Translation, dump, stamp

from course import HEADER, CourseError, write_master

LANGUAGES = [language for language in questions.languages() if language != "en"]
BUILT = [(language, name) for language in LANGUAGES for name in Translation(language).names()]

# ---- what is shipped


def test_there_is_a_second_language_with_questions_and_a_notebook():
    assert "de" in LANGUAGES and ("de", "08_ddpm") in BUILT


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_translation_has_the_ids_the_options_and_the_numbers_of_the_english_file(language):
    """`read_translated` refuses anything else; all but the texts is that of the English question."""
    english = {question.id: question for question in read()}
    for question in read_translated(language):
        own, theirs = english[question.id], question
        assert (own.notebook, own.goal, own.level, own.vary, own.derive, own.show) == (
            theirs.notebook,
            theirs.goal,
            theirs.level,
            theirs.vary,
            theirs.derive,
            theirs.show,
        )
        assert [option.right for option in own.options] == [option.right for option in theirs.options]


@pytest.mark.parametrize("language", LANGUAGES)
def test_translated_options_differ_for_every_choice_of_numbers(language):
    for question in read_translated(language):
        for numbers in question.combinations():
            shown = {fill(option.text, numbers, question.separators) for option in question.options}
            assert len(shown) == 4, (question.id, numbers)


@pytest.mark.parametrize(("language", "name"), BUILT)
def test_a_translated_cell_keeps_formulas_code_and_links(language, name):
    translation = Translation(language)
    english = {cell.id: cell.source for cell in translation.prose(name)}
    for cell, text in translation.valid(name).items():
        for pattern in (r"\$\$.*?\$\$", r"`[^`\n]+`", r"\]\(([^)]+)\)", r"^#+ ", r"</?details>"):
            find = re.compile(pattern, re.MULTILINE | re.DOTALL)
            assert len(find.findall(text)) == len(find.findall(english[cell])), (cell, pattern)
        assert set(re.findall(r"\]\(([^)]+)\)", text)) == set(re.findall(r"\]\(([^)]+)\)", english[cell])), cell
        assert ("## Quiz" in text) == ("## Quiz" in english[cell]), cell


def test_german_numbers_have_a_comma():
    numbers = {"x": 1234.5}
    assert fill("{x:,.1f}", numbers, ",\u202f") == "1\u202f234,5" and fill("{x:,.1f}", numbers) == "1,234.5"
    assert words("de")["answer"] == "Antwort" and set(words("de")) == set(questions.WORDS)


# ---- the tool, on a course of one notebook

PROSE = {
    "title": "# 04 · Attention\n\nSee [01](01_noise.ipynb) and [the notes](../docs/notation.md).",
    "quiz": "## Quiz\n\n## Next\n\nMore.",
}
QUESTION = {
    "id": "04-01",
    "notebook": "04",
    "goal": 1,
    "level": 1,
    "question": "What is {a} times two?",
    "vary": {"a": [1.5, 2.5]},
    "derive": {"right": "2 * a"},
    "options": [
        {"text": "{right:.1f}", "right": True, "because": "Twice {a}."},
        {"text": "{a:.1f}", "because": "Once."},
        {"text": "0", "because": "Nothing."},
        {"text": "9", "because": "Too much."},
    ],
    "show": True,
}


@pytest.fixture
def home(tmp_path):
    """A project with one notebook that has been run, and one question."""
    (tmp_path / "course").mkdir()
    (tmp_path / "notebooks").mkdir()
    cells = [nbformat.v4.new_markdown_cell(text, id=name) for name, text in PROSE.items()]
    code = new_code_cell("print(2)", id="code", execution_count=1, outputs=[new_output("stream", name="stdout", text="2\n")])
    cells.insert(1, code)
    write_master(cells, tmp_path / "course" / "04_attention.md")
    nbtool.store(nbtool.clean(new_notebook(cells=cells), "04_attention"), tmp_path / "notebooks" / "04_attention.ipynb")
    (tmp_path / "course" / "questions.yml").write_text(json.dumps([QUESTION]), encoding="utf-8")
    return tmp_path


def replace(path, old, new):
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")


@pytest.fixture
def translated(home):
    """Begun, and translated."""
    list(Translation("de", home).begin("04"))
    replace(home / "course/de/04_attention.md", "See [01]", "Siehe [01]")
    replace(home / "course/de/04_attention.md", "## Next\n\nMore.", "## Weiter\n\nMehr.")
    replace(home / "course/de/questions.yml", "What is {a} times two?", "Wie viel macht {a} mal zwei?")
    replace(home / "course/de/questions.yml", "separators: .,", "separators: ',.'")
    replace(home / "course/de/questions.yml", "answer: Answer", "answer: Antwort")
    return home


def built(home):
    return {cell.id: cell for cell in nbformat.read(Translation("de", home).build("04_attention"), 4).cells}


def test_begin_puts_the_english_texts_there_once(home):
    said = list(Translation("de", home).begin("04"))
    assert said == ["course/de/04_attention.md: 2 cells to translate", "course/de/questions.yml: 1 questions to translate"]
    before = {path.name: path.read_bytes() for path in (home / "course/de").iterdir()}
    said = list(Translation("de", home).begin("04"))
    assert said == ["course/de/04_attention.md: 0 cells to translate", "course/de/questions.yml: 0 questions to translate"]
    assert before == {path.name: path.read_bytes() for path in (home / "course/de").iterdir()}
    assert list(Translation("de", home).status()) == ["04_attention: 0 of 2 cells, 0 of 1 questions"]


def test_what_is_translated_is_shown_with_the_code_and_outputs_of_the_english_notebook(translated):
    assert list(Translation("de", translated).status()) == ["04_attention: 2 of 2 cells, 1 of 1 questions"]
    cells = built(translated)
    assert list(cells) == ["title", "code", "quiz"]
    assert cells["title"].source.endswith(
        "Siehe [01](../../../notebooks/01_noise.ipynb) and [the notes](../../../docs/notation.md)."
    )
    assert cells["code"].outputs[0].text == "2\n"
    assert "<summary>Antwort</summary>" in cells["quiz"].source and cells["quiz"].source.endswith("## Weiter\n\nMehr.")
    assert re.search(r"Wie viel macht [12],5 mal zwei\?", cells["quiz"].source)


def test_a_cell_whose_english_has_changed_is_shown_in_english_and_named(translated):
    master = translated / "course" / "04_attention.md"
    replace(master, "and [the notes]", "and also [the notes]")
    assert built(translated)["title"].source.split("\n\n")[1].startswith("See [01]")
    now = stamp(Translation("de", translated).prose("04_attention")[0])
    said = list(Translation("de", translated).status())
    assert said[0] == "04_attention: 1 of 2 cells, 1 of 1 questions"
    assert said[1] == f'  cell title: the English has changed; translate it again, then "of": "{now}"'
    path = translated / "course/de/04_attention.md"
    path.write_text(re.sub(r'("id": "title", "of": ")\w+', rf"\g<1>{now}", path.read_text(encoding="utf-8")), encoding="utf-8")
    assert list(Translation("de", translated).status())[1:] == []


def test_a_question_whose_english_has_changed_is_shown_in_english_and_named(translated):
    replace(translated / "course/questions.yml", "Twice {a}.", "Two times {a}.")
    assert "times two?" in built(translated)["quiz"].source
    now = questions.stamp(read(translated / "course/questions.yml")[0])
    assert list(Translation("de", translated).status())[1] == (
        f'  question 04-01: the English has changed; translate it again, then of: "{now}"'
    )


def test_a_cell_that_is_gone_is_named(translated):
    replace(translated / "course/04_attention.md", '"id": "title"', '"id": "heading"')
    assert "  cell title: gone from the English notebook; delete it" in list(Translation("de", translated).status())


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        (
            "Wie viel macht {a} mal",
            "Wie viel macht zwei mal",
            "de/questions.yml, question 04-01: question: the English text has the numbers",
        ),
        ("text: '9'", "text: '{a}'", "question 04-01: option 4, text: the English text has the numbers"),
        ("'{right:.1f}'", "'{right:.2f}'", "option 1, text: the English text has the numbers [('right', '.1f')]"),
        ('"04-01"', '"04-77"', "question 04-77: there is no such question in the English file"),
        ("because: Once.", "why: Once.", "because is missing"),
        ("separators: ',.'", "separators: ','", "separators must be two characters"),
        ("  goal: goal\n", "", "goal is missing"),
    ],
)
def test_a_translation_that_does_not_fit_is_refused(translated, old, new, says):
    replace(translated / "course/de/questions.yml", old, new)
    with pytest.raises(ValueError) as refused:
        Translation("de", translated).questions()
    assert says in str(refused.value)


@pytest.mark.parametrize(
    "cell",
    [
        '+++ {"id": "title"}\n\nWithout a stamp.\n',
        '+++ {"of": "12345678"}\n\nWithout an id.\n',
        "```{code-cell} ipython3\n:id: code\n\nprint(3)\n```\n",
    ],
)
def test_a_translated_cell_is_prose_with_id_and_stamp(home, cell):
    (home / "course/de").mkdir()
    (home / "course/de/04_attention.md").write_text(HEADER + "\n" + cell, encoding="utf-8")
    with pytest.raises(CourseError, match="a translated cell is prose, with the id and the stamp"):
        Translation("de", home).cells("04_attention")


def test_a_notebook_that_is_not_there_is_refused(home):
    with pytest.raises(CourseError, match="77: there is no such notebook"):
        list(Translation("de", home).begin("77"))
    (home / "course/de").mkdir()
    (home / "course/de/77_more.md").write_text(HEADER, encoding="utf-8")
    with pytest.raises(CourseError, match=r"77_more\.md: there is no course/77_more\.md"):
        Translation("de", home).names()


def test_a_fresh_file_of_questions_is_complete(tmp_path):
    assert set(questions.yaml.safe_load(dump(FRESH))) == {"words", "separators", "questions"}
