"""The front door: the pipeline, its request and output, pictures in files; each loaded when first named.

Knows nothing of what stands behind the names, so that `import ldm_pipeline` imports no torch.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ldm_pipeline.folder import bundled_folder
    from ldm_pipeline.images import contact_sheet
    from ldm_pipeline.loading import load_pipeline
    from ldm_pipeline.picture_files import read_recipe
    from ldm_pipeline.pipeline import LatentDiffusionPipeline, LatentDiffusionPipelineOutput
    from ldm_pipeline.request import GenerationRequest
    from ldm_pipeline.saving import save_pictures

_ROOMS = {
    "GenerationRequest": "request",
    "LatentDiffusionPipeline": "pipeline",
    "LatentDiffusionPipelineOutput": "pipeline",
    "bundled_folder": "folder",
    "contact_sheet": "images",
    "load_pipeline": "loading",
    "read_recipe": "picture_files",
    "save_pictures": "saving",
}

__all__ = [
    "GenerationRequest",
    "LatentDiffusionPipeline",
    "LatentDiffusionPipelineOutput",
    "bundled_folder",
    "contact_sheet",
    "load_pipeline",
    "read_recipe",
    "save_pictures",
]


def __getattr__(name: str) -> Any:
    """Import the room that a public name lives in, once it is asked for."""
    if name not in _ROOMS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_ROOMS[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
