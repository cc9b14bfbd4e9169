"""Settings of a recipe as texts: every type of field, and one line for whatever does not fit."""

from dataclasses import replace

import pytest

from training.recipes import SMOKE
from training.settings import adjusted, differences


def test_texts_set_fields_of_every_type_and_leave_the_rest():
    texts = [
        "unet.fit.batch_size=32", "unet.fit.optimizer.learning_rate=2e-4", "unet.prediction=v",
        "unet.shape.channels=32, 64,96", "unet.shape.attention=no,true,yes", "sampling.height=128",
        "sampling.scheduler=none", "vae.fit.optimizer.betas=0.8,0.9", "world.cities=new york,rome",
        "world.hold_out=false",
    ]  # fmt: skip
    changed = adjusted(SMOKE, texts)
    assert changed.unet.fit.batch_size == 32 and changed.unet.fit.optimizer.learning_rate == 2e-4
    assert changed.unet.prediction == "v" and changed.unet.shape.channels == (32, 64, 96)
    assert changed.unet.shape.attention == (False, True, True)
    assert changed.sampling.height == 128 and changed.sampling.scheduler is None
    assert changed.vae.fit.optimizer.betas == (0.8, 0.9)
    assert changed.world.cities == ("new york", "rome") and changed.world.hold_out is False
    assert (
        replace(changed, unet=SMOKE.unet, sampling=SMOKE.sampling, vae=SMOKE.vae, world=SMOKE.world) == SMOKE
    )


def test_later_texts_win_and_differences_say_what_was_changed():
    changed = adjusted(SMOKE, ["clip.width=128", "clip.width=96", "world.hold_out=false", "vae.crop=64"])
    assert differences(SMOKE, changed) == ["world.hold_out=false", "clip.width=96"]
    assert adjusted(SMOKE, differences(SMOKE, changed)) == changed and differences(SMOKE, SMOKE) == []


@pytest.mark.parametrize(
    "text, words",
    [
        (
            "unet.fit.batchsize=3",
            "there is no field 'unet.fit.batchsize'; the nearest is 'unet.fit.batch_size'",
        ),
        ("batch_size=3", "there is no field 'batch_size'"),
        ("unet.fit=3", "there is no field 'unet.fit'"),
        ("unet.fit.batch_size", "has no '='"),
        ("unet.fit.batch_size=many", "must be a whole number"),
        ("unet.fit.batch_size=2.5", "must be a whole number"),
        ("unet.fit.average_decay=nan", "must be a number"),
        ("unet.prediction=x0", "must be one of flow, epsilon, v"),
        ("vae.fit.optimizer.betas=0.9", "must be 2 numbers separated by commas"),
        ("unet.shape.channels=3,x", "must be whole numbers separated by commas"),
        ("world.hold_out=maybe", "must be true or false"),
        ("sampling.height=tall", "must be a whole number or none"),
        ("world.cities=atlantis", "'atlantis' is unknown"),
        ("unet.fit.batch_size=0", "batch_size=0: must be at least 1"),
    ],
)
def test_what_does_not_fit_is_one_line_that_says_why(text: str, words: str):
    with pytest.raises(ValueError) as error:
        adjusted(SMOKE, [text])
    assert words in str(error.value) and "\n" not in str(error.value)
