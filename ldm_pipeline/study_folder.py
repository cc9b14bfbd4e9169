"""A study's folder: `study.json` says what it is, and every picture's place follows from its case.

Knows nothing of how pictures are drawn, judged or counted.
"""

import dataclasses
import hashlib
import json
import os
import shutil
import tempfile
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from ldm_pipeline.folder import bundled_folder, file_hash, lora_path, model_hash, one_line
from ldm_pipeline.picture_files import read_recipe
from ldm_pipeline.recipe import library_versions
from ldm_pipeline.recipe_parts import plain_name
from ldm_pipeline.study import FILES, Arm, Case, Study

SCHEMA = "ldm_study/1"
FILE = "study.json"
UNFINISHED = ".unfinished-"
LARGEST_BYTES = 16 * 2**20
PATHS = {*FILES, "model"}
"""Settings that name a place on this machine: only its last part is written down."""


@dataclass(frozen=True, kw_only=True)
class StudyFolder:
    """A study and where it lies."""

    path: Path
    study: Study
    identity: str
    """SHA-256 of all that makes a picture: models, settings, prompts, device, number type. Not of the seeds
    or the question, so that seeds can be added and pictures judged again."""
    facts: Mapping[str, Any]
    """What `identity` is the hash of."""
    versions: Mapping[str, str]
    """Library versions that the study was begun with."""
    looks: tuple[Mapping[str, Any], ...] = ()
    """Each (number of cases, question, judge) that a report was made of, oldest first."""

    def picture(self, arm: Arm, case: Case) -> Path:
        """Give the place of a picture, drawn or not."""
        several = f"prompt-{case.prompt + 1}-" if len(self.study.prompts) > 1 else ""
        return self.path / "pictures" / arm.key / f"{several}seed-{case.seed}.png"

    def missing(self) -> int:
        """Count the pictures that are not drawn yet."""
        return sum(not self.picture(a, c).exists() for a in self.study.arms for c in self.study.cases)

    def write(self, name: str, text: str) -> Path:
        """Write a text file that is there whole or not at all, in place of an older one."""
        handle, temporary = tempfile.mkstemp(dir=self.path, prefix=UNFINISHED)
        with os.fdopen(handle, "w", encoding="utf-8", newline="") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)  # mkstemp's files are the owner's alone
        os.replace(temporary, self.path / name)
        return self.path / name

    def with_look(self, *, judge: str) -> "StudyFolder":
        """Write down that a report is made of the present cases, question and judge, unless it was."""
        look = {"cases": len(self.study.cases), "ask": self.study.ask, "judge": judge}
        looks = self.looks if look in self.looks else (*self.looks, look)
        return _kept(dataclasses.replace(self, looks=looks))


def study_facts(
    study: Study, *, device: str, dtype: str, own_model_hash: str | None = None
) -> dict[str, Any]:
    """Give all that makes the study's pictures, files and models by their contents' hashes.

    `own_model_hash` is that of the model of the arms that name none; None: the bundled one's.
    """
    arms = []
    for arm in study.arms:
        settings = {name: _file_hash(name, v) if name in FILES else v for name, v in arm.settings.items()}
        named = arm.settings.get("model")
        own = named is None and own_model_hash is not None
        settings["model"] = own_model_hash if own else weights_hash(named)
        arms.append({"key": arm.key, "settings": settings})
    return {"schema": SCHEMA, "prompts": list(study.prompts), "arms": arms, "device": device, "dtype": dtype}


def default_folder(study: Study, facts: Mapping[str, Any]) -> Path:
    """Give `studies/` and a name that follows from the study, so that the same command goes on there."""
    words = "-".join("".join(c if c.isalnum() else " " for c in study.prompts[0].lower()).split())
    return Path("studies") / f"{words[:60] or 'study'}-{_hash(facts)[:8]}"


def open_folder(path: Path, study: Study, facts: Mapping[str, Any]) -> StudyFolder:
    """Begin a study in `path`, or go on with it there.

    ValueError for a folder of another study, naming what differs, and for one that holds anything else.
    Warns where the study was begun with other versions of the libraries.
    """
    begun, identity = path / FILE, _hash(facts)
    looks: tuple[Mapping[str, Any], ...] = ()
    versions: Mapping[str, str] = library_versions()
    if begun.is_file():
        old = read_folder(path)
        if old.identity != identity:
            differs = ", ".join(name for name in facts if facts[name] != old.facts.get(name)) or FILE
            raise ValueError(f"{one_line(path)} holds another study (other {differs}): choose another folder")
        if dict(old.versions) != dict(versions):
            warnings.warn(
                f"{one_line(path)} was begun with other versions of the libraries: pictures drawn now may"
                " differ from those in last bits",
                stacklevel=2,
            )
        looks, versions = old.looks, old.versions
    elif path.is_dir() and any(path.iterdir()):
        raise ValueError(f"{one_line(path)} is not empty and holds no study: choose another folder")
    elif path.exists() and not path.is_dir():
        raise ValueError(f"{one_line(path)} is a file: choose a folder")
    path.mkdir(parents=True, exist_ok=True)
    for left in path.glob(f"{UNFINISHED}*"):  # of a process that was killed
        shutil.rmtree(left) if left.is_dir() else left.unlink()
    return _kept(
        StudyFolder(path=path, study=study, identity=identity, facts=facts, versions=versions, looks=looks)
    )


