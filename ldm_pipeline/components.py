"""The eight components as one object: opened from a folder, saved to one, showing the latest call's settings.

Knows nothing of how pictures are drawn.
"""

# diffusers and transformers export lazily, which pyright takes for private names.
# pyright: reportPrivateImportUsage=false

from os import PathLike
from pathlib import Path
from typing import Any, Self

import torch
from diffusers import AutoencoderKL, DiffusionPipeline, UNet2DConditionModel
from diffusers.image_processor import VaeImageProcessor
from diffusers.loaders import (
    FromSingleFileMixin,
    IPAdapterMixin,
    StableDiffusionLoraLoaderMixin,
    TextualInversionLoaderMixin,
)
from diffusers.pipelines.pipeline_utils import StableDiffusionMixin
from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker
from diffusers.schedulers.scheduling_utils import SchedulerMixin
from transformers import CLIPImageProcessor, CLIPTextModel, CLIPTokenizer, CLIPVisionModelWithProjection

from ldm_pipeline import folder as folders
from ldm_pipeline import schedulers
from ldm_pipeline.request import GenerationDefaults, GenerationRequest


class LatentDiffusionComponents(
    DiffusionPipeline,
    StableDiffusionMixin,
    TextualInversionLoaderMixin,
    StableDiffusionLoraLoaderMixin,
    IPAdapterMixin,
    FromSingleFileMixin,
):
    """Stable Diffusion's eight components, so that folders go to and from every tool of that family."""

    vae: Any
    text_encoder: Any
    tokenizer: Any
    unet: Any
    scheduler: Any
    safety_checker: Any
    feature_extractor: Any
    image_encoder: Any

    model_cpu_offload_seq = "text_encoder->image_encoder->unet->vae"
    _optional_components = ["safety_checker", "feature_extractor", "image_encoder"]
    _exclude_from_cpu_offload = ["safety_checker"]
    _callback_tensor_inputs = ["latents", "prompt_embeds", "negative_prompt_embeds"]

    def __init__(
        self,
        vae: AutoencoderKL,
        text_encoder: CLIPTextModel,
        tokenizer: CLIPTokenizer,
        unet: UNet2DConditionModel,
        scheduler: SchedulerMixin,
        safety_checker: StableDiffusionSafetyChecker | None = None,
        feature_extractor: CLIPImageProcessor | None = None,
        image_encoder: CLIPVisionModelWithProjection | None = None,
        requires_safety_checker: bool = False,
    ) -> None:
        """Join ready components; each may be None as long as the call does not need it."""
        super().__init__()
        if safety_checker is not None and feature_extractor is None:
            raise ValueError("safety_checker was given without feature_extractor: give both, or neither")
        self.register_modules(
            vae=vae,
            text_encoder=text_encoder,
            tokenizer=tokenizer,
            unet=unet,
            scheduler=scheduler,
            safety_checker=safety_checker,
            feature_extractor=feature_extractor,
            image_encoder=image_encoder,
        )
        self.register_to_config(requires_safety_checker=requires_safety_checker)
        levels = 4 if vae is None else len(vae.config["block_out_channels"])
        self.vae_scale_factor = 2 ** (levels - 1)
        self.image_processor = VaeImageProcessor(vae_scale_factor=self.vae_scale_factor)
        self.generation_defaults = GenerationDefaults()
        self.known_words: frozenset[str] | None = None
        self._is_flow_model = scheduler is not None and schedulers.is_flow(scheduler)
        self._guidance_scale, self._guidance_rescale = 0.0, 0.0
        self._clip_skip: int | None = None
        self._cross_attention_kwargs: dict[str, Any] | None = None
        self._num_timesteps = 0
        self._interrupt = False

    @classmethod
    def from_pretrained(  # pyright: ignore[reportIncompatibleMethodOverride]
        cls, pretrained_model_name_or_path: str | PathLike[str] | None = None, **kwargs: Any
    ) -> Self:
        """Open a pipeline folder, or a repository by name; without arguments the bundled model.

        Takes diffusers' arguments. Weights load as float32 unless `dtype` says otherwise, whatever they are
        saved as. ValueError for anything but safetensors and stock components: no code from a folder is run.
        """
        place = (
            folders.bundled_folder()
            if pretrained_model_name_or_path is None
            else pretrained_model_name_or_path
        )
        if kwargs.get("custom_pipeline") or kwargs.get("trust_remote_code"):
            raise ValueError("custom_pipeline and trust_remote_code run code from the folder: leave them out")
        if kwargs.get("use_safetensors", True) is not True:
            raise ValueError(
                "use_safetensors=False would open pickles, which can run code: convert to safetensors"
            )
        kwargs["use_safetensors"] = True
        if "torch_dtype" not in kwargs and kwargs.get("dtype") is None:
            kwargs["dtype"] = torch.float32
        folder = Path(place)
        if not folder.is_dir():
            if str(place).count("/") != 1 or str(place).startswith((".", "/", "~")):
                raise ValueError(
                    f"{place} is no folder: give a pipeline folder, or a repository as owner/name"
                )
            wanted = ("cache_dir", "force_download", "local_files_only", "token", "revision", "variant")
            chosen = {name: kwargs[name] for name in wanted if name in kwargs}
            folder = Path(cls.download(str(place), use_safetensors=True, **chosen))
        folders.check_model_index(folder)
        own_scheduler = "scheduler" in kwargs
        with folders.readable_weights(str(place)):
            pipe = super().from_pretrained(str(folder), **kwargs)
        pipe._adopt(folder, own_scheduler=own_scheduler)
        return pipe

    def _adopt(self, folder: Path, *, own_scheduler: bool) -> None:
        """Take over what a folder says beyond its components: kind of model, defaults, known words."""
        config = folder / "scheduler" / "scheduler_config.json"
        if config.is_file():
            self._is_flow_model = schedulers.is_flow(folders.read_json_object(config))
        defaults = folders.read_generation_defaults(folder)
        if defaults is not None:
            self.generation_defaults = GenerationDefaults.from_json(defaults)
        self.known_words = folders.read_known_words(folder)
        if self.generation_defaults.scheduler is not None and not own_scheduler:
            self.use_scheduler(self.generation_defaults.scheduler)

    def save_config(
        self, save_directory: str | PathLike[str], push_to_hub: bool = False, **kwargs: Any
    ) -> None:
        """Write what `save_pretrained` adds to the components: `model_index.json`, defaults and known words.

        `_class_name` is StableDiffusionPipeline, so that every tool opens the folder; this class does too.
        """
        super().save_config(save_directory, push_to_hub=push_to_hub, **kwargs)
        folder = Path(save_directory)
        folders.name_as_stable_diffusion(folder)
        if self.generation_defaults != GenerationDefaults():
            (folder / folders.DEFAULTS_FILE).write_text(self.generation_defaults.to_json(), encoding="utf-8")
        if self.known_words is not None:
            words = "".join(f"{word}\n" for word in sorted(self.known_words))
            (folder / folders.KNOWN_WORDS_FILE).write_text(words, encoding="utf-8")

    def use_scheduler(self, name: str) -> None:
        """Change to another scheduler ("dpm++", "unipc", "euler", ..., or a class name), same noise schedule.

        ValueError, naming those that can, for a scheduler that cannot run this model.
        """
        self.scheduler = schedulers.make_scheduler(name, self.scheduler, flow=self._is_flow_model)

    def _remember(self, request: GenerationRequest, cross_attention_kwargs: dict[str, Any] | None) -> None:
        """Show this call's settings in the properties that callbacks read."""
        self._guidance_scale, self._guidance_rescale = request.guidance_scale, request.guidance_rescale
        self._clip_skip, self._cross_attention_kwargs = request.clip_skip, cross_attention_kwargs
        self._interrupt = False

    @property
    def _is_distilled(self) -> bool:
        """Whether guidance was distilled into the UNet, which then takes its scale as an input."""
        return self.unet is not None and self.unet.config.time_cond_proj_dim is not None

    @property
    def guidance_scale(self) -> float:
        """The latest call's guidance scale."""
        return self._guidance_scale

    @property
    def guidance_rescale(self) -> float:
        """The latest call's guidance rescale."""
        return self._guidance_rescale

    @property
    def clip_skip(self) -> int | None:
        """The latest call's left-out text layers."""
        return self._clip_skip

    @property
    def do_classifier_free_guidance(self) -> bool:
        """Whether the latest call runs both branches."""
        return self._guidance_scale > 1.0 and not self._is_distilled

    @property
    def cross_attention_kwargs(self) -> dict[str, Any] | None:
        """The latest call's attention arguments."""
        return self._cross_attention_kwargs

    @property
    def num_timesteps(self) -> int:
        """The number of steps of the latest run."""
        return self._num_timesteps

    @property
    def interrupt(self) -> bool:
        """Whether somebody set `_interrupt` to end the run after the present step."""
        return self._interrupt
