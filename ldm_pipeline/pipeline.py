"""LatentDiffusionPipeline: a prompt, and perhaps a picture, to pictures; `__call__` is a table of contents.

Knows nothing of files that pictures are saved to, of the command line, or of how weights were trained.
"""

# diffusers exports lazily, which pyright takes for private names.
# pyright: reportPrivateImportUsage=false

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import diffusers
import torch
from diffusers.pipelines import auto_pipeline
from diffusers.pipelines.stable_diffusion import StableDiffusionPipelineOutput
from torch import Generator, Tensor

from ldm_pipeline.arguments import StepCallback, read_arguments, refuse_unknown, warn_of_no_effect
from ldm_pipeline.call_record import record_call
from ldm_pipeline.images import PictureInput
from ldm_pipeline.prompt_rows import PromptInput
from ldm_pipeline.prompt_syntax import LongPrompt, PromptSyntax
from ldm_pipeline.recipe import PictureRecipe
from ldm_pipeline.request import Blend, GenerationRequest
from ldm_pipeline.stages import LatentDiffusionStages
from ldm_pipeline.weights import adapter_names


@dataclass
class LatentDiffusionPipelineOutput(StableDiffusionPipelineOutput):
    """What a call returns: diffusers' output (`images`, `nsfw_content_detected`) and what repeats it."""

    seeds: tuple[int, ...] | None = None
    """One per picture; None when the call was given a generator, or latents and no seed."""
    request: GenerationRequest | None = None
    """Every setting, defaults filled in; `request.to_arguments()` are arguments for the same pictures."""
    recipes: Sequence[PictureRecipe] | None = None
    """What made each picture, for any `output_type`; weights are hashed when one is first asked for.

    PIL pictures hold their own (`images[i].recipe`) and write it into PNG, JPEG and WebP files when saved.
    """


