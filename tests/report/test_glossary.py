"""Terms are marked where they stand, and only they."""

import pytest

from car_ext.report.glossary import TERMS, Glossary


@pytest.mark.parametrize("term", TERMS, ids=lambda term: term.name)
def test_every_way_to_write_a_term_is_marked(term):
    for phrase in (*term.phrases, *term.alone):
        glossary = Glossary()
        assert glossary.mark(phrase) == f'<a class="term" href="#{term.id}">{phrase}</a>'
        assert glossary.terms == [term]


def test_names_and_ids_are_distinct():
    assert len({term.id for term in TERMS}) == len(TERMS)


def test_a_term_is_marked_once_and_the_rest_escaped():
    glossary = Glossary()
    marked = glossary.mark("<img onerror=alert(1)> & Worst class, worst class of few images; worst classes")
    link = '<a class="term" href="#term-worst-class">Worst class</a>'
    assert marked == f"&lt;img onerror=alert(1)&gt; &amp; {link}, worst class of few images; worst classes"
    assert [term.name for term in glossary.terms] == ["worst class"]


def test_the_longest_phrase_wins_and_a_space_may_be_a_hard_one():
    glossary = Glossary()
    assert "macro F1</a>" in glossary.mark("macro F1")
    assert "#term-classes-at-0" in glossary.mark("classes at 0\N{NO-BREAK SPACE}%")
    assert glossary.mark("a few of them") == "a few of them"
