"""A prompt, a seed, a file: the same words and the same number give the same picture again."""

import sys
from pathlib import Path

from ldm_pipeline import LatentDiffusionPipeline, save_pictures

out = Path(sys.argv[1] if len(sys.argv) > 1 else ".")

pipeline = LatentDiffusionPipeline.from_pretrained()  # the bundled model; nothing is downloaded
result = pipeline("Paris on a rainy day", seed=7)

print(*save_pictures(result, out), sep="\n")
