"""A call's arguments, read against the model at hand into one checked value; warnings of what cannot work.

Knows nothing of how pictures are drawn; what can be checked without a model is checked in `request`.
"""

import warnings
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any

from diffusers.callbacks import MultiPipelineCallbacks, PipelineCallback
from torch import Generator, Tensor

from ldm_pipeline.images import PictureInput, padded, per_picture, picture_and_mask
from ldm_pipeline.noise import Generators, generators_for
from ldm_pipeline.request import GenerationDefaults, GenerationRequest, request_from_arguments
from ldm_pipeline.text import unknown_words

OUTPUT_TYPES = ("pil", "np", "pt", "latent")

StepCallback = Callable[..., dict[str, Any]] | PipelineCallback | MultiPipelineCallbacks


@dataclass(frozen=True, kw_only=True)
class ModelFacts:
    """What a model says about the arguments it can take."""

    factor: int
    """Pixels per latent cell."""
    sample_size: int | Sequence[int]
    """The UNet's own latent size."""
    latent_channels: int
    """The VAE's."""
    unet_channels: int
    """The UNet's input."""
    states_width: int
    """Width of the token states that the UNet reads."""
    scheduler: str
    """Class name of the scheduler."""
    callback_tensors: Sequence[str]
    """Names of the tensors that a step callback may ask for."""


@dataclass(frozen=True, kw_only=True)
class Asked:
    """One call, checked: the request and what travels beside it."""

    request: GenerationRequest
    rows: int
    """Prompts, or rows of `prompt_embeds`."""
    shape: tuple[int, int, int, int]
    """The latents' (pictures channels height width)."""
    generators: Generators
    noise: Tensor | None
    prompt_embeds: Tensor | None
    negative_prompt_embeds: Tensor | None
    picture: Tensor | None
    """Pixels in [0, 1] at the result's size, one per picture."""
    mask: Tensor | None
    """1 is painted anew; at the result's size, one per picture."""
    cross_attention_kwargs: dict[str, Any] | None
    callback: StepCallback | None
    callback_names: list[str]
    output_type: str

    def padded(self, factor: int) -> tuple[Tensor | None, Tensor | None]:
        """Give picture and mask with sides that are multiples of `factor`."""
        picture, mask = (None if one is None else padded(one, factor) for one in (self.picture, self.mask))
        return picture, mask


