"""A recipe survives the way through JSON, and whatever is no recipe ends in one line.

It draws nothing and opens no file.
"""

import base64
import dataclasses
import json
import zlib

import pytest
from PIL import Image

from ldm_pipeline.recipe import SCHEMA, PictureRecipe, pixels_hash
from ldm_pipeline.recipe_parts import (
    GeneratorRecord,
    InputRecord,
    LoraRecord,
    RecipeError,
    RegionRecord,
    json_value,
    plain_name,
)
from ldm_pipeline.request import GenerationRequest

BOMB = base64.b64encode(zlib.compress(bytes(10**6), 9)).decode()
REQUEST = GenerationRequest(
    prompts=("Paris on a rainy day", 'Rom im Schnee ☃, "quoted"\nSteps: 99'),
    negative_prompts=("umbrella", "été"),
    num_images_per_prompt=2,
    seeds=(7, 8, 9, 2**32 - 1),
    num_inference_steps=14,
    guidance_scale=4.0,
    width=128,
    height=96,
)
RECIPE = PictureRecipe(
    request=REQUEST,
    picture=3,
    model="postcards",
    model_hash="ab" * 32,
    scheduler="DPMSolverMultistepScheduler",
    scheduler_config={"flow_shift": 1.0, "lambda_min_clipped": "-inf", "trained_betas": None},
    device="cpu",
    dtypes={"unet": "float32"},
    threads=2,
    environment={"cpu": "AVX2"},
    versions={"torch": "2.15.0", "ldm-pipeline": "0.1.0"},
    pixels_hash="01" * 32,
)


def changed(**fields: object) -> str:
    return json.dumps(json.loads(RECIPE.to_json()) | fields)


def test_a_recipe_knows_its_own_prompt_and_seed():
    assert (RECIPE.prompt, RECIPE.negative_prompt, RECIPE.seed) == (
        *('Rom im Schnee ☃, "quoted"\nSteps: 99', "été"),
        2**32 - 1,
    )
    record = json.loads(RECIPE.to_json())
    assert (record["schema"], record["seed"], record["prompt"]) == (SCHEMA, RECIPE.seed, RECIPE.prompt)


def test_equal_recipes_are_equal_text():
    again = PictureRecipe(**{name: getattr(RECIPE, name) for name in reversed(RECIPE.__dataclass_fields__)})
    assert again.to_json() == RECIPE.to_json()
    assert "\n" not in RECIPE.to_json()


FULL = dataclasses.replace(
    RECIPE,
    loras=(LoraRecord(name="ink.safetensors", hash="cd" * 32, weight=0.5, uneven=True),),
    lora_scale=0.5,
    guider="AdaptiveProjectedGuidance",
    guider_config={"guidance_scale": 3.0},
    regions=(
        RegionRecord(text="a dog", box=(0.0, 0.5, 1.0, 1.0)),
        RegionRecord(text="a cat", mask_hash="ef" * 32, weight=0.5),
    ),
    generator=GeneratorRecord.of_state(bytes(range(256)) * 8, device="cpu", shared=True),
    inputs=(InputRecord(name="image", hash="12" * 32), InputRecord(name="image", hash="34" * 32)),
    unrecorded=("callback_on_step_end",),
    withheld=("prompt",),
)


def test_every_field_comes_back():
    assert PictureRecipe.from_json(FULL.to_json()) == FULL
    differing = {
        entry.name
        for entry in dataclasses.fields(PictureRecipe)
        if getattr(FULL, entry.name) == getattr(PictureRecipe(request=GenerationRequest()), entry.name)
    }
    assert not differing, "the round trip says nothing about these fields"


def test_a_recipe_says_what_it_needs():
    assert RECIPE.replayable and RECIPE.needs == ()
    assert [(entry.name, entry.hash) for entry in FULL.needs] == [
        ("image", "12" * 32),
        ("image", "34" * 32),
        ("mask of region 1", "ef" * 32),
        ("lora ink.safetensors", "cd" * 32),
        ("lora weights by layer", ""),
        ("callback_on_step_end", ""),
        ("prompt", ""),
    ]
    record = json.loads(FULL.to_json())
    assert not record["replayable"] and len(record["needs"]) == 7
    assert FULL.hashes_of("image") == ("12" * 32, "34" * 32) and FULL.hashes_of("mask_image") == ()
    claimed = json.dumps(record | {"needs": [], "replayable": True})
    assert not PictureRecipe.from_json(claimed).replayable


def test_the_first_schema_is_still_read():
    old = {
        **{"schema": "ldm_recipe/1", "request": json.loads(REQUEST.to_json()), "picture": 3, "threads": 2},
        **{"model": "postcards", "model_hash": "ab" * 32, "lora": "ink.safetensors", "lora_hash": "cd" * 32},
        **{"image_hash": "12" * 32, "mask_hash": "", "device": "cpu", "dtype": "bfloat16", "seed": 9},
        **{"scheduler": "DDIMScheduler", "scheduler_config": {}, "versions": {}, "pixels_hash": ""},
        **{"prompt": "", "negative_prompt": ""},
    }
    recipe = PictureRecipe.from_json(json.dumps(old))
    assert recipe.loras == (LoraRecord(name="ink.safetensors", hash="cd" * 32),)
    assert (recipe.hashes_of("image"), recipe.dtype, recipe.seed) == (("12" * 32,), "bfloat16", 2**32 - 1)
    with pytest.raises(RecipeError, match="dtype"):
        PictureRecipe.from_json(json.dumps(old | {"dtype": 1}))


