"""A call's arguments, read against the model at hand into one checked value; warnings of what cannot work.

Knows nothing of how pictures are drawn; what can be checked without a model is checked in `request`.
"""

import difflib
import warnings
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from diffusers.callbacks import MultiPipelineCallbacks, PipelineCallback
from torch import Generator, Tensor

from ldm_pipeline.images import Cutout, PictureInput, as_latents, as_masks, cut_out, padded, picture_and_mask
from ldm_pipeline.noise import Generators, generators_for
from ldm_pipeline.prompt_rows import row_texts
from ldm_pipeline.prompt_syntax import plain_text
from ldm_pipeline.regions import Region, read_regions
from ldm_pipeline.request import Blend, GenerationDefaults, GenerationRequest, request_from_arguments
from ldm_pipeline.tokens import unknown_words

OUTPUT_TYPES = ("pil", "np", "pt", "latent")
REPLACED_BY_A_GUIDER = ("guidance_scale", "guidance_rescale", "guidance_interval", "negative_start")
MASK_TENSORS = ("mask", "masked_image_latents")
"""What a step callback may ask for in inpainting only."""

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
    device: torch.device
    """Where it computes; on a CPU exactness costs little and is the default."""
    callback_tensors: Sequence[str]
    """Names of the tensors that a step callback may ask for."""

    @property
    def made_for_inpainting(self) -> bool:
        """Whether the UNet reads a mask and the masked picture's latents beside its own."""
        return self.unet_channels == 2 * self.latent_channels + 1


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
    """Pixels in [0, 1], for all pictures, one per prompt or one per picture."""
    mask: Tensor | None
    """0 is kept, 1 is painted anew; at the picture's size, as many or other rows."""
    cutout: Cutout | None
    """The mask's surroundings, which are painted in place of the whole picture."""
    picture_latents: Tensor | None
    masked_image_latents: Tensor | None
    made_for_inpainting: bool
    device: torch.device
    ip_adapter_image: Any
    ip_adapter_image_embeds: Sequence[Tensor] | None
    guider: Any
    """A diffusers guider, which guides in place of `guidance_scale`; None: none."""
    regions: tuple[Region, ...]
    cross_attention_kwargs: dict[str, Any] | None
    callback: StepCallback | None
    callback_names: list[str]
    output_type: str

    def padded(self, factor: int) -> tuple[Tensor | None, Tensor | None]:
        """Give what is painted, picture and mask, with sides that are multiples of `factor`."""
        pair = (self.picture, self.mask) if self.cutout is None else (self.cutout.picture, self.cutout.mask)
        picture, mask = (None if one is None else padded(one, factor) for one in pair)
        return picture, mask


@dataclass(frozen=True, kw_only=True)
class _Canvas:
    """What a run is painted on."""

    picture: Tensor | None = None
    mask: Tensor | None = None
    latents: Tensor | None = None
    cutout: Cutout | None = None
    height: int
    width: int


