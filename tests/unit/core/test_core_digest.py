import subprocess
import sys
from hashlib import blake2b

import pytest
import torch

import gigpo_core
from gigpo_core import anchor_digest, anchor_digests, anchor_keys


def test_the_digest_is_blake2b_of_the_canonical_text():
    assert anchor_digest("room 3\n") == blake2b(b"room 3", digest_size=16).digest()
    assert anchor_digest("").hex() == "cae66941d9efbd404e4d88758ea67670"


@pytest.mark.parametrize(
    ("one", "other"),
    [("caf\u00e9", "cafe\u0301"), ("a\r\nb", "a\nb"), ("a\rb", "a\nb"), ("a  \n\t", "a"), ("\u00e9 ", "\u00e9")],
)
def test_two_spellings_of_one_state_share_a_digest(one, other):
    assert anchor_digest(one) == anchor_digest(other)


@pytest.mark.parametrize(("one", "other"), [("a", "A"), (" a", "a"), ("a b", "a  b"), ("a\n\nb", "a\nb"), ("", "0")])
def test_different_states_have_different_digests(one, other):
    assert anchor_digest(one) != anchor_digest(other)


def test_an_action_is_its_words():
    assert (
        gigpo_core.action_digest("  go \t north\n") == gigpo_core.action_digest("go north") == anchor_digest("go north")
    )
    assert gigpo_core.action_digest("go North") != gigpo_core.action_digest("go north")


def test_lone_surrogates_are_digested():
    assert anchor_digest("\ud800") != anchor_digest("\ud801")


def test_keys_are_the_digests_as_two_little_endian_numbers():
    texts = ["kitchen", "hall", "kitchen"]
    keys = anchor_keys(texts)
    assert keys.dtype == torch.int64
    assert keys.shape == (3, 2)
    for text, row in zip(texts, keys.tolist(), strict=True):
        digest = anchor_digest(text)
        assert row == [int.from_bytes(half, "little", signed=True) for half in (digest[:8], digest[8:])]
    assert anchor_digests(texts) == b"".join(map(anchor_digest, texts))
    assert anchor_keys([]).shape == (0, 2)


def test_digests_and_errors_load_without_torch():
    program = (
        "import sys; from gigpo_core import anchor_digest, RowError; from gigpo_core.digest import anchor_digests;"
        "assert len(anchor_digest('a')) == 16 and 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True, cwd=gigpo_core.__path__[0] + "/..")


def test_every_public_name_is_there_and_no_other():
    for name in gigpo_core.__all__:
        assert getattr(gigpo_core, name).__name__ == name
        assert getattr(gigpo_core, name).__doc__
    with pytest.raises(AttributeError, match="no attribute 'no_such_name'"):
        _ = gigpo_core.no_such_name
