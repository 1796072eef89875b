from hypothesis import given
from hypothesis import strategies as st

from relevanced.daemon.assessment import CONTEXTUAL, FULL_TEXT, HYBRID, LIVE, RERANKED, Assessment, Reindex, Way, advice

ENDS = st.tuples(st.floats(-0.3, 0.3), st.floats(0, 0.2)).map(
    lambda drawn: Way(0.5 + drawn[0], drawn[0], drawn[0] - drawn[1], drawn[0] + drawn[1])
)
LIVES = Way(0.5, 0.0, 0.0, 0.0)
curves = st.lists(st.tuples(st.integers(8, 5000), ENDS), max_size=3)
ways = st.dictionaries(st.sampled_from([FULL_TEXT, HYBRID, RERANKED, CONTEXTUAL]), ENDS)


def way(difference: float, half: float) -> Way:
    return Way(0.5 + difference, difference, difference - half, difference + half)


def found(ways, curve=(), queries=500) -> Assessment:
    return Assessment(
        queries=queries,
        source="labelled queries",
        ways={LIVE: LIVES, **ways},
        curve=curve,
        reindex=Reindex(1000, 90.0, 0.8),
        remarks=(),
    )


@given(ways, curves, st.integers(1, 1000))
def test_only_what_no_luck_explains_is_advised_and_the_best_of_it(ways, curve, queries):
    said = advice(found(ways, curve, queries))
    cheap = {name: one for name, one in ways.items() if name != FULL_TEXT and one.low > 0 and one.difference >= 0.01}
    first = [sentence for sentence in said if sentence.startswith("First: ")]
    assert len(first) == bool(cheap)
    if cheap:
        best = max(one.difference for one in cheap.values())
        named = [name for name, one in cheap.items() if one.difference == best]
        assert any(first[0].startswith(f"First: {name}, brings {cheap[name]}") for name in named)
    assert any(sentence.startswith("Full-text search alone") for sentence in said) == (
        FULL_TEXT in ways and ways[FULL_TEXT].low > 0
    )
    assert (queries < 100) == said[0].endswith("before you decide.")


@given(ways, curves.filter(bool))
def test_fine_tuning_is_told_by_its_largest_training(ways, curve):
    pairs, last = curve[-1]
    (sentence,) = [one for one in advice(found(ways, curve)) if one.startswith("Fine-tuning")]
    assert f"on {pairs:,} pairs" in sentence
    assert str(last) in sentence
    assert ("collect more first" in sentence) == (last.low <= 0)


def test_where_hybrid_search_brings_most_it_comes_first_and_the_rest_follows():
    curve = [(250, way(0.01, 0.02)), (500, way(0.02, 0.015)), (1000, way(0.025, 0.01))]
    assert advice(found({HYBRID: way(0.06, 0.02), RERANKED: way(0.05, 0.02)}, curve)) == [
        "First: hybrid, fused by rank, brings +0.060 (+0.040 to +0.080), and it needs no training and no other index.",
        "Fine-tuning on 1,000 pairs brings +0.025 (+0.015 to +0.035), less than that; the last doubling of the"
        " pairs brought +0.005, so more pairs bring little.",
        "Each new version encodes 1,000 documents: about 90 s on this machine, and 1 MB of vectors.",
    ]


def test_with_nothing_to_teach_nothing_is_said_of_what_it_would_bring():
    assert advice(found({}))[:2] == [
        "None of the ways without training that were tried brings what can be told from luck.",
        "What fine-tuning would bring cannot be told yet: there is nothing to teach.",
    ]
