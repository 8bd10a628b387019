"""Reads course/questions.yml: single-choice questions with four options each, and numbers that vary.

    - id: "08-03"                       notebook - running number
      notebook: "08"
      goal: 2                           which of the notebook's goals ("After this page you can") it tests
      level: 1                          1 recall or trace, 2 apply, 3 transfer
      question: "What is √{a}?"         Markdown with plain Unicode mathematics; names in braces are numbers
      vary: {a: [0.36, 0.64]}           optional: the values from which the seed chooses; every combination is right
      derive: {root: "sqrt(a)"}         optional: numbers computed from those, in this order
      options:                          four, one of them right; they are shuffled when the question is rendered
        - {text: "{root:.1f}", right: true, because: "why it is right"}
        - {text: "...", because: "the mistake that leads here, and why it is one"}
      show: true                        optional: in the notebook's quiz; without it only in tests

`read` refuses a file that is wrong in any way, with one message that names the question. `render` chooses the numbers
and the order of the options from a seed: the same seed, the same question.

course/xx/questions.yml holds the texts in another language, by id; all else comes from the English file (docs/translating.md).
"""

from __future__ import annotations

import ast
import hashlib
import itertools
import math
import operator
import random
import re
import string
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

QUESTIONS = Path(__file__).resolve().parent.parent / "course" / "questions.yml"
WORDS = {  # of the pages around the questions; a translation has the same keys
    "title": "Test",
    "key": "Key to the test",
    "about": "{count} questions. Test number {seed}.",
    "instruction": "Exactly one option of each question is right.",
    "name": "Name",
    "date": "Date",
    "goal": "goal",
    "level": "level",
    "answer": "Answer",
}
LETTERS = "ABCD"
LEVELS = {1: "recall or trace", 2: "apply", 3: "transfer"}

Number = int | float


@dataclass(frozen=True)
class Option:
    text: str
    because: str
    right: bool = False


@dataclass(frozen=True)
class Question:
    id: str
    notebook: str
    goal: int
    level: int
    question: str
    options: tuple[Option, ...]
    vary: Mapping[str, list[Number]] = field(default_factory=dict)
    derive: Mapping[str, str] = field(default_factory=dict)
    show: bool = False
    separators: str = ".,"  # before decimals, and between thousands

    def combinations(self) -> Iterator[dict[str, Number]]:
        """Every choice of numbers, with those derived from it. One empty choice if nothing varies."""
        for chosen in itertools.product(*self.vary.values()):
            numbers = dict(zip(self.vary, chosen))
            for name, expression in self.derive.items():
                numbers[name] = evaluate(expression, numbers)
            yield numbers


@dataclass(frozen=True)
class Rendered:
    """A question with its numbers filled in and its options in the order of A, B, C, D."""

    id: str
    notebook: str
    goal: int
    level: int
    question: str
    options: tuple[Option, ...]
    numbers: Mapping[str, Number]

    @property
    def answer(self) -> str:
        """The letter of the right option."""
        return LETTERS[[option.right for option in self.options].index(True)]


def render(question: Question, seed: int) -> Rendered:
    """The question with numbers and an order of its options chosen by the seed; other questions do not influence either."""
    chance = random.Random(f"{seed} {question.id}")
    numbers, separators = chance.choice(list(question.combinations())), question.separators
    options = [
        replace(option, text=fill(option.text, numbers, separators), because=fill(option.because, numbers, separators))
        for option in question.options
    ]
    chance.shuffle(options)
    text = fill(question.question, numbers, separators)
    return Rendered(question.id, question.notebook, question.goal, question.level, text, tuple(options), numbers)


def render_quiz(page: Sequence[Question]) -> list[Rendered]:
    """The questions of a page, always with the same numbers and letters: those of the first seed that gives nothing away.

    No letter is right three times in a row, and if there are three questions or more, three letters are right somewhere.
    """
    quizzes = ([render(question, seed) for question in page] for seed in itertools.count())
    return next(quiz for quiz in quizzes if not gives_away("".join(rendered.answer for rendered in quiz)))


def gives_away(answers: str) -> bool:
    """Whether the right letters of a quiz, one after the other, help to guess one of them."""
    in_a_row = any(3 * letter in answers for letter in LETTERS)
    return in_a_row or len(set(answers)) < min(3, len(answers))


