"""A rendered set: the pictures of its scenes, in any order, rendered once."""

import json
import resource
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from training.data.postcards import PostcardConfig, Postcards, render_postcards
from training.scenes.claims import sight_from
from training.scenes.parts import CODES, has_color, is_garment
from training.scenes.render import render
from training.scenes.scene import sample_scene


def test_a_picture_and_its_sight_are_those_of_its_scene(postcards: Postcards):
    config = postcards.config
    for index in (0, 41):
        scene = sample_scene(config.seed, index, config.world)
        rendering = render(scene, config.size)
        assert postcards.scene(index) == scene
        assert np.array_equal(postcards.images([index])[0], rendering.image)
        assert postcards.sight(index) == sight_from(rendering.visibility, weather_seen=rendering.weather_seen)


def test_the_shares_of_cells_that_things_cover_are_those_of_the_masks(postcards: Postcards):
    shares = postcards.thing_shares(list(range(64)))
    assert shares.shape == (64, 8, 8) and 0.5 < shares.max() <= 1
    for index in (0, 41):
        rendering = render(postcards.scene(index), 64)
        covered = sum(mask.astype(float) for mask in rendering.masks) + np.zeros((64, 64))
        cells = [[covered[y : y + 8, x : x + 8].mean() for x in range(0, 64, 8)] for y in range(0, 64, 8)]
        assert np.array_equal(shares[index], np.array(cells, np.float32))


def test_a_cell_belongs_to_the_part_with_the_most_votes(postcards: Postcards):
    cells = postcards.parts(list(range(64)))
    assert cells.shape == (64, 16, 16) and cells.dtype == np.uint8 and cells.any()
    votes = {code: 4 if is_garment(code) else 2 if has_color(code) else 1 for code in range(CODES)}
    for index in (0, 3, 41):
        pixels = render(postcards.scene(index), 64).parts
        for row, column in ((y, x) for y in range(16) for x in range(16)):
            inside = Counter(pixels[4 * row : 4 * row + 4, 4 * column : 4 * column + 4].ravel().tolist())
            scores = {code: count * votes[code] for code, count in inside.items()}
            assert scores[int(cells[index, row, column])] == max(scores.values())


@pytest.mark.parametrize("name", ["things", "parts"])
def test_a_chunk_without_one_of_its_files_is_rendered_again(tmp_path: Path, postcards: Postcards, name: str):
    config = replace(postcards.config, count=2)
    short = render_postcards(config, tmp_path)
    (short.folder / f"{name}-00000.npy").unlink()
    again = render_postcards(config, tmp_path)
    assert np.array_equal(again.thing_shares([0, 1]), short.thing_shares([0, 1]))
    assert np.array_equal(again.parts([0, 1]), short.parts([0, 1]))


def test_a_full_disk_is_told_in_one_line_and_what_is_rendered_stays(tmp_path: Path, postcards: Postcards):
    config = replace(postcards.config, count=2)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))  # a longer write fails as on a full disk
    try:
        with pytest.raises(OSError, match="could not be written .*; make room there and start again"):
            render_postcards(config, tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    (folder,) = tmp_path.iterdir()
    assert [path.name for path in folder.iterdir()] == ["config.json"]
    assert len(render_postcards(config, tmp_path)) == 2


def test_access_is_random_and_whole(postcards: Postcards):
    images = postcards.images([5, 0, 5])
    assert images.shape == (3, 64, 64, 3) and images.dtype == np.uint8
    assert np.array_equal(images[0], images[2]) and not np.array_equal(images[0], images[1])
    assert len(list(postcards)) == len(postcards) == 64


@pytest.mark.parametrize("index", [-1, 64])
def test_a_picture_outside_the_set_is_refused(postcards: Postcards, index: int):
    for read in (lambda i: postcards.images([i]), postcards.scene, postcards.sight):
        with pytest.raises(ValueError, match=rf"index={index}: this set holds 64 postcards"):
            read(index)


def test_what_is_there_is_not_rendered_again(postcards: Postcards):
    chunk = postcards.folder / "chunk-00000.npy"
    before = chunk.stat().st_mtime_ns
    again = render_postcards(postcards.config, postcards.folder.parent)
    assert chunk.stat().st_mtime_ns == before and len(again) == 64


def test_a_longer_set_goes_on_where_the_shorter_one_ended(tmp_path: Path, postcards: Postcards):
    short = render_postcards(replace(postcards.config, count=2), tmp_path)
    with pytest.raises(FileNotFoundError, match="1 of 1 chunks are missing"):
        Postcards(short.folder, replace(postcards.config, count=3))
    longer = render_postcards(replace(postcards.config, count=3), tmp_path)
    assert longer.folder == short.folder
    assert np.array_equal(longer.images([0, 1, 2]), postcards.images([0, 1, 2]))
    assert len(render_postcards(replace(postcards.config, count=1), tmp_path)) == 1


def test_a_set_that_is_not_rendered_is_refused(postcards: Postcards, tmp_path: Path):
    with pytest.raises(FileNotFoundError, match="1 of 1 chunks are missing; render them first"):
        Postcards(tmp_path, postcards.config)


def test_the_key_follows_world_seed_and_size_but_not_count(postcards: Postcards):
    config = postcards.config
    others = [replace(config, seed=6), replace(config, size=128)]
    others.append(replace(config, world=replace(config.world, times=("day",))))
    assert len({config.key, *(other.key for other in others)}) == 4
    assert replace(config, count=9999).key == config.key


def test_the_folder_says_what_it_holds(postcards: Postcards):
    facts = json.loads((postcards.folder / "config.json").read_text())
    assert facts["seed"] == 5 and facts["world"]["cities"] == ["paris", "cairo"]
    assert isinstance(postcards.config, PostcardConfig)
