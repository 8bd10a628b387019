"""The share of seeded mistakes that the checks name, over the series."""

from tests.exercises.answers import ALL, NOTEBOOKS
from tests.exercises.zoo import all_rows, measured, page


def test_at_least_95_percent_of_the_seeded_mistakes_are_named_and_the_page_says_how_many():
    counts = measured()
    seeded, named = (sum(column) for column in zip(*counts.values()))
    assert named >= 0.95 * seeded
    assert (NOTEBOOKS.parent / "docs" / "exercises.md").read_text(encoding="utf-8") == page(counts)


def test_mistakes_are_seeded_in_every_exercise():
    assert {row[0] for row in all_rows()} == set(ALL)
    assert len(all_rows()) >= 150
