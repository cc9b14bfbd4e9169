"""Pictures for prompts, what the judge reads in them, and which of the claims it confirms.

Knows nothing of how shares and intervals are made of answers, or of the report.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from ldm_pipeline.judge import Reading, Recogniser
from ldm_pipeline.pipeline import LatentDiffusionPipeline
from training.evaluation.prompts import BenchPrompt, derangement
from training.pictures import picture_array, picture_tensor
from training.scenes.claims import Claims

Pictures = NDArray[np.uint8]
"""n x size x size x 3."""

Answers = list[dict[str, bool]]
"""One prompt's pictures: question -> whether the judge confirms it."""
TASKS = ("city", "weather", "time", "present", "color", "count", "side", "all")
"""What a prompt asks for. `color`, `count` and `side` are the judge's answers about the asked kind of thing,
whether or not it sees one; `all` is every one of the others at once."""
PICTURES_PER_CALL = 16


def draw(
    pipe: LatentDiffusionPipeline,
    prompts: Sequence[str],
    seeds: Sequence[int],
    *,
    negatives: Sequence[str] | None = None,
    guidance: float | None = None,
    steps: int | None = None,
    size: int,
    title: str,
) -> Pictures:
    """One picture for each prompt and seed; None: the folder's own guidance and number of steps."""
    pipe.set_progress_bar_config(disable=True)
    drawn: list[Pictures] = []
    with tqdm(total=len(prompts), unit="picture", desc=title) as bar:
        for first in range(0, len(prompts), PICTURES_PER_CALL):
            part = slice(first, first + PICTURES_PER_CALL)
            result = pipe(
                list(prompts[part]),
                negative_prompt=None if negatives is None else list(negatives[part]),
                seed=list(seeds[part]),
                guidance_scale=guidance,
                num_inference_steps=steps,
                height=size,
                width=size,
                exact=False,  # scores do not hang on last bits, and batches are more than twice as fast
            )
            assert not isinstance(result, tuple)
            drawn += [np.asarray(picture)[None] for picture in result.images]
            bar.update(len(prompts[part]))
    return np.concatenate(drawn)


@torch.no_grad()
def round_trip(pipe: LatentDiffusionPipeline, pictures: Pictures) -> Pictures:
    """Pictures through the VAE's mean and back: what its reconstruction loses."""
    parts = [pipe.vae.decode(mean).sample for mean in _means(pipe, pictures)]
    return np.concatenate([picture_array(part) for part in parts])


@torch.no_grad()
def encoded(
    pipe: LatentDiffusionPipeline, pictures: Pictures
) -> Float[Tensor, "pictures channels rows columns"]:
    """The VAE's means of pictures, on the CPU; its `scaling_factor` is not applied."""
    return torch.cat([mean.float().cpu() for mean in _means(pipe, pictures)])


def _means(pipe: LatentDiffusionPipeline, pictures: Pictures) -> Iterator[Tensor]:
    vae = pipe.vae
    for first in range(0, len(pictures), PICTURES_PER_CALL):
        x = picture_tensor(pictures[first : first + PICTURES_PER_CALL])
        yield vae.encode(x.to(device=vae.device, dtype=vae.dtype)).latent_dist.mean


def read(judge: Recogniser, pictures: Pictures) -> Reading:
    """The judge's answers about all pictures."""
    device = next(judge.parameters()).device
    parts = [judge.read(x.to(device)) for x in picture_tensor(pictures).split(64)]
    return Reading(
        fields=judge.config.fields,
        classes=torch.cat([part.classes for part in parts]).cpu(),
        confidence=torch.cat([part.confidence for part in parts]).cpu(),
    )


@torch.no_grad()
def features(judge: Recogniser, pictures: Pictures) -> Float[np.ndarray, "pictures features"]:
    """What the judge's queries find in each picture, the mean over its subjects, in double precision."""
    device = next(judge.parameters()).device
    parts = [judge.embedding(x.to(device)).mean(dim=1).cpu() for x in picture_tensor(pictures).split(64)]
    return torch.cat(parts).double().numpy()


class Answered:
    """The class that a judge names for one field of one picture."""

    def __init__(self, reading: Reading):
        self._reading, self._table = reading, dict[str, list[str]]()

    def __call__(self, field: str, picture: int) -> str:
        if field not in self._table:
            self._table[field] = self._reading.of(field)
        return self._table[field][picture]


def facts(claim: Claims) -> list[tuple[str, str, str]]:
    """(question, field of the judge, claimed class) for everything that is claimed."""
    told = [(name, name, getattr(claim, name)) for name in ("city", "weather", "time")]
    for thing in claim.things:
        told += [
            ("present", f"{thing.kind}.present", "yes"),
            ("color", f"{thing.kind}.color", thing.color),
            ("count", f"{thing.kind}.count", thing.count),
            ("side", f"{thing.kind}.side", thing.side),
        ]
        for garment in thing.garments:
            name = f"{thing.kind}.{garment.kind}"
            told += [("garment", f"{name}.present", "yes"), ("garment color", f"{name}.color", garment.color)]
    return [(question, field, str(value)) for question, field, value in told if value is not None]


def confirmed(reading: Reading, claims: Sequence[Claims]) -> list[dict[str, bool]]:
    """For each picture, which of the facts in its claims the judge sees; facts not claimed are left out.

    Of several things a fact is right if it is for each of them; "all" is every fact at once.
    """
    answer = Answered(reading)
    results: list[dict[str, bool]] = []
    for i, claim in enumerate(claims):
        right: dict[str, bool] = {}
        for question, field, value in facts(claim):
            right[question] = right.get(question, True) and answer(field, i) == value
        results.append({**right, "all": all(right.values())})
    return results


def shows(reading: Reading, kind: str) -> list[bool]:
    """Whether the judge sees that kind of thing, for each picture."""
    return [answer == "yes" for answer in reading.of(f"{kind}.present")]


def score_columns(
    bench: Sequence[BenchPrompt], read: dict[str, Reading], *, seeds_per_prompt: int
) -> dict[str, list[Answers]]:
    """Column -> prompt -> picture -> question -> right?

    The floor is the model's pictures scored against other prompts' claims.
    """
    claims = [prompt.claims for prompt in bench]
    others = [claims[i] for i in derangement(len(claims))]
    repeated = [[c for c in column for _ in range(seeds_per_prompt)] for column in (claims, others)]
    flat = {
        "renders": confirmed(read["renders"], claims),
        "round_trip": confirmed(read["round_trip"], claims),
        "model": confirmed(read["model"], repeated[0]),
        "shuffled": confirmed(read["model"], repeated[1]),
    }
    sizes = {name: len(column) // len(claims) for name, column in flat.items()}
    return {
        name: [column[i : i + sizes[name]] for i in range(0, len(column), sizes[name])]
        for name, column in flat.items()
    }
