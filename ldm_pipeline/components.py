"""The eight components as one object: opened from a folder, saved to one, showing its calls' settings.

Knows nothing of how pictures are drawn.
"""

# diffusers and transformers export lazily, which pyright takes for private names.
# pyright: reportPrivateImportUsage=false

import warnings
from contextlib import AbstractContextManager
from copy import deepcopy
from os import PathLike
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Self

import torch
from diffusers import AutoencoderKL, DiffusionPipeline, UNet2DConditionModel
from diffusers.image_processor import VaeImageProcessor
from diffusers.loaders import FromSingleFileMixin
from diffusers.pipelines.pipeline_utils import StableDiffusionMixin
from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker
from diffusers.schedulers.scheduling_utils import SchedulerMixin
from transformers import CLIPImageProcessor, CLIPTextModel, CLIPTokenizer, CLIPVisionModelWithProjection

from ldm_pipeline import folder as folders
from ldm_pipeline import schedulers, single_file
from ldm_pipeline.adapters import HUB_ARGUMENTS, SafetensorsAdapters
from ldm_pipeline.calls import OfTheCall, calls_of
from ldm_pipeline.devices import checked_device, fastest_dtype
from ldm_pipeline.ip_adapter import PictureEmbeddings
from ldm_pipeline.request import GenerationDefaults, GenerationRequest
from ldm_pipeline.unet_loading import load_unet
from ldm_pipeline.weights import remember_origin

LEFT_TO_DIFFUSERS = {
    "unet",
    "variant",
    "device_map",
    "quantization_config",
    "torch_dtype",
    "low_cpu_mem_usage",
}
"""Arguments of `from_pretrained` that say how the UNet is loaded."""