def read_folder(path: Path) -> StudyFolder:
    """Read a study that was begun in `path`; ValueError when there is none, or one that was damaged."""
    file = path / FILE
    if not file.is_file():
        raise ValueError(f"{one_line(path)} holds no {FILE}: give the folder of a study")
    try:
        if file.stat().st_size > LARGEST_BYTES:
            raise ValueError(f"it has over {LARGEST_BYTES} bytes")
        plain = json.loads(file.read_text(encoding="utf-8"))
        if plain["schema"] != SCHEMA:
            raise ValueError(f"its schema is {plain['schema']!r}, this version reads {SCHEMA!r}")
        study = Study(
            prompts=tuple(plain["prompts"]),
            seeds=tuple(plain["seeds"]),
            arms=tuple(Arm(**arm) for arm in plain["arms"]),
            ask=plain["ask"],
            also=tuple(plain["also"]),
            axes=tuple((name, count) for name, count in plain["axes"]),
        )
        keys = [arm.key for arm in study.arms]
        if not all(isinstance(key, str) and key.isalnum() for key in keys) or len({*keys}) != len(keys):
            raise ValueError(f"its arms are named {keys}")  # keys are names of folders
        return StudyFolder(
            path=path,
            study=study,
            identity=_hash(plain["facts"]),
            facts=plain["facts"],
            versions=dict(plain["versions"]),
            looks=tuple(dict(look) for look in plain["looks"]),
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"{one_line(file)} cannot be read: {one_line(error)}") from None


def recorded(folder: StudyFolder) -> dict[str, Any]:
    """Give what a report records beside its numbers: when and where, and each arm as its pictures tell it.

    ValueError for a picture without a recipe that can be read.
    """
    study, arms = folder.study, []
    recipe = None
    for arm in study.arms:
        recipe = read_recipe(folder.picture(arm, study.cases[0]))
        arms.append(
            {
                "key": arm.key,
                "label": arm.label,
                "settings": {n: plain_name(v) if n in PATHS else v for n, v in arm.settings.items()},
                "request": json.loads(recipe.request.to_json()),
                "model": recipe.model,
                "model_hash": recipe.model_hash,
                "scheduler": recipe.scheduler,
            }
        )
    assert recipe is not None
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "identity": folder.identity,
        "date": date.today().isoformat(),
        "machine": f"{recipe.device}, {recipe.dtype}, {recipe.threads} of {cores} CPU cores",
        "device": recipe.device,
        "dtype": recipe.dtype,
        "threads": recipe.threads,
        "versions": dict(folder.versions),
        "looks": list(folder.looks),
        "arms": arms,
    }


def weights_hash(model: str | os.PathLike[str] | None) -> str:
    """SHA-256 of a model's weights, the bundled one's for None; a hub's name as it is.

    ValueError for what is none of these.
    """
    if model is None:
        return model_hash(bundled_folder())
    name, place = os.fspath(model), Path(model)
    if place.is_file():
        return _file_hash("model", name)
    if (place / "model_index.json").is_file():
        return model_hash(place)
    if place.is_dir():
        raise ValueError(f"model={name!r} is no pipeline folder: model_index.json is missing")
    return model_hash(bundled_folder(name)) if name.isidentifier() else name


def _kept(folder: StudyFolder) -> StudyFolder:
    """Write `study.json`; files are named without their places, which are nobody else's matter."""
    study = folder.study
    arms = [
        {
            "key": arm.key,
            "label": arm.label,
            "settings": {n: plain_name(v) if n in PATHS else v for n, v in arm.settings.items()},
        }
        for arm in study.arms
    ]
    plain = {
        "schema": SCHEMA,
        "identity": folder.identity,
        "prompts": study.prompts,
        "seeds": study.seeds,
        "ask": study.ask,
        "also": study.also,
        "axes": study.axes,
        "arms": arms,
        "facts": folder.facts,
        "versions": folder.versions,
        "looks": folder.looks,
    }
    folder.write(FILE, json.dumps(plain, indent=1, ensure_ascii=False, allow_nan=False) + "\n")
    return folder


def _hash(facts: Mapping[str, Any]) -> str:
    text = json.dumps(facts, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def _file_hash(name: str, path: str) -> str:
    file = lora_path(path) if name == "lora" else Path(path)
    if not file.is_file():
        raise ValueError(f"{name}={path!r} is not a file: check the path")
    return file_hash(file)
