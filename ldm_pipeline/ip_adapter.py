"""Pictures to what a UNet with IP-Adapters reads beside its prompt (arXiv 2308.06721).

Knows nothing of prompts, latents or guidance, nor of how an adapter's weights are loaded.
"""

# diffusers exports lazily, which pyright takes for private names.
# pyright: reportPrivateImportUsage=false

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from diffusers.models import ImageProjection
from diffusers.models.embeddings import MultiIPAdapterImageProjection
from jaxtyping import Float
from torch import Tensor

from ldm_pipeline.images import spread


@dataclass(frozen=True, kw_only=True)
class ImageConditioning:
    """Picture embeddings of each adapter, (pictures images width) or (pictures images tokens width)."""

    prompt: tuple[Float[Tensor, "batch _ ..."], ...]
    """What the pictures say."""
    negative: tuple[Float[Tensor, "batch _ ..."], ...] | None = None
    """What the unconditional branch reads in their place; None in a run without guidance."""

    def of_picture(self, i: int) -> "ImageConditioning":
        """Give one picture's rows."""
        rows = slice(i, i + 1)
        return ImageConditioning(
            prompt=tuple(one[rows] for one in self.prompt),
            negative=None if self.negative is None else tuple(one[rows] for one in self.negative),
        )

    def added(self, *, negatives: int, prompts: int) -> dict[str, list[Tensor]]:
        """Give the UNet's `added_cond_kwargs` for a step of so many branches, unconditional ones first."""
        unconditional = self.prompt if self.negative is None else self.negative
        pairs = zip(unconditional, self.prompt, strict=True)
        return {"image_embeds": [torch.cat([one] * negatives + [other] * prompts) for one, other in pairs]}


def projections(unet: Any) -> list[Any]:
    """List the layers by which the loaded adapters read pictures, one per adapter."""
    loaded = unet.encoder_hid_proj
    return list(loaded.image_projection_layers) if isinstance(loaded, MultiIPAdapterImageProjection) else []