def test_a_public_recipe_keeps_texts_names_and_machine_to_itself():
    recipe = dataclasses.replace(FULL, environment={"gpu": "mine"}, withheld=())
    public = recipe.public()
    text = public.to_json()
    for secret in (
        "Rom im",
        "été",
        "Paris",
        "umbrella",
        "ink",
        "cdcd",
        "a dog",
        "a cat",
        "1212",
        "mine",
        "2.15",
    ):
        assert secret in recipe.to_json() and secret not in text, secret
    assert (public.seed, public.model, public.model_hash) == (recipe.seed, "postcards", "ab" * 32)
    assert (public.request.num_inference_steps, public.request.seeds) == (14, (2**32 - 1,))
    assert public.withheld == ("prompt", "negative_prompt", "regions", "loras", "inputs")
    assert not public.replayable and public.public() == public
    assert PictureRecipe.from_json(text) == public
    plain = PictureRecipe(request=GenerationRequest(prompts=("a",), negative_prompts=("",), seeds=(1,)))
    assert plain.public().withheld == ("prompt",)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "not JSON"),
        ("[]", "schema is list"),
        ("{}", "schema is None"),
        ("[" * 100_000, "not JSON"),
        ('{"schema": NaN}', "not JSON"),
        (changed(schema="ldm_recipe/99"), "ldm_recipe/99"),
        (changed(run="rm -rf"), "field run is unknown"),
        (changed(request=None), "no request"),
        (changed(request={"shell": 1}), "shell"),
        (changed(request={"seeds": [-1]}), "seed"),
        (changed(request={"num_inference_steps": 10**9}), "num_inference_steps"),
        (changed(request={"num_images_per_prompt": "2"}), "num_images_per_prompt"),
        (changed(picture=-1), "picture"),
        (changed(picture="0"), "picture"),
        (changed(threads=1.5), "threads"),
        (changed(model="../../models/other"), "model"),
        (changed(loras=[{"name": "https://example.org/x.safetensors"}]), "loras"),
        (changed(loras=[{"name": "x", "path": "x"}]), "path"),
        (changed(loras={}), "loras"),
        (changed(loras=["x"]), "schema"),
        (changed(loras=[{"name": "x", "weight": "1"}]), "loras"),
        (changed(loras=[{"name": "x"}] * 3000), "loras"),
        (changed(regions=[{"text": "x"}]), "regions"),
        (changed(regions=[{"text": "x", "box": [0, 0, 1]}]), "regions"),
        (changed(regions=[{"text": "x", "box": [0, 0, 1, 2]}]), "regions"),
        (changed(inputs=[{"name": "a/b"}]), "inputs"),
        (changed(unrecorded=[1]), "unrecorded"),
        (changed(withheld=["x" * 300]), "withheld"),
        (changed(generator={"device": "cpu", "state": "!"}), "generator"),
        (changed(generator={"device": "cpu", "state": BOMB}), "generator"),
        (changed(environment={"cpu": 1}), "environment"),
        (changed(lora_scale=True), "lora_scale"),
        (RECIPE.to_json().replace('"threads":2', '"threads":1e999'), "not JSON"),
        (RECIPE.to_json().replace('"threads":2', '"threads":' + "9" * 5000), "not JSON"),
        (changed(request={"prompts": ["x" * 200_000]}), "prompts"),
        (changed(request={"prompts": ["\\ud800"]}).replace("\\\\", "\\"), "prompts"),
        (changed(request={"width": 10**9, "height": 8}), "width"),
        (changed(request={"num_images_per_prompt": 10**12}), "num_images_per_prompt"),
        (changed(scheduler_config={"a": {"b": {"c": {"d": {"e": {"f": 1}}}}}}), "nested"),
        (changed(scheduler_config={"a": "file:///etc"}), "scheduler_config"),
        (changed(scheduler_config={"a": [0] * 3000}), "scheduler_config"),
        (" " * 2_000_000, "characters"),
        (changed(model_hash="xyz"), "model_hash"),
        (changed(versions={"torch": ["2"]}), "versions"),
        (changed(versions={"torch": "x" * 300}), "versions"),
        (changed(scheduler_config=[1]), "scheduler_config"),
    ],
    ids=lambda value: value[:24],
)
def test_a_damaged_recipe_is_one_line(text: str, complaint: str):
    with pytest.raises(RecipeError) as caught:
        PictureRecipe.from_json(text)
    assert complaint in str(caught.value)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 400


def test_names_and_hashes_say_nothing_of_this_machine():
    assert plain_name("/some/where/postcards/") == "postcards"
    assert plain_name("C:\\models\\a.safetensors") == "a.safetensors"
    red, blue = Image.new("RGB", (4, 2), "red"), Image.new("RGB", (4, 2), "blue")
    assert pixels_hash(red) == pixels_hash(red.copy()) != pixels_hash(blue)
    assert pixels_hash(red) != pixels_hash(Image.new("RGB", (2, 4), "red"))
    assert json_value({"a": (1, float("inf")), "b": None}) == {"a": [1, "inf"], "b": None}