def read(path: Path = QUESTIONS) -> list[Question]:
    """All questions, in the order of the file.

    Raises ValueError, with one message that names the file, the question and what is wrong, if anything is.
    """
    rows = load(path)
    if not isinstance(rows, list) or not rows:
        raise ValueError(f"{path.name}: must be a list of questions")
    questions = []
    for position, row in enumerate(rows, 1):
        name = row.get("id") if isinstance(row, dict) and isinstance(row.get("id"), str) else f"number {position}"
        try:
            questions.append(parse(row))
        except ValueError as wrong:
            raise ValueError(f"{path.name}, question {name}: {wrong}") from None
    for key, values in (("id", [q.id for q in questions]), ("question", [q.question for q in questions])):
        repeated = next((value for i, value in enumerate(values) if value in values[:i]), None)
        if repeated is not None:
            raise ValueError(f"{path.name}: two questions have the {key} {repeated!r}")
    return questions


# ---- other languages


def languages(folder: Path = QUESTIONS.parent) -> list[str]:
    """en, and those that have a course/xx/questions.yml."""
    return ["en", *sorted(path.parent.name for path in folder.glob("??/questions.yml"))]


def read_translated(language: str, path: Path = QUESTIONS) -> list[Question]:
    """The questions that are translated, in the order of the English file. en: all of them, as they are.

    A translation of an English text that has changed since is left out. Raises ValueError, with one message, if a translation
    does not fit the English file.
    """
    questions = read(path)
    if language == "en":
        return questions
    translation = load_translation(language, path)
    english = {question.id: question for question in questions}
    translated = {}
    for name, row in translation["questions"].items():
        try:
            if name not in english:
                raise ValueError("there is no such question in the English file")
            check_keys(row, {"of": str, "question": str, "options": list}, {})
            if row["of"] == stamp(english[name]):
                translated[name] = replace(in_words(english[name], row), separators=translation["separators"])
        except ValueError as wrong:
            raise ValueError(f"{language}/{path.name}, question {name}: {wrong}") from None
    return [translated[question.id] for question in questions if question.id in translated]


def in_words(question: Question, row: Any) -> Question:
    """A question with the texts of a translation, which must hold the same numbers in each place."""
    if len(row["options"]) != len(question.options):
        raise ValueError(f"there must be {len(question.options)} options, in the order of the English file")
    same_numbers(question.question, row["question"], "question")
    options = []
    for i, (option, texts) in enumerate(zip(question.options, row["options"]), 1):
        check_keys(texts, {"text": str, "because": str}, {})
        for key in ("text", "because"):
            same_numbers(getattr(option, key), texts[key], f"option {i}, {key}")
        options.append(replace(option, **texts))
    return replace(question, question=row["question"], options=tuple(options))


def stamp(question: Question) -> str:
    """Of the texts of a question: another one if any of them changes."""
    texts = [question.question, *(text for option in question.options for text in (option.text, option.because))]
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()[:8]


def same_numbers(english: str, translated: str, where: str) -> None:
    want, have = (sorted(placeholders(text)) for text in (english, translated))
    if want != have:
        raise ValueError(f"{where}: the English text has the numbers {want}, this one {have}")


def words(language: str, path: Path = QUESTIONS) -> dict[str, str]:
    """What stands around the questions, in this language."""
    return WORDS if language == "en" else load_translation(language, path)["words"]


def load_translation(language: str, path: Path) -> dict[str, Any]:
    place = path.parent / language / path.name
    translation = load(place)
    try:
        check_keys(translation, {"words": dict, "separators": str, "questions": dict}, {})
        check_keys(translation["words"], dict.fromkeys(WORDS, str), {})
        if len(translation["separators"]) != 2:
            raise ValueError('separators must be two characters, that before decimals and that between thousands, like ",."')
    except ValueError as wrong:
        raise ValueError(f"{language}/{path.name}: {wrong}") from None
    return translation


# ---- reading, strictly


KINDS = {str: "text", int: "a whole number", bool: "true or false", list: "a list", dict: "a mapping of names"}