def read_arguments(
    facts: ModelFacts,
    defaults: GenerationDefaults,
    *,
    image: PictureInput | None,
    mask_image: PictureInput | None,
    height: int | None,
    width: int | None,
    generator: Generator | list[Generator] | None,
    latents: Tensor | None,
    prompt_embeds: Tensor | None,
    negative_prompt_embeds: Tensor | None,
    cross_attention_kwargs: dict[str, Any] | None,
    callback: StepCallback | None,
    callback_names: Sequence[str] | None,
    output_type: str,
    **settings: Any,
) -> Asked:
    """Read a call's arguments; `settings` are those of `request_from_arguments`. One-line ValueErrors.

    A run from a picture takes its size from the picture, any other from the arguments, defaults or UNet.
    """
    if facts.unet_channels != facts.latent_channels:
        raise ValueError(
            f"unet takes {facts.unet_channels} channels but vae has {facts.latent_channels}: use a UNet that"
            " takes the latents alone"
        )
    picture, mask = picture_and_mask(image, mask_image, size=(height, width))
    if picture is None:
        height, width = picture_size(facts, defaults, height=height, width=width)
    else:
        height, width = picture.shape[-2:]
    request = request_from_arguments(
        defaults,
        embedded_rows=None if prompt_embeds is None else len(prompt_embeds),
        draws_own_noise=generator is None,
        start="noise" if picture is None else "picture" if mask is None else "masked picture",
        height=height,
        width=width,
        scheduler=facts.scheduler,
        **settings,
    )
    generators = generators_for(request.seeds) if generator is None else generator
    if latents is not None and settings.get("seed") is None:
        request = replace(request, seeds=())  # fresh seeds did not make this noise, and would not repeat it
    rows = len(request.prompts) if prompt_embeds is None else len(prompt_embeds)
    pictures = rows * request.num_images_per_prompt
    shape = (pictures, facts.latent_channels, -(-height // facts.factor), -(-width // facts.factor))
    if output_type not in OUTPUT_TYPES:
        raise ValueError(f"output_type={output_type!r} is unknown: use one of {', '.join(OUTPUT_TYPES)}")
    if request.negative_prompts and negative_prompt_embeds is not None:
        raise ValueError("negative_prompt and negative_prompt_embeds were both given: give one of them")
    for name, states in (
        ("prompt_embeds", prompt_embeds),
        ("negative_prompt_embeds", negative_prompt_embeds),
    ):
        wanted = f"({rows}, tokens, {facts.states_width})"
        if states is not None and (
            states.ndim != 3 or len(states) != rows or states.shape[2] != facts.states_width
        ):
            raise ValueError(f"{name} has shape {tuple(states.shape)}: give {wanted}")
    if latents is not None and tuple(latents.shape) != shape:
        raise ValueError(f"latents has shape {tuple(latents.shape)}: give {shape}")
    if isinstance(generator, list) and len(generator) != pictures:
        raise ValueError(
            f"generator has {len(generator)} for {pictures} pictures: give one, or one per picture"
        )
    spread = {
        name: None if tensor is None else per_picture(tensor, pictures=pictures, prompts=rows, name=name)
        for name, tensor in (("image", picture), ("mask_image", mask))
    }
    return Asked(
        request=request,
        rows=rows,
        shape=shape,
        generators=generators,
        noise=latents,
        prompt_embeds=prompt_embeds,
        negative_prompt_embeds=negative_prompt_embeds,
        picture=spread["image"],
        mask=spread["mask_image"],
        cross_attention_kwargs=cross_attention_kwargs,
        callback=callback,
        callback_names=callback_tensors(callback, callback_names, known=facts.callback_tensors),
        output_type=output_type,
    )


def picture_size(
    facts: ModelFacts, defaults: GenerationDefaults, *, height: int | None, width: int | None
) -> tuple[int, int]:
    """Give height and width in pixels: asked for, or the folder's default, or the UNet's own size.

    ValueError unless both are multiples of the VAE's factor.
    """
    factor, own = facts.factor, facts.sample_size
    own_height, own_width = (own, own) if isinstance(own, int) else own
    height = (defaults.height or own_height * factor) if height is None else height
    width = (defaults.width or own_width * factor) if width is None else width
    for name, value in (("height", height), ("width", width)):
        if not isinstance(value, int) or value < factor or value % factor:
            lower = max(value // factor, 1) * factor if isinstance(value, int) else factor
            raise ValueError(
                f"{name}={value!r} is not a multiple of {factor}: use, say, {lower} or {lower + factor}"
            )
    return height, width


def callback_tensors(callback: Any, names: Sequence[str] | None, *, known: Sequence[str]) -> list[str]:
    """Give the names of the tensors a step callback gets; diffusers' callback objects bring their own."""
    if isinstance(callback, PipelineCallback | MultiPipelineCallbacks):
        names = callback.tensor_inputs
    for name in names or ():
        if name not in known:
            raise ValueError(
                f"callback_on_step_end_tensor_inputs names {name!r}: use some of {', '.join(known)}"
            )
    return ["latents"] if names is None else list(names)


def warn_of_no_effect(request: GenerationRequest, known_words: Collection[str] | None) -> None:
    """Warn of words the model was never trained on, and of a negative prompt that guidance leaves out."""
    if known_words is not None:
        strangers = unknown_words([*request.prompts, *request.negative_prompts], known_words)
        if strangers:
            names = ", ".join(map(repr, strangers))
            warnings.warn(
                f"this model was never trained on the words {names}: expect nothing of them", stacklevel=4
            )
    if any(request.negative_prompts) and request.guidance_scale <= 1.0:
        scale = f"{request.guidance_scale:g}"
        warnings.warn(
            f"negative_prompt has no effect with guidance_scale={scale}: use more than 1", stacklevel=4
        )
