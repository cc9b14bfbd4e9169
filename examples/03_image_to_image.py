"""Start from a picture: sun becomes snow, and the more strength, the less of the first picture remains."""

import sys
from pathlib import Path

from ldm_pipeline import LatentDiffusionPipeline, contact_sheet

out = Path(sys.argv[1] if len(sys.argv) > 1 else ".")
out.mkdir(parents=True, exist_ok=True)

pipeline = LatentDiffusionPipeline.from_pretrained()
sunny = pipeline("Paris on a sunny day", seed=7).images[0]
snowy = [pipeline("Paris in the snow", image=sunny, strength=s, seed=7).images[0] for s in (0.4, 0.6, 0.8)]

contact_sheet([sunny, *snowy], columns=4).save(out / "sunny_to_snowy.png")
