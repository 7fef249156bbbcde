"""A recipe that is neither a name, nor a Recipe, nor a path."""

from __future__ import annotations

from typing import Any

import pytest

from precscope.errors import UsageError
from precscope.recipe import Recipe


def test_what_is_no_recipe_is_named() -> None:
    number: Any = 3
    with pytest.raises(UsageError, match="recipe is a int"):
        Recipe.of(number)