class LatentDiffusionPipeline(LatentDiffusionStages):
    """Text-to-image, image-to-image and inpainting with latent diffusion (Rombach et al., arXiv 2112.10752).

    Threads may call one pipeline at the same time. The read-only properties show a thread its own latest
    call, in a callback the one that calls back, and a thread without a call the latest of any;
    `pipe._interrupt = True`, from any thread, ends all calls that have begun after their present step.
    """

    @torch.no_grad()
    def __call__(
        self,
        prompt: PromptInput | None = None,
        *,
        negative_prompt: PromptInput | None = None,
        image: PictureInput | None = None,
        mask_image: PictureInput | None = None,
        masked_image_latents: Tensor | None = None,
        padding_mask_crop: int | None = None,
        blend: Blend = "exact",
        strength: float | None = None,
        height: int | None = None,
        width: int | None = None,
        num_inference_steps: int | None = None,
        guidance_scale: float | None = None,
        num_images_per_prompt: int = 1,
        seed: int | Sequence[int] | None = None,
        generator: Generator | list[Generator] | None = None,
        latents: Tensor | None = None,
        prompt_embeds: Tensor | None = None,
        negative_prompt_embeds: Tensor | None = None,
        ip_adapter_image: Any = None,
        ip_adapter_image_embeds: Sequence[Tensor] | None = None,
        long_prompt: LongPrompt = "truncate",
        prompt_syntax: PromptSyntax = "plain",
        eta: float = 0.0,
        clip_skip: int | None = None,
        guidance_rescale: float | None = None,
        cross_attention_kwargs: dict[str, Any] | None = None,
        timesteps: Sequence[int] | None = None,
        sigmas: Sequence[float] | None = None,
        callback_on_step_end: StepCallback | None = None,
        callback_on_step_end_tensor_inputs: list[str] | None = None,
        output_type: str = "pil",
        return_dict: bool = True,
        negative_start: float | None = None,
        guidance_interval: Sequence[float] | None = None,
        guider: Any = None,
        regions: Sequence[Any] | None = None,
        step_cache_interval: int = 1,
        exact: bool | None = None,
        **unknown: Any,
    ) -> LatentDiffusionPipelineOutput:
        """Draw pictures: from noise, from `image`, or from `image` where `mask_image` is white.

        None for a setting means the folder's `generation_defaults.json`, or else diffusers' default.

        prompt: a text, or one per row; a row may be a weighted sum, a list of (text, weight) pairs
            (arXiv 2206.01714). negative_prompt: a text for all rows, or one per row, or a list of several.
        long_prompt: "truncate" cuts what the text encoder cannot read (77 tokens) and warns; "chunk" reads it
            in further chunks. prompt_syntax: "a1111" reads `(word:1.3)`, `(word)` and `[word]` as weights.
        image: picture(s) to start from, one for all rows or one per row; the result has its size (inside it
            is padded to multiples of the VAE's factor), or that of `height` and `width`: one of them keeps
            the picture's aspect ratio. Floating tensors with the VAE's channels are latents; RGBA comes as
            PIL or uint8, transparent parts white.
        mask_image: white is painted anew, black is kept: those pixels of the result equal the input's. Gray
            is painted in late steps only (arXiv 2306.00950).
        blend: "exact"; "feather" fades the painted part out over twice the VAE's factor of pixels; "none"
            returns all pixels as decoded, as diffusers does.
        padding_mask_crop: paint only the mask and so many pixels around it, at `height` x `width`.
        masked_image_latents: for UNets made for inpainting, in place of encoding the masked picture.
        strength: share of the schedule run on `image`, in (0, 1]; 0.8, with a mask 1.0.
        height, width: pixels, multiples of the VAE's factor (8).
        num_inference_steps: 1 to 1000 (50). timesteps, sigmas: own schedule, where the scheduler takes one.
        guidance_scale: weight of classifier-free guidance (7.5); 1 or less: off, and one network branch only.
        guidance_rescale: 0 to 1 (0), arXiv 2305.08891.
        guidance_interval: fractions [start, stop) of the schedule in which guidance acts ((0, 1)); outside it
            a step costs half. negative_start: fraction before which the empty prompt stands in for the
            negative one (0).
        guider: one of diffusers' guiders that work on UNets; guides in place of `guidance_scale`.
        regions: phrases that act in part of the picture, (text, box or mask[, weight]) each; a box is (left,
            top, right, bottom) in fractions, a mask is white inside.
        step_cache_interval: run the whole UNet at every n-th step only, between them its shallow layers
            (arXiv 2312.00858): faster, and another picture. 1 is exact.
        exact: True computes every picture alone, so that batch and neighbors change none of its bits; False
            takes all at once, which is faster where pictures are small. None: True on a CPU, False elsewhere.
        num_images_per_prompt: pictures per row, at least 1. Pictures are counted prompt-major.
        seed: 0 to 2^32-1; picture i has seed + i and a CPU generator of its own, as in diffusers with
            `generator=torch.Generator("cpu").manual_seed(seed + i)`. A list has one seed per picture. None:
            fresh entropy, recorded in the result. `torch.manual_seed` has no effect.
        generator: diffusers' way instead of a seed, one for all pictures or one each.
        latents: standard normal noise to use in place of drawing it, (pictures channels height/8 width/8).
        prompt_embeds, negative_prompt_embeds: token states in place of texts, (rows tokens width).
        ip_adapter_image: a picture, or list of pictures, per loaded IP-Adapter (arXiv 2308.06721).
            ip_adapter_image_embeds: what `prepare_ip_adapter_image_embeds` gave, in place of it.
        eta: DDIM's noise share. clip_skip: text layers left out, for prompt and negative prompt alike.
        cross_attention_kwargs: for the attention processors; "scale" is LoRA's.
        callback_on_step_end: `callback(pipe, step, timestep, tensors) -> tensors` after each step;
            `callback_on_step_end_tensor_inputs` names the tensors (["latents"]).
        output_type: "pil", "np" (pictures height width 3), "pt" (pictures 3 height width), or "latent".
        return_dict: False gives the tuple (images, nsfw_content_detected).

        Warns of words the model never saw, of a prompt that was cut, of a negative prompt without effect and
        of pictures that a safety checker blacked out. ValueError in one line for what cannot be met.
        """
        refuse_unknown(unknown, known=inspect.signature(type(self).__call__).parameters)
        asked = read_arguments(
            self._facts(),
            self.generation_defaults,
            prompt=prompt,
            negative_prompt=negative_prompt,
            image=image,
            mask_image=mask_image,
            masked_image_latents=masked_image_latents,
            padding_mask_crop=padding_mask_crop,
            blend=blend,
            strength=strength,
            height=height,
            width=width,
            num_inference_steps=num_inference_steps,
            guidance_scale=guidance_scale,
            num_images_per_prompt=num_images_per_prompt,
            seed=seed,
            generator=generator,
            latents=latents,
            prompt_embeds=prompt_embeds,
            negative_prompt_embeds=negative_prompt_embeds,
            ip_adapter_image=ip_adapter_image,
            ip_adapter_image_embeds=ip_adapter_image_embeds,
            long_prompt=long_prompt,
            prompt_syntax=prompt_syntax,
            guider=guider,
            regions=regions,
            step_cache_interval=step_cache_interval,
            exact=exact,
            eta=eta,
            clip_skip=clip_skip,
            guidance_rescale=guidance_rescale,
            cross_attention_kwargs=cross_attention_kwargs,
            timesteps=timesteps,
            sigmas=sigmas,
            callback=callback_on_step_end,
            callback_names=callback_on_step_end_tensor_inputs,
            output_type=output_type,
            negative_start=negative_start,
            guidance_interval=guidance_interval,
        )
        known_words = None if adapter_names(self) else self.known_words  # a LoRA may have taught others
        warn_of_no_effect(asked.request, known_words, has_guider=guider is not None)
        with self._remember(asked.request, cross_attention_kwargs):
            record = record_call(self, asked, image=image, mask_image=mask_image)
            scheduler, steps = self.prepare_scheduler(asked)
            conditioning, pictures = self.encode(asked), self.encode_pictures(asked)
            start = self.prepare_start(asked, scheduler, steps)
            final = self.denoise(asked, scheduler, start, conditioning, pictures)
            drawn, blocked = self.decode(asked, final)
            drawn, recipes = record.with_recipes(drawn)
        self.maybe_free_model_hooks()

        if not return_dict:
            return drawn, blocked  # pyright: ignore[reportReturnType] (diffusers' old form)
        return LatentDiffusionPipelineOutput(
            images=drawn,
            nsfw_content_detected=blocked,
            seeds=asked.request.seeds or None,
            request=asked.request,
            recipes=recipes,
        )


def _register() -> None:
    """Let diffusers' generic classes resolve our name in folders that carry it."""
    diffusers.LatentDiffusionPipeline = LatentDiffusionPipeline  # pyright: ignore
    mappings: tuple[Any, ...] = (
        auto_pipeline.AUTO_TEXT2IMAGE_PIPELINES_MAPPING,
        auto_pipeline.AUTO_IMAGE2IMAGE_PIPELINES_MAPPING,
        auto_pipeline.AUTO_INPAINT_PIPELINES_MAPPING,
    )
    for mapping in mappings:
        mapping["latent-diffusion"] = LatentDiffusionPipeline


_register()
