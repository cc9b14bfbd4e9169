"""The named recipes fit together."""

import pytest

from training.recipes import RECIPES, Recipe


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)
def test_the_parts_of_a_recipe_fit_together(recipe: Recipe):
    assert RECIPES[recipe.name] is recipe
    assert recipe.unet.shape.sample_size == recipe.size // 8
    assert recipe.size % 32 == 0 and recipe.vae.crop % 16 == 0
    assert recipe.held_out_pictures < recipe.pictures
    assert recipe.judge.seed != recipe.recogniser.seed and recipe.judge.widths != recipe.recogniser.widths
    assert recipe.clip.width % recipe.clip.heads == 0 and recipe.clip.image_size <= recipe.size
    assert recipe.unet.half_size_steps < recipe.unet.fit.total_steps


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)
def test_every_run_of_a_recipe_can_be_shared_by_two_processes(recipe: Recipe):
    for run in (recipe.recogniser, recipe.judge, recipe.vae, recipe.clip, recipe.unet):
        assert run.fit.batch_size % 2 == 0
        assert run.fit.optimizer.warmup_steps < run.fit.total_steps