class LatentDiffusionComponents(
    DiffusionPipeline,
    StableDiffusionMixin,
    SafetensorsAdapters,
    PictureEmbeddings,
    FromSingleFileMixin,
):
    """Stable Diffusion's eight components, so that folders go to and from every tool of that family.

    The properties that show a call's settings show a thread its own latest call, in a callback the one that
    calls back, and a thread without a call the latest of any. `_interrupt = True`, set by any thread, ends
    all calls that have begun after their present step; those that begin later run.
    """

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
    _guidance_scale: Any = OfTheCall()
    _guidance_rescale: Any = OfTheCall()
    _clip_skip: Any = OfTheCall()
    _cross_attention_kwargs: Any = OfTheCall()
    _num_timesteps: Any = OfTheCall()
    _callback_tensor_inputs = [
        "latents",
        "prompt_embeds",
        "negative_prompt_embeds",
        "mask",
        "masked_image_latents",
    ]

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
        if vae is not None:
            # Changes no number, only the order in memory. Decoding 512 x 512 then takes 0.91 of the time in
            # float32, 0.88 in bfloat16 (two Zen 4 cores, 2026-11-21). Not the UNet: there it is 0.98 at
            # Stable Diffusion's size, for 3 GB more, and 1.1 at the bundled model's.
            self.vae.to(memory_format=torch.channels_last)
        levels = 4 if vae is None else len(vae.config["block_out_channels"])
        self.vae_scale_factor = 2 ** (levels - 1)
        self.image_processor = VaeImageProcessor(vae_scale_factor=self.vae_scale_factor)
        self.generation_defaults = GenerationDefaults()
        self.known_words: frozenset[str] | None = None
        self._is_flow_model = scheduler is not None and schedulers.is_flow(scheduler)

    @classmethod
    def from_pretrained(  # pyright: ignore[reportIncompatibleMethodOverride]
        cls, pretrained_model_name_or_path: str | PathLike[str] | None = None, **kwargs: Any
    ) -> Self:
        """Open a pipeline folder, or a repository by name; without arguments the bundled model.

        Takes diffusers' arguments. Weights load as float32 unless `dtype` says otherwise, whatever they are
        saved as; it may name components, as in `dtype={"vae": torch.float32, "default": torch.float16}`, or
        be "auto": the fastest that this machine's best device computes in (`devices.fastest_dtype`).
        ValueError for anything but safetensors and stock components: no code from a folder is run.
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
                "use_safetensors=False would open pickles, which can run code: run `ldm convert` first"
            )
        kwargs["use_safetensors"] = True
        if "torch_dtype" not in kwargs and kwargs.get("dtype") is None:
            kwargs["dtype"] = torch.float32
        elif kwargs.get("dtype") == "auto":
            kwargs["dtype"] = fastest_dtype(checked_device(None))
        folder = Path(place)
        if not folder.is_dir():
            if str(place).count("/") != 1 or str(place).startswith((".", "/", "~")):
                raise ValueError(
                    f"{folders.one_line(place)} is no folder: give a pipeline folder, or a repository as"
                    " owner/name"
                )
            wanted = ("cache_dir", "force_download", "local_files_only", "token", "revision", "variant")
            chosen = {name: kwargs[name] for name in wanted if name in kwargs}
            folder = Path(cls.download(str(place), use_safetensors=True, **chosen))
        folders.check_model_index(folder, replaced=kwargs.keys())
        given = set(kwargs)
        with folders.one_line_errors(str(place)):
            if kwargs.keys().isdisjoint(LEFT_TO_DIFFUSERS) and isinstance(kwargs.get("dtype"), torch.dtype):
                unet = load_unet(folder / "unet", dtype=kwargs["dtype"])
                kwargs |= {} if unet is None else {"unet": unet}
            pipe = super().from_pretrained(str(folder), **kwargs)
        pipe._adopt(folder, own_scheduler="scheduler" in given)
        remember_origin({name: one for name, one in pipe.components.items() if name not in given}, folder)
        return pipe

    @classmethod
    def from_single_file(  # pyright: ignore[reportIncompatibleMethodOverride]
        cls,
        pretrained_model_link_or_path: str | PathLike[str],
        *,
        config: str | PathLike[str] | None = None,
        prediction_type: str | None = None,
        **kwargs: Any,
    ) -> Self:
        """Open a Stable Diffusion 1.x or 2.x checkpoint in its original format, one `.safetensors` file.

        config: a pipeline folder that describes it; its weights are not read, and need not be there. None:
            told from the shapes of the weights, for Stable Diffusion's own. The tokenizer is then open_clip's
            where that is installed, or else the hub's (`local_files_only=True`: its cache only).
        prediction_type: "epsilon" or "v_prediction", which no shape tells: needed for 2.x without `config`.

        Takes components and diffusers' other arguments too; weights load as float32 unless `dtype` says
        otherwise. ValueError in one line for a file of another kind, and a config that does not fit.
        """
        if "original_config" in kwargs or "original_config_file" in kwargs:
            raise ValueError("original_config needs the network: give config=FOLDER, or leave it out")
        if config is not None and prediction_type is not None:
            raise ValueError("config and prediction_type were both given: config says what is predicted")
        if "torch_dtype" not in kwargs and kwargs.get("dtype") is None:
            kwargs["dtype"] = torch.float32
        hub = {name: kwargs.pop(name) for name in HUB_ARGUMENTS if name in kwargs}
        file = single_file.fetched(pretrained_model_link_or_path, **hub)
        facts = single_file.read_facts(file)
        with TemporaryDirectory() as written:
            if config is not None:
                folder = single_file.fetched_config(config, **hub)
                folders.check_model_index(folder, replaced=kwargs.keys() | single_file.IN_THE_FILE)
                single_file.check_fit(facts, folder)
            else:
                folder = Path(written)
                single_file.write_config_folder(facts, folder, prediction_type=prediction_type)
                if "tokenizer" not in kwargs:
                    kwargs["tokenizer"] = single_file.clip_tokenizer(facts, **hub)
            with folders.one_line_errors(str(file)):
                pipe = super().from_single_file(
                    str(file), config=str(folder), local_files_only=True, **kwargs
                )
            pipe._adopt(folder, own_scheduler="scheduler" in kwargs)
        pipe.register_to_config(_name_or_path=str(file))
        remember_origin({name: one for name, one in pipe.components.items() if name not in kwargs}, file)
        return pipe

    @classmethod
    def from_pipe(cls, pipeline: DiffusionPipeline, **kwargs: Any) -> Self:
        """Make a pipeline of another one's components, which both then share; its scheduler is copied.

        Takes components, and settings of `__init__`, to use in place of the other's. The shared networks keep
        their number types, where diffusers' method makes them float32 (diffusers#12754); `dtype` changes them
        for both. ValueError for components that this pipeline has no use or no class for.
        """
        if kwargs.get("custom_pipeline") or kwargs.get("trust_remote_code"):
            raise ValueError("custom_pipeline and trust_remote_code run code from elsewhere: leave them out")
        dtype = kwargs.pop("dtype", None) or kwargs.pop("torch_dtype", None)
        given = {name: part for name, part in pipeline.components.items() if part is not None}
        for name, part in (given | kwargs).items():
            if name.startswith("text_encoder_"):
                raise ValueError(
                    f"from_pipe was given a pipeline with a {name}: this class has one text encoder"
                )
            wanted = sorted(kind for _, kind in folders.ALLOWED_COMPONENTS.get(name, ()))
            compiled_from = getattr(part, "_orig_mod", part)
            kinds = {kind.__name__ for kind in type(compiled_from).__mro__}
            if part is not None and wanted and name != "scheduler" and kinds.isdisjoint(wanted):
                raise ValueError(f"{name} is a {type(part).__name__}: this class takes {' or '.join(wanted)}")
        parts: dict[str, Any] = {name: given.get(name) for name in folders.ALLOWED_COMPONENTS} | kwargs
        parts.setdefault("requires_safety_checker", pipeline.config.get("requires_safety_checker", False))
        if "scheduler" not in kwargs:
            parts["scheduler"] = deepcopy(parts["scheduler"])
        pipe = cls(**parts)
        if isinstance(pipeline, LatentDiffusionComponents):
            pipe.generation_defaults, pipe.known_words = pipeline.generation_defaults, pipeline.known_words
            pipe._is_flow_model = pipeline._is_flow_model
        if pipeline.name_or_path:
            pipe.register_to_config(_name_or_path=pipeline.name_or_path)
        return pipe if dtype is None else pipe.to(dtype=dtype)

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

    def save_pretrained(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, save_directory: str | PathLike[str], safe_serialization: bool = True, **kwargs: Any
    ) -> None:
        """Write a folder that every tool of the family opens; diffusers' arguments, safetensors always."""
        if not safe_serialization:
            warnings.warn(
                "safe_serialization=False would write pickles: safetensors are written all the same",
                stacklevel=2,
            )
        super().save_pretrained(save_directory, safe_serialization=True, **kwargs)

    def save_config(
        self, save_directory: str | PathLike[str], push_to_hub: bool = False, **kwargs: Any
    ) -> None:
        """Write what `save_pretrained` adds to the components: `model_index.json`, defaults and known words.

        `_class_name` is StableDiffusionPipeline, or with 9 channels its Inpaint sister, so that every tool
        opens the folder; this class does too. The text encoder gets the names that older tools read.
        """
        super().save_config(save_directory, push_to_hub=push_to_hub, **kwargs)
        folder = Path(save_directory)
        folders.name_as_stable_diffusion(folder)
        folders.write_old_text_encoder_keys(folder)
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

    def _remember(
        self, request: GenerationRequest, cross_attention_kwargs: dict[str, Any] | None
    ) -> AbstractContextManager[None]:
        """Show a call's settings in the properties while it runs, and to its thread until its next call."""
        return calls_of(self).running(
            guidance_scale=request.guidance_scale,
            guidance_rescale=request.guidance_rescale,
            clip_skip=request.clip_skip,
            cross_attention_kwargs=cross_attention_kwargs,
        )

    @property
    def _interrupt(self) -> bool:
        """Whether this thread's call was told to end; True tells all calls of the pipeline."""
        return calls_of(self).interrupted

    @_interrupt.setter
    def _interrupt(self, end: bool) -> None:
        calls_of(self).interrupted = end

    @property
    def _is_distilled(self) -> bool:
        """Whether guidance was distilled into the UNet, which then takes its scale as an input."""
        return self.unet is not None and self.unet.config.time_cond_proj_dim is not None

    @property
    def guidance_scale(self) -> float:
        """The guidance scale of this thread's call."""
        return self._guidance_scale

    @property
    def guidance_rescale(self) -> float:
        """The guidance rescale of this thread's call."""
        return self._guidance_rescale

    @property
    def clip_skip(self) -> int | None:
        """The text layers that this thread's call leaves out."""
        return self._clip_skip

    @property
    def do_classifier_free_guidance(self) -> bool:
        """Whether this thread's call runs both branches."""
        return self._guidance_scale > 1.0 and not self._is_distilled

    @property
    def cross_attention_kwargs(self) -> dict[str, Any] | None:
        """The attention arguments of this thread's call."""
        return self._cross_attention_kwargs

    @property
    def num_timesteps(self) -> int:
        """The number of steps of this thread's run."""
        return self._num_timesteps

    @property
    def interrupt(self) -> bool:
        """Whether somebody set `_interrupt`, so that this thread's run ends after the present step."""
        return self._interrupt