def read_arguments(
    facts: ModelFacts,
    defaults: GenerationDefaults,
    *,
    image: PictureInput | None,
    mask_image: PictureInput | None,
    masked_image_latents: Tensor | None,
    height: int | None,
    width: int | None,
    generator: Generator | list[Generator] | None,
    latents: Tensor | None,
    prompt_embeds: Tensor | None,
    negative_prompt_embeds: Tensor | None,
    ip_adapter_image: Any,
    ip_adapter_image_embeds: Sequence[Tensor] | None,
    guider: Any,
    regions: Sequence[Any] | None,
    cross_attention_kwargs: dict[str, Any] | None,
    callback: StepCallback | None,
    callback_names: Sequence[str] | None,
    output_type: str,
    blend: Blend,
    padding_mask_crop: int | None,
    exact: bool | None,
    **settings: Any,
) -> Asked:
    """Read a call's arguments; `settings` are those of `request_from_arguments`. One-line ValueErrors.

    A run from a picture takes its size from the picture, any other from the arguments, defaults or UNet.
    """
    _check_channels(facts, painted=image is not None and mask_image is not None)
    canvas = _canvas(
        facts,
        defaults,
        image=image,
        mask_image=mask_image,
        size=(height, width),
        blend=blend,
        padding=padding_mask_crop,
    )
    starts_from_picture = canvas.picture is not None or canvas.latents is not None
    request = request_from_arguments(
        defaults,
        embedded_rows=None if prompt_embeds is None else len(prompt_embeds),
        draws_own_noise=generator is None,
        start="noise" if not starts_from_picture else "picture" if canvas.mask is None else "masked picture",
        height=canvas.height,
        width=canvas.width,
        scheduler=facts.scheduler,
        blend=blend,
        padding_mask_crop=padding_mask_crop,
        exact=facts.device.type == "cpu" if exact is None else exact,
        **settings,
    )
    generators = generators_for(request.seeds) if generator is None else generator
    if latents is not None and settings.get("seed") is None:
        request = replace(request, seeds=())  # fresh seeds did not make this noise, and would not repeat it
    rows = len(request.prompts) if prompt_embeds is None else len(prompt_embeds)
    pictures = rows * request.num_images_per_prompt
    rows_of_cells, columns = (-(-side // facts.factor) for side in (canvas.height, canvas.width))
    shape = (pictures, facts.latent_channels, rows_of_cells, columns)
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
    if regions and any(name.endswith("prompt_embeds") for name in callback_names or ()):
        raise ValueError(
            "regions put their phrases among the token states, which a callback cannot take: ask for latents"
        )
    if guider is not None:
        for name in REPLACED_BY_A_GUIDER:
            if settings.get(name) is not None:
                raise ValueError(
                    f"{name}={settings[name]!r} has no effect beside a guider, which has its own: give one"
                )
    if canvas.mask is None:
        for name in {*MASK_TENSORS} & {*(callback_names or ())}:
            raise ValueError(
                f"callback_on_step_end_tensor_inputs names {name!r}, which needs a mask_image: leave it out"
            )
    if guider is not None and (ip_adapter_image is not None or ip_adapter_image_embeds is not None):
        raise ValueError("guider and ip_adapter_image do not go together: use guidance_scale")
    for name, given in (("image", canvas.picture), ("mask_image", canvas.mask)):
        if given is not None and len(given) not in (1, rows, pictures):
            raise ValueError(f"{name} holds {len(given)} for {rows} prompts: give one, or one per prompt")
    return Asked(
        request=request,
        rows=rows,
        shape=shape,
        generators=generators,
        noise=latents,
        prompt_embeds=prompt_embeds,
        negative_prompt_embeds=negative_prompt_embeds,
        picture=canvas.picture,
        mask=canvas.mask,
        cutout=canvas.cutout,
        picture_latents=canvas.latents,
        masked_image_latents=masked_image_latents,
        made_for_inpainting=facts.made_for_inpainting,
        device=facts.device,
        ip_adapter_image=ip_adapter_image,
        ip_adapter_image_embeds=ip_adapter_image_embeds,
        guider=guider,
        regions=read_regions(regions or ()),
        cross_attention_kwargs=cross_attention_kwargs,
        callback=callback,
        callback_names=callback_tensors(callback, callback_names, known=facts.callback_tensors),
        output_type=output_type,
    )


def _check_channels(facts: ModelFacts, *, painted: bool) -> None:
    """Refuse a UNet whose input is neither latents alone nor latents, mask and masked latents."""
    if facts.made_for_inpainting and not painted:
        raise ValueError("unet is made for inpainting: give image and mask_image, or use another UNet")
    if not facts.made_for_inpainting and facts.unet_channels != facts.latent_channels:
        raise ValueError(
            f"unet takes {facts.unet_channels} channels but vae has {facts.latent_channels}: use a UNet that"
            f" takes {facts.latent_channels}, or {2 * facts.latent_channels + 1} for inpainting"
        )


def _canvas(
    facts: ModelFacts,
    defaults: GenerationDefaults,
    *,
    image: PictureInput | None,
    mask_image: PictureInput | None,
    size: tuple[int | None, int | None],
    blend: Blend,
    padding: int | None,
) -> _Canvas:
    """Read picture and mask, or picture latents, and decide the size that is painted."""
    soft = not facts.made_for_inpainting  # such a UNet was trained on masks of 0 and 1
    latents = as_latents(image, facts.latent_channels)
    if latents is not None:
        own = (latents.shape[-2] * facts.factor, latents.shape[-1] * facts.factor)
        for name, value, side in zip(("height", "width"), size, own, strict=True):
            if value not in (None, side):
                raise ValueError(f"{name}={value} does not fit image, latents of {side} pixels: leave it out")
        if padding is not None:
            raise ValueError(f"padding_mask_crop={padding} needs pixels but image holds latents: give pixels")
        mask = None if mask_image is None else as_masks(mask_image, size=own, soft=soft and blend != "none")
        return _Canvas(mask=mask, latents=latents, height=own[0], width=own[1])
    wanted = size if padding is None else (None, None)
    picture, mask = picture_and_mask(
        image, mask_image, size=wanted, factor=facts.factor, soft=soft, blend=blend
    )
    if picture is None:
        height, width = picture_size(facts, defaults, height=size[0], width=size[1])
        return _Canvas(height=height, width=width)
    if padding is None or mask is None:
        return _Canvas(picture=picture, mask=mask, height=picture.shape[-2], width=picture.shape[-1])
    height, width = picture_size(facts, defaults, height=size[0], width=size[1])
    cutout = cut_out(picture, mask, size=(height, width), padding=padding)
    return _Canvas(picture=picture, mask=mask, cutout=cutout, height=height, width=width)


def refuse_unknown(unknown: Mapping[str, Any], *, known: Iterable[str]) -> None:
    """Raise TypeError for a keyword that the call does not have, naming the nearest that it has."""
    names = [name for name in known if name not in ("self", "unknown")]
    for name in unknown:
        (near,) = difflib.get_close_matches(name, names, n=1, cutoff=0.0)
        raise TypeError(f"{name} is no argument of this pipeline: did you mean {near}?")


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


def warn_of_no_effect(
    request: GenerationRequest, known_words: Collection[str] | None, *, has_guider: bool = False
) -> None:
    """Warn of words the model was never trained on, and of a negative prompt that guidance leaves out."""
    if known_words is not None:
        read = row_texts([*request.prompts, *request.negative_prompts])
        if request.prompt_syntax == "a1111":
            read = [plain_text(text) for text in read]
        strangers = unknown_words(read, known_words)
        if strangers:
            names = ", ".join(map(repr, strangers))
            warnings.warn(
                f"this model was never trained on the words {names}: expect nothing of them", stacklevel=4
            )
    if any(row_texts(request.negative_prompts)) and request.guidance_scale <= 1.0 and not has_guider:
        scale = f"{request.guidance_scale:g}"
        warnings.warn(
            f"negative_prompt has no effect with guidance_scale={scale}: use more than 1", stacklevel=4
        )
