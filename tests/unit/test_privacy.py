"""What becomes of ids and texts at the door: hashed under a key, and masked where they name a person."""

import string
from collections.abc import Callable

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relevanced.daemon.privacy import protected_id, protection

KEY = bytes(range(32))
# DuckDB plans `masked` anew for each example, which takes far longer than to run it.
few_examples = settings(max_examples=25)

Ask = Callable[[str, str | None], str | None]


@pytest.fixture(scope="module")
def ask() -> Ask:
    """Asks one of the functions, from a cursor of its own."""
    connection = duckdb.connect()
    for statement in protection(7, KEY, patterns=True):
        connection.execute(statement)

    def one(function: str, value: str | None) -> str | None:
        ((answer,),) = connection.cursor().execute(f"SELECT {function}($value)", {"value": value}).fetchall()
        return answer

    return one


def luhn_digit(number: str) -> str:
    """The digit that completes a card number, worked out the other way round: from the left of the reversed payload."""
    total = sum(
        sum(divmod(int(digit) * 2, 10)) if place % 2 == 0 else int(digit) for place, digit in enumerate(number[::-1])
    )
    return str(-total % 10)


def iban_of(country: str, account: str) -> str:
    rest = int("".join(str(int(sign, 36)) for sign in f"{account}{country}00")) % 97
    return f"{country}{98 - rest:02}{account}"


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1))
def test_an_id_becomes_its_keyed_hash_in_sql_as_in_python(ask, raw_id):
    assert ask("protected_id", raw_id) == protected_id(raw_id, 7, KEY)


def test_the_hash_is_half_of_sha256_over_key_and_id(ask):
    """The vector is hashlib's; it holds the form that is stored for ever."""
    assert ask("protected_id", "client-1") == "k7:183a632c06d8edee0782ecdb8ab4ba7f"


@pytest.mark.parametrize("absent", [None, ""])
def test_no_id_stays_no_id(ask, absent):
    assert ask("protected_id", absent) is None


@pytest.mark.parametrize("text", [None, "", " "])
def test_no_text_stays_as_it_is(ask, text):
    assert ask("masked", text) == text


@pytest.mark.parametrize(
    ("typed", "kept"),
    [
        ("invoice for jane.doe+x@mail.example.co.uk please", "invoice for <email> please"),
        ("ärger@büro.de", "<email>"),
        ("DE89 3704 0044 0532 0130 00 kosten", "<iban> kosten"),
        ("gb29NWBK60161331926819", "<iban>"),
        ("4111 1111 1111 1111 123", "<card> 123"),
        ("amex 378282246310005 declined", "amex <card> declined"),
        ("diners 3056 930902 5904", "diners <card>"),
        ("6200 0000 0000 0000 000", "<card>"),
        ("who calls from +49 (30) 1234567", "who calls from <phone>"),
        ("0049 30 1234567", "<phone>"),
        ("(555) 123-4567", "<phone>"),
        ("415-555-0132 or 415 555 0133", "<phone> or <phone>"),
        ("06 12 34 56 78", "<phone>"),
        ("taxi 030/1234567", "taxi <phone>"),
        ("020 7946 0958 reverse lookup", "<phone> reverse lookup"),
    ],
)
def test_what_names_or_charges_a_person_is_masked(ask, typed, kept):
    assert ask("masked", typed) == kept


@pytest.mark.parametrize(
    "typed",
    [
        "iphone 15 pro max 256",
        "4006381333931",  # EAN-13, with Luhn's check digit by chance of one in ten
        "978-3-16-148410-0",
        "bosch 0 986 424 797",
        "bosch 0986 424 797",
        "6205-2RS 25x52x15",
        "1000000000000 in words",
        "4111 1111 1111 1112",  # no card: its check digit is wrong
        "ab12 3456 7890 1234 5678",  # no IBAN, likewise
        "192.168.100.200",
        "2024-01-02 12:30:15",
        "01.02.2024 12.30 uhr",
        "1 000 000 000 + 2 000 000 000",
        "c++ 17 @ 3.2 ghz",
        "@relevanced on mastodon",
        "sum 1+2345678901",
        "kw 10 / 2025-2026",
        "123 456 7890",  # no area code begins with 1
    ],
)
def test_ordinary_searches_with_numbers_are_not_masked(ask, typed):
    assert ask("masked", typed) == typed


@few_examples
@given(
    st.lists(
        st.one_of(
            st.from_regex(r"[a-zäöüß]{1,12}", fullmatch=True),
            st.integers(0, 999_999).map(str),
            st.from_regex(r"[A-Z]{1,3}-?[0-9]{1,5}[A-Z]?", fullmatch=True),
            st.from_regex(r"[0-9]{1,3}([.,][0-9]{1,2})?(mm|kg|%|°|\")", fullmatch=True),
        ),
        min_size=1,
        max_size=2,
    )
)
def test_words_sizes_and_models_are_never_masked(ask, words):
    typed = " ".join(words)
    assert ask("masked", typed) == typed


@few_examples
@given(
    st.sampled_from(["4", "51", "55", "2221", "6011", "65"]),
    st.text(string.digits, min_size=15, max_size=15),
    st.sampled_from(["", " ", "-"]),
)
def test_every_card_number_is_masked_however_it_is_grouped(ask, issuer, digits, gap):
    number = (issuer + digits)[:15]
    number += luhn_digit(number)
    grouped = gap.join(number[start : start + 4] for start in range(0, 16, 4))
    assert ask("masked", f"refund {grouped}") == "refund <card>"


@few_examples
@given(st.text(string.digits, min_size=18, max_size=18), st.booleans())
def test_every_iban_is_masked(ask, account, grouped):
    iban = iban_of("DE", account)
    written = " ".join(iban[start : start + 4] for start in range(0, 22, 4)) if grouped else iban
    assert ask("masked", f"{written} iban") == "<iban> iban"


@few_examples
@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")))
def test_masking_twice_changes_nothing_more(ask, typed):
    once = ask("masked", typed)
    assert ask("masked", once) == once


def test_an_operator_may_keep_the_texts_as_they_are():
    connection = duckdb.connect()
    for statement in protection(1, KEY, patterns=False):
        connection.execute(statement)
    assert connection.execute("SELECT masked('a@b.example')").fetchall() == [("a@b.example",)]
