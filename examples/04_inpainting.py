"""Redraw only a part of a picture: white in the mask is drawn anew, black keeps its pixels exactly."""

import sys
from pathlib import Path

from PIL import Image, ImageDraw

from ldm_pipeline import LatentDiffusionPipeline, contact_sheet

out = Path(sys.argv[1] if len(sys.argv) > 1 else ".")
out.mkdir(parents=True, exist_ok=True)

pipeline = LatentDiffusionPipeline.from_pretrained()
picture = pipeline("London by day", seed=7).images[0]

mask = Image.new("L", picture.size, "black")
width, height = picture.size
ImageDraw.Draw(mask).rectangle((0, height * 5 // 8, width, height), fill="white")
changed = pipeline("London by day, a red bus", image=picture, mask_image=mask, strength=1.0, seed=8).images[0]

contact_sheet([picture, mask.convert("RGB"), changed], columns=3).save(out / "inpainted.png")
