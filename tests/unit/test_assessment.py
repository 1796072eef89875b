from hypothesis import given
from hypothesis import strategies as st

from relevanced.daemon.assessment import (
    CONTEXTUAL,
    FULL_TEXT,
    HYBRID,
    LIVE,
    RERANKED,
    WITHOUT_TRAINING,
    Assessment,
    Reindex,
    Way,
    advice,
)

some_ways = st.tuples(st.floats(-0.3, 0.3), st.floats(0, 0.2)).map(
    lambda drawn: Way(0.5 + drawn[0], drawn[0], drawn[0] - drawn[1], drawn[0] + drawn[1])
)
LIVES = Way(0.5, 0.0, 0.0, 0.0)
curves = st.lists(st.tuples(st.integers(8, 5000), some_ways), max_size=3)
ways = st.dictionaries(st.sampled_from([FULL_TEXT, *WITHOUT_TRAINING]), some_ways)
stacks = st.fixed_dictionaries(dict.fromkeys(WITHOUT_TRAINING, some_ways))


def way(difference: float, half: float) -> Way:
    return Way(0.5 + difference, difference, difference - half, difference + half)


def found(ways, curve=(), *, stacked=None, doubling=None, queries=500) -> Assessment:
    return Assessment(
        queries=queries,
        source="labelled queries",
        ways={LIVE: LIVES, **ways},
        rerank_seconds=0.31,
        curve=curve,
        doubling=doubling,
        stacked=stacked or {},
        reindex=Reindex(1000, 90.0, 0.8),
        remarks=(),
    )


def paying(ways) -> dict[str, Way]:
    cheap = {name: ways[name] for name in WITHOUT_TRAINING if name in ways}
    return {name: one for name, one in cheap.items() if one.low > 0 and one.difference >= 0.01}


def of_training(said: list[str]) -> str:
    (sentence,) = [one for one in said if one.startswith("Fine-tuning")]
    return sentence


@given(ways, curves, st.integers(1, 1000))
def test_only_what_no_luck_explains_is_advised_and_the_best_of_it(ways, curve, queries):
    said = advice(found(ways, curve, queries=queries))
    cheap = paying(ways)
    first = [sentence for sentence in said if sentence.startswith("First: ")]
    assert len(first) == bool(cheap)
    if cheap:
        best = max(one.difference for one in cheap.values())
        named = [name for name, one in cheap.items() if one.difference == best]
        assert any(first[0].startswith(f"First: {name} brings {cheap[name]}") for name in named)
    assert any(sentence.startswith("Full-text search alone") for sentence in said) == (
        FULL_TEXT in ways and ways[FULL_TEXT].low > 0
    )
    assert (queries < 100) == said[0].endswith("before you decide.")


@given(ways, curves.filter(bool), stacks, st.none() | some_ways)
def test_fine_tuning_is_worth_it_only_where_it_pays_behind_what_comes_first(ways, curve, stacked, doubling):
    pairs, alone = curve[-1]
    cheap = paying(ways)
    best = max(cheap, key=lambda name: cheap[name].difference, default=None)
    sentence = of_training(advice(found(ways, curve, stacked=stacked, doubling=doubling)))
    assert sentence.startswith(f"Fine-tuning on {pairs:,} pairs brings {alone}")
    deciding = stacked[best] if best else alone
    assert str(deciding) in sentence
    assert ("it is worth it" in sentence) == (deciding.low > 0 and deciding.difference >= 0.01)
    assert ("ranks worse" in sentence) == (deciding.high < 0)


@given(some_ways)
def test_that_more_pairs_bring_more_or_little_is_said_only_where_the_interval_says_so(doubling):
    sentence = of_training(advice(found({}, [(500, way(0.05, 0.01)), (1000, way(0.06, 0.01))], doubling=doubling)))
    assert str(doubling) in sentence
    assert ("will bring more." in sentence) == (doubling.low > 0 and doubling.difference >= 0.01)
    assert ("will bring little." in sentence) == (doubling.high < 0.01)


def test_what_hybrid_search_brings_comes_first_and_fine_tuning_is_judged_behind_it():
    curve = [(250, way(0.01, 0.02)), (500, way(0.02, 0.015)), (1000, way(0.025, 0.01))]
    ways = {HYBRID: way(0.06, 0.02), RERANKED: way(0.05, 0.02)}
    stacked = {HYBRID: way(0.004, 0.01), RERANKED: way(0.02, 0.01)}
    assert advice(found(ways, curve, stacked=stacked, doubling=way(0.001, 0.005))) == [
        "First: hybrid search brings +0.060 (+0.040 to +0.080); it needs no training and no other index.",
        "Fine-tuning on 1,000 pairs brings +0.025 (+0.015 to +0.035) alone, and +0.004 (-0.006 to +0.014) behind hybrid"
        " search, which luck may explain: not yet. The last doubling of the pairs brought +0.001 (-0.004 to +0.006), so"
        " more will bring little.",
        "Each new version encodes 1,000 documents: about 90 s on this machine, and 1 MB of vectors.",
    ]


def test_a_reranker_is_advised_with_the_time_that_it_takes():
    said = advice(found({RERANKED: way(0.06, 0.02), CONTEXTUAL: way(0.05, 0.02)}))
    assert said[0].endswith("(+0.040 to +0.080); it needs no training, and 0.31 s for each query on this machine.")


def test_with_nothing_to_teach_nothing_is_said_of_what_it_would_bring():
    assert advice(found({}))[:2] == [
        "None of the ways without training that were tried brings what can be told from luck.",
        "What fine-tuning would bring cannot be told yet: there is nothing to teach.",
    ]


def test_what_held_a_weak_model_up_and_holds_a_better_one_back_is_said():
    def said(ndcg: float) -> str:
        behind = {HYBRID: Way(ndcg, 0.043, 0.032, 0.053)}
        return of_training(advice(found({HYBRID: way(0.04, 0.01)}, [(1000, way(0.1, 0.01))], stacked=behind)))

    assert (
        ". But alone it ranks at 0.600 then, and with hybrid search at 0.580: assess again once it is live. "
        in said(0.58)
    )
    assert "assess again" not in said(0.61)
