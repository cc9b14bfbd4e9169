"""Phrases that act in parts of the picture: above, all in one prompt; below, each thing in its own box."""

import sys
from pathlib import Path

from ldm_pipeline import LatentDiffusionPipeline, contact_sheet

out = Path(sys.argv[1] if len(sys.argv) > 1 else ".")
out.mkdir(parents=True, exist_ok=True)

pipeline = LatentDiffusionPipeline.from_pretrained()
words = "a green bus on the left and a purple balloon on the right in Tokyo on a sunny day"
without = pipeline(words, num_images_per_prompt=4, seed=7)

left_below, right_above = (0.0, 0.55, 0.5, 1.0), (0.55, 0.0, 1.0, 0.5)  # left, top, right, bottom of 1
regions = [("a green bus", left_below), ("a purple balloon", right_above)]  # a mask may stand for a box
placed = pipeline("Tokyo on a sunny day", regions=regions, num_images_per_prompt=4, seed=7)

contact_sheet([*without.images, *placed.images], columns=4).save(out / "without_and_with_regions.png")
