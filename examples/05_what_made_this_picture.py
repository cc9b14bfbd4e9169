"""Every file carries its recipe: read what made a picture, and draw it again."""

import sys
from pathlib import Path

from PIL import Image

from ldm_pipeline import LatentDiffusionPipeline, read_recipe, save_pictures

out = Path(sys.argv[1] if len(sys.argv) > 1 else ".")

pipeline = LatentDiffusionPipeline.from_pretrained()
(path,) = save_pictures(pipeline("Venice at night", seed=7), out)

recipe = read_recipe(path)  # on the command line: ldm inspect FILE
print(f"{path.name}: {recipe.prompt!r}, seed {recipe.seed}, {recipe.request.num_inference_steps} steps")
print(f"model {recipe.model} {recipe.model_hash[:10]}, scheduler {recipe.scheduler}")

again = pipeline(**recipe.request.to_arguments()).images[recipe.picture]
with Image.open(path) as first:
    print("drawn again:", "equal" if again.tobytes() == first.tobytes() else "different")
