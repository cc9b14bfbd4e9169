"""Three hundred damaged or hostile files: each ends in a reading or in one line, soon and in little memory.

Hypothesis makes them, the same ones each time. The hand-made ones stand with the modules that they attack.
"""

import io
import json
import struct
import time
import tracemalloc
import zlib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as some
from PIL import Image

from ldm_pipeline.containers import PNG_SIGNATURE
from ldm_pipeline.foreign import read_made_by
from ldm_pipeline.parameters import ForeignRecipe
from ldm_pipeline.picture_files import CHUNK, FORMATS, save_options
from ldm_pipeline.recipe import PictureRecipe
from ldm_pipeline.recipe_parts import GeneratorRecord, LoraRecord, RecipeError, RegionRecord
from ldm_pipeline.request import GenerationRequest

STABLE = settings(
    max_examples=100,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
RECIPE = PictureRecipe(
    request=GenerationRequest(prompts=("Paris\nSteps: 99, Seed: 1",), seeds=(7,)),
    model="postcards",
    model_hash="ab" * 32,
    loras=(LoraRecord(name="ink", hash="cd" * 32),),
    regions=(RegionRecord(text="a dog", box=(0.0, 0.0, 1.0, 1.0)),),
    generator=GeneratorRecord.of_state(b"state" * 9, device="cpu", shared=False),
    scheduler_config={"a": [1, 2.5, None, "x"]},
    versions={"torch": "2.15.0"},
)
PLAIN: dict[str, Any] = json.loads(RECIPE.to_json())
FIELDS = sorted(PLAIN)
WORDS = some.sampled_from(
    ["", "../../etc/passwd", "https://example.org/x", "C:\\x", "\0", "\ud800", "NaN", "x" * 3_000, "Steps: 1"]
)
NUMBERS = some.one_of(
    some.integers(-(2**70), 2**70), some.floats(), some.sampled_from([10**300, -1, 2**32, 1e308])
)
JSON_VALUES = some.recursive(
    some.one_of(some.none(), some.booleans(), NUMBERS, WORDS, some.text(max_size=20)),
    lambda inner: some.one_of(
        some.lists(inner, max_size=4), some.dictionaries(some.text(max_size=8), inner, max_size=4)
    ),
    max_leaves=12,
)


def file_of(format: str, recipe: PictureRecipe = RECIPE) -> bytes:
    buffer = io.BytesIO()
    options = FORMATS[format] | save_options(recipe, format=format)
    Image.new("RGB", (16, 8), "red").save(buffer, format=format, **options)
    return buffer.getvalue()


WHOLE = {format: file_of(format) for format in FORMATS}


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(*chunks: bytes) -> bytes:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 8, 8, 8, 2, 0, 0, 0))
    return PNG_SIGNATURE + header + b"".join(chunks) + chunk(b"IEND", b"")


def outcome(folder: Path, content: bytes) -> PictureRecipe | ForeignRecipe | str:
    """Reads a file, and holds what comes of it to the rules."""
    path = folder / "a.png"
    path.write_bytes(content)
    began = time.process_time()
    tracemalloc.start()
    try:
        found: PictureRecipe | ForeignRecipe | str = read_made_by(path)
    except RecipeError as error:
        found = str(error)
        assert found.isprintable() or "\n" not in found
        assert "\n" not in found and len(found) < 500
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 64_000_000 and time.process_time() - began < 10
    if isinstance(found, PictureRecipe):
        for name in (found.model, found.scheduler, *(lora.name for lora in found.loras)):
            assert not {*"/\\:"} & {*name}
        assert PictureRecipe.from_json(found.to_json()) == found
    return found


@STABLE
@given(
    field=some.sampled_from(FIELDS),
    value=JSON_VALUES,
    inside=some.sampled_from(["", *sorted(PLAIN["request"])]),
)
def test_recipes_with_any_value_in_any_field(field: str, value: Any, inside: str, tmp_path: Path):
    told = PLAIN | ({"request": PLAIN["request"] | {inside: value}} if inside else {field: value})
    text = json.dumps(told)
    outcome(tmp_path, png(chunk(b"iTXt", CHUNK.encode() + b"\0\0\0\0\0" + text.encode())))


@STABLE
@given(
    format=some.sampled_from(sorted(WHOLE)),
    cut=some.integers(0, 6_000),
    flips=some.lists(some.tuples(some.integers(0, 6_000), some.integers(0, 255)), max_size=6),
)
def test_files_that_are_cut_off_or_bit_flipped(
    format: str, cut: int, flips: list[tuple[int, int]], tmp_path: Path
):
    broken = bytearray(WHOLE[format])
    for place, value in flips:
        broken[place % len(broken)] = value
    found = outcome(tmp_path, bytes(broken[: len(broken) - cut] if cut % 2 else broken))
    if not flips and not cut % 2:
        assert found == RECIPE


@STABLE
@given(
    kinds=some.lists(some.sampled_from([b"tEXt", b"zTXt", b"iTXt", b"eXIf", b"IDAT", b"IHDR"]), max_size=4),
    keyword=some.sampled_from(
        [CHUNK, "parameters", "prompt", "workflow", "Dream", "sd-metadata", "invokeai_metadata", "Comment"]
    ),
    text=some.one_of(
        JSON_VALUES.map(json.dumps),
        some.binary(max_size=60).map(lambda content: content.decode("latin-1")),
        some.sampled_from(["[" * 50_000, "{" * 50_000, "Steps: 1, " * 999, "a\nSteps: 1", RECIPE.to_json()]),
    ),
    packed=some.booleans(),
)
def test_pngs_of_any_chunks(kinds: list[bytes], keyword: str, text: str, packed: bool, tmp_path: Path):
    content = text.encode("utf-8", "replace")
    bodies = {
        b"tEXt": keyword.encode() + b"\0" + content,
        b"zTXt": keyword.encode() + b"\0\0" + (zlib.compress(content) if packed else content),
        b"iTXt": keyword.encode()
        + (b"\0\1\0\0\0" + zlib.compress(content) if packed else b"\0\0\0\0\0" + content),
    }
    outcome(tmp_path, png(*[chunk(kind, bodies.get(kind, content)) for kind in kinds]))


@pytest.mark.parametrize("format", sorted(WHOLE))
def test_the_whole_files_are_read(format: str, tmp_path: Path):
    assert outcome(tmp_path, WHOLE[format]) == RECIPE


@pytest.mark.parametrize(
    "content",
    [
        png(chunk(b"zTXt", CHUNK.encode() + b"\0\0" + zlib.compress(b" " * 200_000_000, 9))),
        png(*[chunk(b"tEXt", CHUNK.encode() + b"\0" + b"[" * 3_000_000)] * 9),
        png(chunk(b"iTXt", CHUNK.encode() + b"\0\0\0\0\0" + b'{"a":[' + b"[]," * 300_000 + b"[]]}")),
        WHOLE["JPEG"].replace(b"trainedAlgorithmicMedia", b"<!DOCTYPE a [<!ENT "),
        WHOLE["WEBP"].replace(b"ldm_recipe/2", b"ldm_recipe/3"),
    ],
    ids=["text bomb", "large texts", "many lists", "entities", "schema"],
)
def test_bombs(content: bytes, tmp_path: Path):
    assert isinstance(outcome(tmp_path, content), str)
