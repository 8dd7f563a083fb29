"""Names in Redis."""

import inspect
import re

from services.contracts import keys


def functions():
    return {name: f for name, f in inspect.getmembers(keys, inspect.isfunction) if f.__module__ == keys.__name__}


def test_every_key_of_a_job_has_its_one_hash_tag():
    for name, function in functions().items():
        parameters = list(inspect.signature(function).parameters)
        if parameters[0] == "job":
            key = function(*["job_1", "g1"][: len(parameters)])
            assert re.findall(r"{(.*?)}", key) == ["job_1"], name


def test_no_two_keys_share_a_name():
    made = [function(*["x", "y"][: len(inspect.signature(function).parameters)]) for function in functions().values()]
    assert len(set(made)) == len(made)


def test_a_deletion_knows_every_key_of_a_job():
    of_jobs = {f for f in functions().values() if list(inspect.signature(f).parameters) == ["job"]}
    assert of_jobs - set(keys.LASTING) == {keys.deleted, keys.plays, keys.watched}  # the last two expire
