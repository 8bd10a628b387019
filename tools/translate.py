#!/usr/bin/env python3
"""The course in another language: course/xx/questions.yml and course/xx/NN_name.md, xx being de, fr, ...

    python tools/translate.py de                 what is translated, what is outdated, what is missing
    python tools/translate.py de begin 08        put what is missing of notebook 08 into the two files, still in English
    python tools/translate.py de build           generate runs/translated/de/NN_name.ipynb

A translated notebook holds prose only. Code, outputs and the order of the cells come from the English master, by the cells' ids.
Each translated piece names the English text that it is `of` by a stamp. Where the English has changed since, or nothing is
translated yet, the English text is shown: a translation can be unfinished, but not wrong. docs/translating.md is the guide.
"""

from __future__ import annotations

import argparse
import hashlib
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import nbtool
import questions
import repository
import yaml
from nbformat import NotebookNode

import course

RELATIVE = re.compile(r"(?<=\]\()(?!https?:|#|mailto:|attachment:)(?=[^)\s])")  # where a relative link begins
FROM_BUILT = "../../../notebooks/"  # from runs/translated/xx/ to where the English notebook is
FRESH = {"words": questions.WORDS, "separators": ".,", "questions": {}}


def stamp(cell: NotebookNode) -> str:
    """Of the English text of a cell: another one if it changes."""
    return hashlib.sha256(cell.source.encode()).hexdigest()[:8]


class Translation:
    """The files of a language in `root`/course/xx, beside the English masters."""

    def __init__(self, language: str, root: Path = nbtool.ROOT) -> None:
        self.language, self.root, self.course = language, root, course.Course(root)
        self.folder = self.course.folder / language
        self.english = self.course.folder / "questions.yml"

    def names(self) -> list[str]:
        """The notebooks that have a translation."""
        names = sorted(path.stem for path in self.folder.glob("[0-9]*.md"))
        for name in names:
            if name not in self.course.names():
                raise course.CourseError(f"{self.folder / name}.md: there is no course/{name}.md")
        return names

    # -- notebooks

    def prose(self, name: str) -> list[NotebookNode]:
        """The English cells that are prose."""
        return [cell for cell in self.course.cells(name) if cell.cell_type == "markdown" and course.belongs(cell, "notebooks")]

    def cells(self, name: str) -> dict[str, NotebookNode]:
        """id -> translated cell."""
        path = self.folder / f"{name}.md"
        cells = course.read_master(path).cells if path.exists() else []
        for cell in cells:
            if cell.cell_type != "markdown" or not cell.id or not cell.metadata.get("of"):
                where = cell.id or cell.source.split("\n")[0]
                raise course.CourseError(f"{path}: {where}: a translated cell is prose, with the id and the stamp of the English")
        return {cell.id: cell for cell in cells}

    def valid(self, name: str) -> dict[str, str]:
        """id -> translated text, where it is one of today's English text."""
        translated, valid = self.cells(name), {}
        for cell in self.prose(name):
            if cell.id in translated and translated[cell.id].metadata["of"] == stamp(cell):
                valid[cell.id] = translated[cell.id].source
        return valid

    def build(self, name: str) -> Path:
        """Write the translated notebook, with the outputs that are stored for the English one; returns where."""
        notebook, valid = self.course.generated(name, "notebooks")[0], self.valid(name)
        for cell in notebook.cells:
            if cell.id in valid:
                cell.source = course.QUIZ.sub(lambda section: self.quiz(name) + section[0], valid[cell.id], count=1)
            cell.source = repository.named(cell.source, repository.read(self.root))
            if cell.cell_type == "markdown":
                cell.source = RELATIVE.sub(FROM_BUILT, cell.source).replace(f"]({FROM_BUILT}../", "](../../../")
        notebook.metadata.pop("course", None)
        path = self.root / "runs" / "translated" / self.language / f"{name}.ipynb"
        path.parent.mkdir(parents=True, exist_ok=True)
        nbtool.store(notebook, path)
        return path

    def quiz(self, name: str) -> str:
        """The notebook's quiz, with the same numbers and order as the English one; English where it is not translated."""
        translated = {question.id: question for question in self.questions()}
        own = [q for q in questions.read(self.english) if q.notebook == name.partition("_")[0] and q.show]
        text = course.quiz_of(questions.render_quiz([translated.get(q.id, q) for q in own]), answers=True)
        answer = self.words()["answer"]
        return text.replace("<summary>Answer</summary>", f"<summary>{answer}</summary>")

    def questions(self) -> list[questions.Question]:
        place = self.folder / "questions.yml"
        return questions.read_translated(self.language, self.english) if place.exists() else []

    def words(self) -> dict[str, str]:
        place = self.folder / "questions.yml"
        return questions.words(self.language, self.english) if place.exists() else questions.WORDS

    # -- what there is to do

    def status(self) -> Iterator[str]:
        """A line for each notebook, and one for each piece that is outdated."""
        english = questions.read(self.english)
        current = {question.id: question for question in self.questions()}
        there = self.rows()
        for name in self.course.names():
            prose, translated, valid = self.prose(name), self.cells(name), self.valid(name)
            done = [cell.id for cell in prose if cell.id in valid and valid[cell.id] != cell.source]
            own = [question for question in english if question.notebook == name.partition("_")[0]]
            asked = [q.id for q in own if q.id in current and current[q.id].question != q.question]
            if translated or any(question.id in there for question in own):
                yield f"{name}: {len(done)} of {len(prose)} cells, {len(asked)} of {len(own)} questions"
            known = {cell.id: stamp(cell) for cell in prose}
            for cell in translated.values():
                if cell.id not in known:
                    yield f"  cell {cell.id}: gone from the English notebook; delete it"
                elif cell.metadata["of"] != known[cell.id]:
                    yield f'  cell {cell.id}: the English has changed; translate it again, then "of": "{known[cell.id]}"'
            for question in own:
                if question.id in there and question.id not in current:
                    now = questions.stamp(question)
                    yield f'  question {question.id}: the English has changed; translate it again, then of: "{now}"'

    def rows(self) -> dict[str, dict]:
        place = self.folder / "questions.yml"
        return questions.load_translation(self.language, self.english)["questions"] if place.exists() else {}

    def begin(self, notebook: str) -> Iterator[str]:
        """Add what is not there yet of a notebook to the two files, in English and with its stamp."""
        name = next((each for each in self.course.names() if each.startswith(notebook)), None)
        if name is None:
            raise course.CourseError(f"{notebook}: there is no such notebook in course/")
        self.folder.mkdir(exist_ok=True)
        translated = self.cells(name)
        cells = [translated.get(cell.id) or with_stamp(cell) for cell in self.prose(name)]
        gone = [cell for cell in translated.values() if cell.id not in {each.id for each in cells}]
        path = self.folder / f"{name}.md"
        course.write_master(cells + gone, path)
        yield f"{path.relative_to(self.root)}: {len(cells) - len(translated) + len(gone)} cells to translate"
        place = self.folder / "questions.yml"
        if not place.exists():
            place.write_text(dump(FRESH).replace("questions: {}\n", "questions:\n"), encoding="utf-8")
        there = (questions.load(place) or {}).get("questions") or {}
        missing = [q for q in questions.read(self.english) if q.notebook == name.partition("_")[0] and q.id not in there]
        with place.open("a", encoding="utf-8") as file:
            file.writelines(f'\n  "{q.id}":\n{indent(dump(texts_of(q)), 4)}' for q in missing)
        yield f"{place.relative_to(self.root)}: {len(missing)} questions to translate"


