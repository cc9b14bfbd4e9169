"""The same seeds with and without a negative prompt, side by side: what it takes away, and what it leaves."""

import sys
from pathlib import Path

from ldm_pipeline import LatentDiffusionPipeline, contact_sheet

out = Path(sys.argv[1] if len(sys.argv) > 1 else ".")
out.mkdir(parents=True, exist_ok=True)

pipeline = LatentDiffusionPipeline.from_pretrained()
prompt = "Paris on a rainy day"
seeds = [7, 8, 9, 10]  # one per picture; seed=7 would mean the same, counting up
plain = pipeline(prompt, num_images_per_prompt=4, seed=seeds)
without = pipeline(prompt, negative_prompt="umbrella", num_images_per_prompt=4, seed=seeds)

sheet = contact_sheet([*plain.images, *without.images], columns=4)  # above: as it comes; below: no umbrella
sheet.save(out / "with_and_without_umbrella.png")
