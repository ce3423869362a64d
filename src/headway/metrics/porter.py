"""The stem of an English word, found by cutting off suffixes.

    Porter 1980, An algorithm for suffix stripping (Program 14, 3)

Published ROUGE scores stem with nltk's version of it (`PorterStemmer` in its default mode), so
this is that version, letter by letter. Its rules are tables here; what is no table is a function
or a line with its step in the paper.
"""

from __future__ import annotations

from collections.abc import Mapping


def _table(text: str) -> dict[str, str]:
    """Read rules such as "ical:ic" or "ative:": an end, and what takes its place."""
    return dict(rule.split(":") for rule in text.split())


# nltk only: words that the rules would get wrong.
IRREGULAR = _table(
    "sky:sky skies:sky dying:die lying:lie tying:tie news:news inning:inning innings:inning "
    "outing:outing outings:outing canning:canning cannings:canning howe:howe proceed:proceed "
    "exceed:exceed succeed:succeed"
)
# The first suffix that fits decides, so a longer one stands before its own end.
STEP_1A = _table("sses:ss ss:ss s:")
STEP_2 = _table(
    "ational:ate tional:tion enci:ence anci:ance izer:ize bli:ble entli:ent eli:e ousli:ous "
    "ization:ize ation:ate ator:ate alism:al iveness:ive fulness:ful ousness:ous aliti:al "
    "iviti:ive biliti:ble fulli:ful"
)
STEP_3 = _table("icate:ic ative: alize:al iciti:ic ical:ic ful: ness:")
STEP_4 = _table(
    "al: ance: ence: er: ic: able: ible: ant: ement: ment: ent: ou: ism: ate: iti: ous: ive: ize:"
)


def stem_word(word: str) -> str:
    """Cut off the suffixes of a word.

    Args:
        word: Lower case; whatever is no vowel, such as a digit, counts as a consonant.
    Returns:
        stem: No longer than the word, and never empty where the word is not.
    Paper: Porter 1980, with the changes of nltk's NLTK_EXTENSIONS.
    Differs: from the paper, as nltk does: IRREGULAR; words of one or two letters stay; dies -> die
        (1a), spied -> spi (1b); y -> i after any consonant but the first letter (1c); bli, fulli,
        logi, and alli before the others (2); a stem such as "us" counts as short (*o).
    """
    if word in IRREGULAR or len(word) <= 2:
        return IRREGULAR.get(word, word)
    word = _strip_past(_strip_ie(word, "s") or _replace(word, STEP_1A, 0))
    if word.endswith("y") and len(word) > 2 and _shape(word)[-1] == "v":  # 1c
        word = word[:-1] + "i"
    word = _replace(word, {"alli": "al"}, 1)  # formalli -> formal, rationalli -> rational -> ration
    # The l of logi belongs to what is measured, so that geologi and theologi keep to one rule.
    if word.endswith("logi") and _measure(word[:-3]) >= 1:
        word = word[:-1]
    word = _replace(_replace(word, STEP_2, 1), STEP_3, 1)
    if word.endswith(("sion", "tion")) and _measure(word[:-3]) >= 2:
        word = word[:-3]
    else:
        word = _replace(word, STEP_4, 2)
    if word.endswith("e"):  # 5a
        measure = _measure(word[:-1])
        if measure > 1 or (measure == 1 and not _is_short(word[:-1])):
            word = word[:-1]
    return word[:-1] if word.endswith("ll") and _measure(word[:-1]) > 1 else word  # 5b


def _strip_past(word: str) -> str:
    """Cut off -eed, -ed and -ing, and mend what is left (step 1b)."""
    if short := _strip_ie(word, "d"):
        return short
    if word.endswith("eed"):
        return word[:-1] if _measure(word[:-3]) else word
    stem = word.removesuffix("ed") if word.endswith("ed") else word.removesuffix("ing")
    shape = _shape(stem)
    if stem == word or "v" not in shape:
        return word
    if stem.endswith(("at", "bl", "iz")):
        return stem + "e"
    if stem[-2:-1] == stem[-1] and shape[-1] == "c":
        return stem if stem[-1] in "lsz" else stem[:-1]
    return stem + "e" if _measure(stem) == 1 and _is_short(stem) else stem


def _strip_ie(word: str, end: str) -> str:
    """Turn dies and died into die, but flies and spied into fli and spi; "" for other words."""
    if not word.endswith("ie" + end):
        return ""
    return word[:-1] if len(word) == 4 else word[:-2]


def _replace(word: str, rules: Mapping[str, str], least: int) -> str:
    """Apply the first rule whose suffix fits, if what stands before it measures enough."""
    for suffix, instead in rules.items():
        if word.endswith(suffix):
            stem = word[: -len(suffix)]
            return stem + instead if _measure(stem) >= least else word
    return word


def _shape(word: str) -> str:
    """Write c for each consonant and v for each vowel: toy -> cvc, syzygy -> cvcvcv."""
    shape = ""
    for letter in word:
        shape += "v" if letter in "aeiou" or (letter == "y" and shape[-1:] == "c") else "c"
    return shape


def _measure(stem: str) -> int:
    """Count the m of the paper's [C](VC){m}[V]: tree 0, trouble 1, troubles 2."""
    return _shape(stem).count("vc")


def _is_short(stem: str) -> bool:
    """Find the paper's *o: an end as in hop or fil, or two letters such as us."""
    shape = _shape(stem)
    return shape == "vc" or (shape.endswith("cvc") and stem[-1] not in "wxy")