def with_stamp(cell: NotebookNode) -> NotebookNode:
    cell = cell.copy()
    cell.metadata = {"of": stamp(cell)}
    return cell


def texts_of(question: questions.Question) -> dict:
    options = [{"text": option.text, "because": option.because} for option in question.options]
    return {"of": questions.stamp(question), "question": question.question, "options": options}


def dump(data: dict) -> str:
    return yaml.safe_dump(data, allow_unicode=True, sort_keys=False, width=1000)


def indent(text: str, by: int) -> str:
    return "".join(" " * by + line + "\n" for line in text.rstrip("\n").split("\n"))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("language", help="two letters: de, fr, ...")
    parser.add_argument("command", nargs="?", default="status", choices=["status", "begin", "build"])
    parser.add_argument("notebook", nargs="?", help="begin, build: its number")
    arguments = parser.parse_args()
    try:
        if not re.fullmatch(r"[a-z]{2}", arguments.language) or arguments.language == "en":
            raise course.CourseError(f"{arguments.language}: a language is two letters, and not en, which the masters are in")
        translation = Translation(arguments.language)
        if arguments.command == "begin":
            if not arguments.notebook:
                raise course.CourseError("begin needs the number of a notebook")
            lines = translation.begin(arguments.notebook)
        elif arguments.command == "build":
            names = [name for name in translation.names() if name.startswith(arguments.notebook or "")]
            lines = (str(translation.build(name).relative_to(nbtool.ROOT)) for name in names)
        else:
            lines = translation.status()
        for line in lines:
            print(line)
    except (course.CourseError, ValueError) as wrong:
        print(wrong, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