class PictureEmbeddings:
    """diffusers' two methods that embed pictures, for a pipeline with an image encoder."""

    def encode_image(
        self: Any,
        image: Any,
        device: torch.device | str | None,
        num_images_per_prompt: int,
        output_hidden_states: bool | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Embed pictures as diffusers does: (embeddings, what an unconditional branch reads in their place).

        Each is (images * num_images_per_prompt, width), or with `output_hidden_states` the encoder's last but
        one layer, (.., tokens, width); a picture's repetitions follow each other. `image` is a picture, a
        list, or pixels that the feature extractor has made. ValueError where the image encoder is missing.
        """
        negative, states = _embedded(
            self.image_encoder,
            self.feature_extractor,
            image,
            pooled=not output_hidden_states,
            guided=True,
            device=device or self._execution_device,
        ).repeat_interleave(num_images_per_prompt, dim=1)
        return states, negative

    def prepare_ip_adapter_image_embeds(
        self: Any,
        ip_adapter_image: Any,
        ip_adapter_image_embeds: Sequence[Tensor] | None,
        device: torch.device | str | None,
        num_images_per_prompt: int,
        do_classifier_free_guidance: bool,
    ) -> list[Tensor]:
        """Embed each adapter's pictures once, for `ip_adapter_image_embeds` of many calls.

        Gives a tensor per adapter, (rows images [tokens] width): `num_images_per_prompt` rows, and before
        them as many negative ones with `do_classifier_free_guidance`. A call spreads one row to all its
        pictures, so 1 serves any call. It has to be made with the guidance that the calls have.
        `ip_adapter_image` holds a picture per adapter, or a list that the adapter reads together; embeddings
        given in its place are repeated, as a whole. ValueError in one line for what a call refuses too.
        """
        adapters, guided = projections(self.unet), do_classifier_free_guidance
        place: torch.device | str = device or self._execution_device
        entries = _entries(adapters, ip_adapter_image, ip_adapter_image_embeds)
        if not entries:
            raise ValueError("no IP-Adapter is loaded: call load_ip_adapter first")
        if ip_adapter_image is None:
            embedded = _checked(entries, rows=None, guided=guided)
        else:
            embedded = embed_images(
                adapters, self.image_encoder, self.feature_extractor, entries, guided=guided, device=place
            )
        halves = [one.to(device=place).chunk(2 if guided else 1) for one in embedded]
        return [torch.cat([half for half in parts for _ in range(num_images_per_prompt)]) for parts in halves]


def condition_on_images(
    unet: Any,
    image_encoder: Any,
    feature_extractor: Any,
    *,
    ip_adapter_image: Any,
    ip_adapter_image_embeds: Sequence[Tensor] | None,
    rows: int,
    pictures: int,
    guided: bool,
    device: torch.device,
) -> ImageConditioning | None:
    """Make what the UNet's adapters read in a run of `rows` prompts and `pictures` pictures, or None.

    `ip_adapter_image` holds one entry per adapter: a picture, or a list that the adapter reads together; all
    rows share it. `ip_adapter_image_embeds` holds one tensor per adapter, as `embed_images` gives them: with
    guidance the negative half first, each half for all rows (1), one per row, or one per picture (spread
    prompt-major). ValueError in one line for either without an adapter, both, neither, or other counts.
    """
    adapters = projections(unet)
    entries = _entries(adapters, ip_adapter_image, ip_adapter_image_embeds)
    if not entries:
        return None
    if ip_adapter_image is None:
        embedded = _checked(entries, rows=sorted({1, rows, pictures}), guided=guided)
    else:
        embedded = embed_images(
            adapters, image_encoder, feature_extractor, entries, guided=guided, device=device
        )
    halves = [one.to(device=device, dtype=unet.dtype).chunk(2 if guided else 1) for one in embedded]
    return ImageConditioning(
        prompt=tuple(spread(parts[-1], pictures) for parts in halves),
        negative=tuple(spread(parts[0], pictures) for parts in halves) if guided else None,
    )


def _entries(adapters: Sequence[Any], image: Any, embeds: Sequence[Tensor] | None) -> list[Any]:
    """Give what each adapter is to read; nothing without adapters, ValueError for other counts."""
    name, given = ("ip_adapter_image_embeds", embeds) if image is None else ("ip_adapter_image", image)
    if image is not None and embeds is not None:
        raise ValueError("ip_adapter_image and ip_adapter_image_embeds were both given: give one of them")
    if given is None:
        if adapters:
            raise ValueError("an IP-Adapter is loaded: give ip_adapter_image, or call unload_ip_adapter()")
        return []
    if not adapters:
        raise ValueError(f"{name} was given but no IP-Adapter is loaded: call load_ip_adapter first")
    entries = list(given) if isinstance(given, list | tuple) else [given]
    if len(entries) != len(adapters):
        raise ValueError(f"{name} holds {len(entries)} for {len(adapters)} IP-Adapters: give one entry each")
    return entries


def embed_images(
    adapters: Sequence[Any],
    image_encoder: Any,
    feature_extractor: Any,
    entries: Sequence[Any],
    *,
    guided: bool,
    device: torch.device | str,
) -> list[Tensor]:
    """Embed each adapter's pictures: (1 images ...), with guidance (2 images ...), the negative one first.

    Adapters of the first kind read the encoder's pooled output, whose negative is zeros; others read its last
    but one layer, whose negative is that of a black picture. Entries that are tensors are taken as pixels
    that the feature extractor has made. ValueError where the image encoder is missing.
    """
    return [
        _embedded(
            image_encoder,
            feature_extractor,
            entry,
            pooled=isinstance(adapter, ImageProjection),
            guided=guided,
            device=device,
        )
        for adapter, entry in zip(adapters, entries, strict=True)
    ]


def _embedded(
    image_encoder: Any,
    feature_extractor: Any,
    entry: Any,
    *,
    pooled: bool,
    guided: bool,
    device: torch.device | str,
) -> Tensor:
    """Embed the pictures of one adapter, as `embed_images` gives them."""
    if image_encoder is None or feature_extractor is None:
        missing = "image_encoder" if image_encoder is None else "feature_extractor"
        raise ValueError(
            f"ip_adapter_image needs {missing}, which is None: give ip_adapter_image_embeds instead"
        )
    pixels = entry
    if not isinstance(entry, Tensor):
        pixels = feature_extractor(entry, return_tensors="pt").pixel_values
    pixels = pixels.to(device=device, dtype=image_encoder.dtype)
    states = _image_states(image_encoder, pixels, pooled=pooled)
    if not guided:
        return states[None]
    if pooled:
        negative = torch.zeros_like(states)
    else:
        negative = _image_states(image_encoder, torch.zeros_like(pixels[:1]), pooled=False)
    return torch.stack([negative.expand_as(states), states])


def _image_states(image_encoder: Any, pixels: Tensor, *, pooled: bool) -> Tensor:
    if pooled:
        return image_encoder(pixels).image_embeds
    return image_encoder(pixels, output_hidden_states=True).hidden_states[-2]


def _checked(entries: Sequence[Any], *, rows: Sequence[int] | None, guided: bool) -> list[Tensor]:
    """Refuse embeddings whose axes, or rows, of which `rows` are allowed, do not fit; None: any number."""
    branches, why = (2, "with guidance, negative first") if guided else (1, "without guidance")
    for one in entries:
        if not isinstance(one, Tensor) or one.ndim not in (3, 4):
            found = f"shape {tuple(one.shape)}" if isinstance(one, Tensor) else f"a {type(one).__name__}"
            raise ValueError(
                f"ip_adapter_image_embeds holds {found}: give tensors (rows images [tokens] width)"
            )
        if len(one) % branches or (rows is not None and len(one) // branches not in rows):
            counts = "an even number"
            if rows is not None:
                counts = " or ".join(str(branches * count) for count in rows)
            raise ValueError(f"ip_adapter_image_embeds has {len(one)} rows: give {counts} ({why})")
    return list(entries)
