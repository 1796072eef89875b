"""
Queries as they are typed, and which of them are the same.

In:  user_query. Out: query_key, under which evidence is pooled, and cluster_key, by which the holdout is drawn.
"""

import re
import unicodedata
from functools import lru_cache
from typing import Final

_APOSTROPHES: Final = re.compile(r"['’‘ʼ`]")
_FUNCTION_WORDS: Final = frozenset(
    "a an and are at by can do does for from how i in is it my of on or the to what when where which why with".split()  # noqa: SIM905
)
_ENDING: Final = re.compile(r"(?<=\w{3})(ations?|ing(s|ly)?|ed(ly)?|ie[ds]|es|er|ly|[sye])$")  # "bus", "bed" stay whole
_DOUBLED: Final = re.compile(r"(?<=\w{2})(\w)\1$")


def query_key(user_query: str) -> str:
    """
    Fold what does not change the meaning of a query: Unicode form, case, punctuation and white space.

    Symbols (Unicode S*) and a # behind a letter stay, for "c", "c++" and "c#" are three questions. A text of nothing
    but punctuation keeps it. Folding a key again gives the same key.
    """
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", user_query).casefold())
    plain = _APOSTROPHES.sub("", folded)
    kept = "".join(
        letter if _carries_meaning(letter, before) else _gap(letter)
        for before, letter in zip(" " + plain, plain, strict=False)
    )
    return " ".join(unicodedata.normalize("NFKC", kept).split()) or " ".join(folded.split())


def cluster_key(query_key: str) -> str:
    """
    Fold a query key further, until near-duplicates are equal: accents, endings, function words, order, repetition.

    It may well join too much: joined queries merely share a side of the holdout, while a near-duplicate on either side
    would leak (arXiv:2206.14759). The endings are English; elsewhere less is joined.
    """
    words = query_key.split()
    telling = [word for word in words if word not in _FUNCTION_WORDS] or words
    return " ".join(sorted({_stem(word) for word in telling}))


def _carries_meaning(letter: str, before: str) -> bool:
    return unicodedata.category(letter)[0] in "LMNS" or (letter == "#" and before.isalnum())


def _gap(letter: str) -> str:
    """Format characters (soft hyphen, zero-width joiner) stand within words; everything else parts them."""
    return "" if unicodedata.category(letter) == "Cf" else " "


@lru_cache(maxsize=65536)
def _stem(word: str) -> str:
    bare = "".join(letter for letter in unicodedata.normalize("NFD", word) if not unicodedata.combining(letter))
    while (stem := _DOUBLED.sub(r"\1", _ENDING.sub("", bare))) != bare:
        bare = stem
    return bare or word