class UniqueKeys:
    """A key that stands twice in one mapping is an error: YAML would keep the last and forget the first."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        repeated = next((key for i, key in enumerate(keys) if key in keys[:i]), None)
        if repeated is not None:
            raise yaml.constructor.ConstructorError(None, None, f"the key {repeated!r} stands twice", node.start_mark)
        return super().construct_mapping(node, deep)


class Reader(UniqueKeys, yaml.SafeLoader):
    """Names the line where something is wrong."""


class FastReader(UniqueKeys, getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
    """libyaml's, seven times as fast; it takes note of other lines."""


def load(path: Path) -> Any:
    """The contents of a YAML file; ValueError if it cannot be read."""
    try:
        text = path.read_text(encoding="utf-8")
        try:
            return yaml.load(text, FastReader)
        except yaml.YAMLError:
            return yaml.load(text, Reader)
    except (yaml.YAMLError, UnicodeDecodeError) as wrong:
        where = getattr(wrong, "problem_mark", None)
        line = f", line {where.line + 1}" if where else ""
        raise ValueError(f"{path.name}{line}: {getattr(wrong, 'problem', None) or wrong}") from None
    except OSError as wrong:
        raise ValueError(f"{path}: {wrong.strerror}") from None


def parse(row: Any) -> Question:
    """One question of the file, checked."""
    need = {"id": str, "notebook": str, "goal": int, "level": int, "question": str, "options": list}
    may = {"vary": dict, "derive": dict, "show": bool}
    check_keys(row, need, may)
    if not re.fullmatch(r"\d\d[a-z]?-\d\d", row["id"]) or row["id"].partition("-")[0] != row["notebook"]:
        raise ValueError(f"id must be the notebook's number and a running number, like {row['notebook']}-01, not {row['id']!r}")
    if row["level"] not in LEVELS:
        raise ValueError(f"level must be 1, 2 or 3, not {row['level']}")
    if row["goal"] < 1:
        raise ValueError(f"goal must be the number of one of the notebook's goals, not {row['goal']}")
    options = tuple(parse_option(option, i) for i, option in enumerate(row["options"], 1))
    if len(options) != 4 or sum(option.right for option in options) != 1:
        right = sum(option.right for option in options)
        raise ValueError(f"there must be four options, exactly one of them right; found {len(options)}, {right} right")
    question = Question(**{**row, "options": options})
    check_numbers(question)
    return question


def parse_option(option: Any, position: int) -> Option:
    try:
        check_keys(option, {"text": str, "because": str}, {"right": bool})
    except ValueError as wrong:
        raise ValueError(f"option {position}: {wrong}") from None
    return Option(**option)


def check_keys(row: Any, need: dict[str, type], may: dict[str, type]) -> None:
    if not isinstance(row, dict):
        raise ValueError(f"must be a mapping with the keys {', '.join(need)}, not {row!r}")
    for key in need:
        if key not in row:
            raise ValueError(f"{key} is missing")
    for key, value in row.items():
        kind = need.get(key) or may.get(key)
        if kind is None:
            raise ValueError(f"{key!r} is not a key; there are: {', '.join([*need, *may])}")
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            raise ValueError(f"{key} must be {KINDS[kind]}, not {value!r}")
        if kind is str and not value.strip():
            raise ValueError(f"{key} is empty")


def check_numbers(question: Question) -> None:
    """Names in braces are defined and used, and in every combination the four options differ."""
    for name in (*question.vary, *question.derive):
        if not isinstance(name, str) or not PLACEHOLDER.fullmatch(name):
            raise ValueError(f"vary, derive: {name!r} is not a name (YAML reads on, off, yes and no as true and false)")
    for name, values in question.vary.items():
        usable = isinstance(values, list) and len(values) > 1 and all(type(value) in (int, float) for value in values)
        if not usable or len(set(values)) != len(values):
            raise ValueError(f"vary: {name} must be a list of two or more different numbers, not {values!r}")
    both = set(question.vary) & set(question.derive)
    if both:
        raise ValueError(f"derive: {both.pop()} is one of vary already")
    if question.derive and not question.vary:
        raise ValueError("derive: there is nothing to derive from; vary is missing")
    texts = [question.question, *(text for option in question.options for text in (option.text, option.because))]
    used = {name for text in texts for name in fields(text)}
    expressions = {name: names_in(expression) for name, expression in question.derive.items()}
    unknown = used - set(question.vary) - set(question.derive)
    if unknown:
        raise ValueError(f"{{{min(unknown)}}} is neither in vary nor in derive")
    idle = {*question.vary, *question.derive} - used.union(*expressions.values())
    if idle:
        raise ValueError(f"{min(idle)} is defined and never used")
    for numbers in question.combinations():
        shown = [fill(option.text, numbers) for option in question.options]
        if len({" ".join(text.split()) for text in shown}) < 4:
            raise ValueError(f"two options are the same with {numbers}: {shown}")


