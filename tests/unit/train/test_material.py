"""Options that mean nothing for a task are refused before anything is read."""

from __future__ import annotations

import pytest

from headway import recipe as recipes
from headway import registry
from headway.errors import ConfigError
from headway.train.material import find_material


def find(name: str, **data):
    recipe = recipes.read(recipes.find(name), {"data": {"train": ["nowhere.txt"], **data}})
    return find_material(recipe, registry.load_class("tasks", recipe.task.name)())


@pytest.mark.parametrize("data", [{"columns": ["text"]}, {"skip-bad": True}])
def test_what_only_records_have_is_refused_for_running_text(data):
    with pytest.raises(ConfigError, match=rf"data\.{next(iter(data))} .* masked_lm, which reads"):
        find("roberta-mini-pretrain", **data)


def test_passes_are_refused_for_records():
    with pytest.raises(ConfigError, match=r"data\.weights .* translation, which reads records"):
        find("multi30k-rnn", weights=[1.0])


@pytest.mark.parametrize(
    ("limit", "expected"), [(None, ["one", "two", "six"]), (2, ["one", "two"])]
)
def test_a_vocabulary_can_go_over_a_corpus_twice(limit, expected, tmp_path):
    (tmp_path / "a.txt").write_text("one\ntwo\n\nsix\n")
    data = {"train": [str(tmp_path / "a.txt")], "valid": [], "max-rows": limit}
    texts = find("roberta-mini-pretrain", **data).texts()
    assert list(texts) == list(texts) == expected
