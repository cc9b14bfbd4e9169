"""From nothing to a picture on a CPU: train all parts with the smallest recipe, join them, draw.

It shows that every part works and fits the next; minutes of training draw colors, not cities.
"""

import subprocess
import sys
from pathlib import Path

from ldm_pipeline import LatentDiffusionPipeline, save_pictures

out = Path(sys.argv[1] if len(sys.argv) > 1 else ".")

training = [sys.executable, "-m", "training"]
smallest = ["--recipe", "smoke", "--runs", str(out / "runs")]

for part in ("recogniser", "vae", "clip", "unet"):  # the same command, given again, goes on where it stopped
    subprocess.run([*training, part, *smallest], check=True)
subprocess.run([*training, "export", *smallest, "--out", str(out / "pipeline")], check=True)

pipeline = LatentDiffusionPipeline.from_pretrained(out / "pipeline")
result = pipeline("Paris on a rainy day", seed=7)

print(*save_pictures(result, out), sep="\n")
