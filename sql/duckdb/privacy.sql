-- What people give away when they search, kept from the log at its door. The functions are macros of the DuckDB in
-- memory, so every cursor of it sees them. Braces are filled in by daemon/privacy.py: CREATE MACRO takes no parameters.

-- create_protected_id --
-- An id as the log keeps it: its keyed hash, behind the key's number; '' is no id. Half of SHA-256 over key and id, for
-- what is cut off keeps the hash from being extended (chop-MD: Coron et al., Merkle-Damgård Revisited, CRYPTO 2005); it
-- costs 1.2 µs an id where HMAC costs 2.7.
CREATE OR REPLACE MACRO memory.main.protected_id(id) AS
    CASE WHEN id <> '' THEN 'k{key_number}:' || left(sha256(unhex('{key}') || encode(id)), 32) END;

-- create_unmasked --
-- Where the operator wants no masks.
CREATE OR REPLACE MACRO memory.main.masked(text) AS text;

-- create_masked --
-- A text with what names or charges a person replaced: e-mail addresses, IBANs, card and telephone numbers. Whoever
-- searches by a product's number shall find it, so a number must have the check digits and the beginning of its kind, or
-- a form that is a telephone number's alone. Most texts have nothing of the sort, and cost one look.
CREATE OR REPLACE MACRO memory.main.has_luhn_digit(number) AS
    -- ISO/IEC 7812: every second digit from the right counts double, less nine when that is more than nine.
    list_sum(list_transform(
        string_split(reverse(regexp_replace(number, '\D', '', 'g')), ''),
        lambda digit, place: CASE WHEN place % 2 = 1 THEN digit::INTEGER
                                  ELSE digit::INTEGER * 2 - CASE WHEN digit::INTEGER > 4 THEN 9 ELSE 0 END END
    )) % 10 = 0;
CREATE OR REPLACE MACRO memory.main.has_iban_digits(iban) AS
    -- ISO 13616: the first four signs behind the others, a letter as its place from A = 10, and all of it mod 97 is 1.
    list_reduce(
        list_transform(
            string_split(upper(substr(replace(iban, ' ', ''), 5) || left(replace(iban, ' ', ''), 4)), ''),
            lambda sign: CASE WHEN sign BETWEEN '0' AND '9' THEN ascii(sign) - 48 ELSE ascii(sign) - 55 END
        ),
        lambda rest, value: (rest * CASE WHEN value > 9 THEN 100 ELSE 10 END + value) % 97,
        0
    ) = 1;
CREATE OR REPLACE MACRO memory.main.without(text, found, mask) AS
    list_reduce(found, lambda rest, one: replace(rest, one, mask), text);
CREATE OR REPLACE MACRO memory.main.without_emails(text) AS
    regexp_replace(text, '[\pL\pN._%+''-]+@[\pL\pN-]+(?:\.[\pL\pN-]+)*\.[\pL]{2,}', '<email>', 'g');
CREATE OR REPLACE MACRO memory.main.without_ibans(text) AS
    without(
        text,
        list_filter(
            regexp_extract_all(text, '\b[A-Za-z]{2}\d{2} ?[A-Za-z0-9]{4}(?: ?\d{4}){1,6}(?: ?\d{1,4})?\b'),
            lambda one: has_iban_digits(one)
        ),
        '<iban>'
    );
CREATE OR REPLACE MACRO memory.main.without_cards(text, form) AS
    without(text, list_filter(regexp_extract_all(text, form), lambda one: has_luhn_digit(one)), '<card>');
CREATE OR REPLACE MACRO memory.main.without_phones(text) AS
    regexp_replace(
        text,
        '(^|[^\d\pL])\+[1-9](?:[ ()./-]{0,3}\d){7,14}\b'                          -- +49 (30) 123456
        || '|\b00[1-9]\d{0,2}[ ./-]\(?\d(?:[ ()./-]{0,2}\d){6,12}\b'               -- 0049 30 123456
        || '|\(\d{2,5}\) ?\d{3,4}[ .-]?\d{3,}\b'                                   -- (555) 123-4567
        || '|\b[2-9]\d{2}[ .-][2-9]\d{2}[ .-]\d{4}\b'                              -- 555-123-4567
        || '|\b0[1-9](?:[ .-]\d{2}){4}\b'                                          -- 06 12 34 56 78
        || '|\b0[1-9]\d{1,3} ?/ ?\d{4,}(?:[ -]?\d{1,4})*\b'                        -- 030/123456
        || '|\b0[1-9]\d{1,3} \d{3,4} \d{4}\b',                                     -- 020 7946 0958
        '\1<phone>',
        'g'
    );
CREATE OR REPLACE MACRO memory.main.masked(text) AS
    -- The lambdas give each step a name for what the one before made. Without them every macro would repeat it, and to
    -- plan a statement with masked() would take 28 ms.
    CASE WHEN regexp_matches(text, '@|\d[\d ()./-]{6}')
         THEN list_transform(
             list_transform(
                 -- The longest kinds first: 19 digits, then 16, 15 and 14; only what an issuer's number begins with.
                 list_transform(
                     list_transform([without_emails(text)], lambda one: without_ibans(one)),
                     lambda one: without_cards(
                         one, '\b(?:4\d{3}|62\d{2})[ -]?\d{4}[ -]?\d{4}[ -]?\d{4}[ -]?\d{3}\b'
                     )
                 ),
                 lambda one: without_cards(
                     one,
                     '\b(?:4\d{3}|5[1-5]\d{2}|2[2-7]\d{2}|6011|6[245]\d{2}|35[2-8]\d)[ -]?\d{4}[ -]?\d{4}[ -]?\d{4}\b'
                     || '|\b3[47]\d{2}[ -]?\d{6}[ -]?\d{5}\b|\b3(?:0[0-5]|[68]\d)\d[ -]?\d{6}[ -]?\d{4}\b'
                 )
             ),
             lambda one: without_phones(one)
         )[1]
         ELSE text END;