# ---- numbers in texts

PLACEHOLDER = re.compile(r"[a-z][a-z0-9_]*")


def fields(text: str) -> list[str]:
    """The names in braces, in their order. {{ and }} are braces themselves."""
    return [name for name, _ in placeholders(text)]


def placeholders(text: str) -> list[tuple[str, str]]:
    """(name, format) of each number in a text, in their order."""
    try:
        found = [part[1:] for part in string.Formatter().parse(text) if part[1] is not None]
    except ValueError as wrong:
        raise ValueError(f"braces in {text!r}: {wrong}; a brace itself is written twice") from None
    for name, _, conversion in found:
        if not PLACEHOLDER.fullmatch(name) or conversion:
            raise ValueError(f"{{{name}}} is not a name of vary or derive; a brace itself is written twice")
    return [(name, spec) for name, spec, _ in found]


def fill(text: str, numbers: Mapping[str, Number], separators: str = ".,") -> str:
    """The text with its numbers, a negative one with a true minus sign."""
    pieces = []
    for literal, name, spec, _ in string.Formatter().parse(text):
        pieces.append(literal)
        if name is not None:
            try:
                written = format(numbers[name], spec or ("d" if isinstance(numbers[name], int) else ".10g"))
            except ValueError as wrong:
                raise ValueError(f"{{{name}:{spec}}}: {wrong}") from None
            pieces.append(written.replace("-", "−").translate(str.maketrans(".,", separators)))
    return "".join(pieces)


# ---- arithmetic

OPERATORS: dict[type, Callable] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: operator.pow,
    ast.USub: operator.neg,
}
FUNCTIONS: dict[str, Callable] = {
    "sqrt": math.sqrt,
    "log": math.log,
    "exp": math.exp,
    "round": round,
    "min": min,
    "max": max,
}


class NotArithmetic(ValueError):
    """An expression that asks for more than arithmetic."""


def evaluate(expression: str, numbers: Mapping[str, Number]) -> Number:
    """The value of an arithmetic expression: numbers, names, + - * / // % ** and sqrt, log, exp, round, min, max.

    Walks the syntax tree itself: nothing else can be called, and no attribute read.
    """

    def value(node: ast.AST) -> Number:
        match node:
            case ast.Constant(value=int() | float() as number) if not isinstance(number, bool):
                return number
            case ast.Name(id=name) if name in numbers:
                return numbers[name]
            case ast.BinOp(left=left, op=op, right=right) if type(op) in OPERATORS:
                return OPERATORS[type(op)](value(left), value(right))
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                return -value(operand)
            case ast.Call(func=ast.Name(id=name), args=arguments, keywords=[]) if name in FUNCTIONS:
                return FUNCTIONS[name](*map(value, arguments))
        raise NotArithmetic(f"derive: {ast.unparse(node)!r} in {expression!r} is not arithmetic, or a name that is not defined")

    try:
        result = value(tree(expression))
    except NotArithmetic:
        raise
    except (ArithmeticError, TypeError, ValueError) as wrong:  # 1 / 0, sqrt(-1)
        raise ValueError(f"derive: {expression!r} with {dict(numbers)}: {wrong}") from None
    if isinstance(result, complex):
        raise ValueError(f"derive: {expression!r} with {dict(numbers)} is not a real number")
    return result


def names_in(expression: str) -> set[str]:
    return {node.id for node in ast.walk(tree(expression)) if isinstance(node, ast.Name)} - set(FUNCTIONS)


def tree(expression: str) -> ast.AST:
    if not isinstance(expression, str):
        raise NotArithmetic(f"derive: must be arithmetic in quotes, not {expression!r}")
    try:
        return ast.parse(expression, mode="eval").body
    except SyntaxError:
        raise NotArithmetic(f"derive: {expression!r} is not arithmetic") from None
