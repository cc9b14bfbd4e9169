"""A finished fine-tuning -> what other tools open, with a card, and a report with pictures for people.

Knows nothing of how it was trained.
"""

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from training.bases import Base
from training.finetune import FinetuneObjective, FinetuneRun, word_of
from training.finetune_scores import copying, preview_pipeline
from training.folders import deliver
from training.lora import KOHYA_WEIGHTS, write_lora
from training.lora import WEIGHTS as LORA_WEIGHTS
from training.new_words import WEIGHTS as WORD_WEIGHTS
from training.new_words import write_word

WORDS = {
    "held_out/loss": "held-out loss",
    "held_out/drift": "drift from the base",
    "held_out/change": "change of the previews",
    "held_out/nearest_to_previews": "previews to nearest training picture",
    "held_out/nearest_to_held_out": "held-out to nearest training picture",
}


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What a card says of a run."""

    base: str
    base_key: str
    data_key: str
    pictures: int
    step: int
    settings: tuple[str, ...]
    """What differs from the named recipe."""
    prompts: tuple[str, ...]
    words: frozenset[str]
    """Of the captions."""
    before: Mapping[str, float]
    """The base's own measures."""


def deliver_final(
    run: FinetuneRun, objective: FinetuneObjective, base: Base, out: Path, *, facts: Facts
) -> Path:
    """Write `out/final`: a LoRA in two formats, a word, or a pipeline folder, each with a card.

    A whole pipeline is saved in float16. `objective` holds the weights to deliver; those of "full" are
    float16 afterwards.
    """
    learned_text = objective.text_encoder if run.text_share else None

    def write(folder: Path) -> None:
        folder.mkdir(parents=True)
        if run.method == "lora":
            header = {"ldm_base_key": facts.base_key, "ldm_data_key": facts.data_key}
            write_lora(folder, shape=run.lora, unet=objective.unet, text_encoder=learned_text, facts=header)
        elif run.method == "textual_inversion":
            write_word(folder, run.word, word_of(objective))
        else:
            pipeline = preview_pipeline(base, objective)
            known = base.pipeline.known_words
            pipeline.known_words = None if known is None else known | facts.words
            pipeline.to(torch.float16).save_pretrained(folder)
        (folder / "README.md").write_text(card(run, out, facts=facts), encoding="utf-8")

    deliver(out / "final", write)
    return out / "final"


def card(run: FinetuneRun, out: Path, *, facts: Facts) -> str:
    """The result's README: what it is, what it was made of, how to use it, how it does."""
    use = {
        "lora": f'pipeline.load_lora_weights("FOLDER", weight_name="{LORA_WEIGHTS}")',
        "textual_inversion": f'pipeline.load_textual_inversion("FOLDER/{WORD_WEIGHTS}")',
        "full": 'pipeline = LatentDiffusionPipeline.from_pretrained("FOLDER")',
    }[run.method]
    settings = ", ".join(f"`{setting}`" for setting in facts.settings) or "nothing"
    kohya = run.method == "lora" and not run.lora.dora
    lines = [
        f"# {run.name} of {facts.base}",
        "",
        f"Trained for {facts.step:,} steps of {run.fit.batch_size} pictures, on {facts.pictures:,} pictures.",
        "Licence and attribution are those of the base and of the pictures: add them before you share it.",
        "",
        "```python",
        use,
        "```",
        "",
        *(
            [f"`{KOHYA_WEIGHTS}` holds the same in kohya-ss' format, for A1111 and ComfyUI.", ""]
            if kohya
            else []
        ),
        "| fact | value |",
        "| --- | --- |",
        f"| base's weights | `{facts.base_key}` |",
        f"| pictures and captions | `{facts.data_key}` |",
        f"| changed from the recipe `{run.name}` | {settings} |",
        "",
        *_scores(out, facts),
    ]
    return "\n".join(lines) + "\n"


def write_report(run: FinetuneRun, out: Path, *, facts: Facts) -> Path:
    """Write `out/report.md`: the curve, previews of base and end, and what was found; gives its path."""
    folder = out / "report"
    folder.mkdir(exist_ok=True)
    last = out / "previews" / f"samples-{facts.step:07d}.png"
    for source, name in ((out / "previews" / "base.png", "base.png"), (last, "final.png")):
        if source.is_file():
            shutil.copy(source, folder / name)
    looks = _looks(out)
    names = [name for name in WORDS if any(name in line for line in looks)]
    rows = [
        "| step | " + " | ".join(WORDS[name] for name in names) + " |",
        "| --- " * (len(names) + 1) + "|",
        *(
            f"| {line['step']:,} | " + " | ".join(_number(line.get(name)) for name in names) + " |"
            for line in [{"step": 0, **facts.before}, *looks]
        ),
    ]
    lines = [
        f"# {run.name} of {facts.base}: {facts.step:,} steps",
        "",
        *rows,
        "",
        "Drift and change are mean squared differences of latents to the base's pictures at the same seeds.",
        copying(looks[-1]) if looks else "",
        "",
        "Prompts of the previews, seeds 0, 1, 2, ...: " + "; ".join(f"`{p}`" for p in facts.prompts),
        "",
        "The base:",
        "",
        "![The base's pictures](report/base.png)",
        "",
        f"After {facts.step:,} steps:",
        "",
        "![The pictures at the end](report/final.png)",
    ]
    path = out / "report.md"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def _scores(out: Path, facts: Facts) -> list[str]:
    looks = _looks(out)
    if not looks:
        return []
    last = looks[-1]
    return [
        "| measure | base | this |",
        "| --- | --- | --- |",
        *(
            f"| {text} | {_number(facts.before.get(name))} | {_number(last.get(name))} |"
            for name, text in WORDS.items()
            if name in last
        ),
        "",
        copying(last),
    ]


def _looks(out: Path) -> list[dict[str, float]]:
    """The log's lines with measures on them."""
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [line for line in lines if any(name in line for name in WORDS)]


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"
