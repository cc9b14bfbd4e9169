"""LatentDiffusionPipeline: a prompt, and perhaps a picture, to pictures; `__call__` is a table of contents.

Knows nothing of files that pictures are saved to, of the command line, or of how weights were trained.
"""

# diffusers exports lazily, which pyright takes for private names.
# pyright: reportPrivateImportUsage=false

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import diffusers
import torch
from diffusers.image_processor import VaeImageProcessor
from diffusers.pipelines import auto_pipeline
from diffusers.pipelines.stable_diffusion import StableDiffusionPipelineOutput
from diffusers.utils.peft_utils import scale_lora_layers, unscale_lora_layers
from torch import Generator, Tensor

from ldm_pipeline import schedulers
from ldm_pipeline.arguments import Asked, ModelFacts, StepCallback, read_arguments, warn_of_no_effect
from ldm_pipeline.components import LatentDiffusionComponents
from ldm_pipeline.denoise import StepState, call_back, denoise
from ldm_pipeline.guidance import Guidance, scale_embedding
from ldm_pipeline.images import PictureInput, to_pil
from ldm_pipeline.latents import Start, latents_to_picture, prepare_start, steps_left
from ldm_pipeline.request import GenerationRequest, texts
from ldm_pipeline.text import TextConditioning, condition


@dataclass
class LatentDiffusionPipelineOutput(StableDiffusionPipelineOutput):
    """What a call returns: diffusers' output (`images`, `nsfw_content_detected`) and what repeats it."""

    seeds: tuple[int, ...] | None = None
    """One per picture; None when the call was given a generator, or latents and no seed."""
    request: GenerationRequest | None = None
    """Every setting, defaults filled in; `request.to_arguments()` are arguments for the same pictures."""


class LatentDiffusionPipeline(LatentDiffusionComponents):
    """Text-to-image, image-to-image and inpainting with latent diffusion (Rombach et al., arXiv 2112.10752).

    Threads may call one pipeline at the same time; the read-only properties then show the latest call.
    """

    @torch.no_grad()
    def __call__(
        self,
        prompt: str | Sequence[str] | None = None,
        *,
        negative_prompt: str | Sequence[str] | None = None,
        image: PictureInput | None = None,
        mask_image: PictureInput | None = None,
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
    ) -> LatentDiffusionPipelineOutput:
        """Draw pictures: from noise, from `image`, or from `image` where `mask_image` is white.

        None for a setting means the folder's `generation_defaults.json`, or else diffusers' default.

        prompt: a text, or one per row. negative_prompt: a text for all rows, or one per row.
        image: picture(s) to start from, one for all rows or one per row; the result has its size (inside it
            is padded to multiples of the VAE's factor), or `height` and `width` where both are given.
        mask_image: white is painted anew, black is kept: those pixels of the result equal the input's.
        strength: share of the schedule run on `image`, in (0, 1]; 0.8, with a mask 1.0.
        height, width: pixels, multiples of the VAE's factor (8).
        num_inference_steps: 1 to 1000 (50). timesteps, sigmas: own schedule, where the scheduler takes one.
        guidance_scale: weight of classifier-free guidance (7.5); 1 or less: off, and one network branch only.
        guidance_rescale: 0 to 1 (0), arXiv 2305.08891.
        guidance_interval: fractions [start, stop) of the schedule in which guidance acts ((0, 1)); outside it
            a step costs half. negative_start: fraction before which the empty prompt stands in for the
            negative one (0).
        num_images_per_prompt: pictures per row, at least 1. Pictures are counted prompt-major.
        seed: 0 to 2^32-1; picture i has seed + i and a CPU generator of its own, as in diffusers with
            `generator=torch.Generator("cpu").manual_seed(seed + i)`. A list has one seed per picture. None:
            fresh entropy, recorded in the result.
        generator: diffusers' way instead of a seed, one for all pictures or one each.
        latents: standard normal noise to use in place of drawing it, (pictures channels height/8 width/8).
        prompt_embeds, negative_prompt_embeds: token states in place of texts, (rows tokens width).
        eta: DDIM's noise share. clip_skip: text layers left out, for prompt and negative prompt alike.
        cross_attention_kwargs: for the attention processors; "scale" is LoRA's.
        callback_on_step_end: `callback(pipe, step, timestep, tensors) -> tensors` after each step;
            `callback_on_step_end_tensor_inputs` names the tensors (["latents"]).
        output_type: "pil", "np" (pictures height width 3), "pt" (pictures 3 height width), or "latent".
        return_dict: False gives the tuple (images, nsfw_content_detected).

        Warns of words the model never saw, of a prompt that was cut, of a negative prompt without effect and
        of pictures that a safety checker blacked out. ValueError in one line for what cannot be met.
        """
        asked = read_arguments(
            self._facts(),
            self.generation_defaults,
            prompt=prompt,
            negative_prompt=negative_prompt,
            image=image,
            mask_image=mask_image,
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
        warn_of_no_effect(asked.request, self.known_words)
        self._remember(asked.request, cross_attention_kwargs)

        scheduler, steps = self.prepare_scheduler(asked)
        conditioning = self.encode(asked)
        start = self.prepare_start(asked, scheduler, steps)
        final = self.denoise(asked, scheduler, start, conditioning)
        drawn, blocked = self.decode(asked, final)
        self.maybe_free_model_hooks()

        if not return_dict:
            return drawn, blocked  # pyright: ignore[reportReturnType] (diffusers' old form)
        return LatentDiffusionPipelineOutput(
            images=drawn,
            nsfw_content_detected=blocked,
            seeds=asked.request.seeds or None,
            request=asked.request,
        )

    def prepare_scheduler(self, asked: Asked) -> tuple[Any, int]:
        """Lay out the schedule on a copy of the scheduler, and give its number of steps."""
        schedulers.check_scheduler(self.scheduler, flow=self._is_flow_model)
        scheduler = schedulers.scheduler_for_run(self.scheduler)
        request = asked.request
        steps = schedulers.set_steps(
            scheduler,
            request.num_inference_steps,
            timesteps=request.timesteps,
            sigmas=request.sigmas,
            device=self._execution_device,
        )
        if request.strength is not None:
            steps_left(steps, request.strength)
        return scheduler, steps

    def encode(self, asked: Asked) -> TextConditioning:
        """Encode prompt, negative prompt and, where needed, the empty prompt; warn of what is cut off."""
        request = asked.request
        guided = request.guidance_scale > 1.0 and not self._is_distilled
        prompts = self._learned(request.prompts) if asked.prompt_embeds is None else asked.prompt_embeds
        negatives: list[str] | Tensor = self._learned(request.negative_prompts or ("",) * asked.rows)
        if asked.negative_prompt_embeds is not None:
            negatives = asked.negative_prompt_embeds
        with self._lora_in_text_encoder(asked.cross_attention_kwargs):
            conditioning, lost = condition(
                self.tokenizer,
                self.text_encoder,
                prompts=prompts,
                negatives=negatives if guided else None,
                needs_null=guided and request.negative_start > 0.0,
                per_row=request.num_images_per_prompt,
                clip_skip=request.clip_skip,
                device=self._execution_device,
                dtype=self.unet.dtype,
            )
        for end in lost:
            warnings.warn(f"the prompt is too long, this end of it was cut off: {end!r}", stacklevel=4)
        return conditioning

    def prepare_start(self, asked: Asked, scheduler: Any, steps: int) -> Start:
        """Make the latents that the run starts from: noise, a noised picture, or one with a mask."""
        picture, mask = asked.padded(self.vae_scale_factor)
        return prepare_start(
            self.vae,
            scheduler,
            steps=steps,
            strength=asked.request.strength,
            shape=asked.shape,
            generators=asked.generators,
            noise=asked.noise,
            picture=picture,
            mask=mask,
            dtype=self.unet.dtype,
            device=self._execution_device,
        )

    def denoise(self, asked: Asked, scheduler: Any, start: Start, conditioning: TextConditioning) -> Tensor:
        """Run the loop with this request's guidance, a progress bar and the callback."""
        request = asked.request
        guidance = Guidance(
            scale=1.0 if self._is_distilled else request.guidance_scale,
            rescale=request.guidance_rescale,
            interval=request.guidance_interval,
            negative_start=request.negative_start,
        )
        network_arguments: dict[str, Any] = {"cross_attention_kwargs": asked.cross_attention_kwargs}
        if self._is_distilled:
            width = self.unet.config.time_cond_proj_dim
            embedding = scale_embedding(request.guidance_scale, width, pictures=len(start.latents))
            network_arguments["timestep_cond"] = embedding.to(start.latents)
        self._num_timesteps = len(start.timesteps)

        with self.progress_bar(total=len(start.timesteps)) as bar:  # pyright: ignore[reportCallIssue]

            def after_step(i: int, timestep: Tensor, state: StepState) -> StepState:
                bar.update()
                if asked.callback is None:
                    return state
                place = (start.first_step + i) / start.total_steps
                return call_back(self, asked.callback, asked.callback_names, i, timestep, state, place=place)

            return denoise(
                self.unet,
                scheduler,
                StepState(latents=start.latents, conditioning=conditioning, guidance=guidance),
                timesteps=start.timesteps,
                first_step=start.first_step,
                total_steps=start.total_steps,
                step_arguments=schedulers.step_arguments(
                    scheduler, generator=asked.generators, eta=request.eta
                ),
                network_arguments=network_arguments,
                put_back=start.put_back,
                after_step=after_step,
                interrupted=lambda: self._interrupt,
            )

    def decode(self, asked: Asked, final: Tensor) -> tuple[Any, list[bool] | None]:
        """Turn latents into pictures, kept pixels restored; also which of them a safety checker blocked."""
        if asked.output_type == "latent":
            return final, None
        drawn = latents_to_picture(self.vae, final)[..., : asked.request.height, : asked.request.width]
        if asked.picture is not None and asked.mask is not None:
            drawn = torch.where(asked.mask.to(drawn.device) > 0, drawn, asked.picture.to(drawn.device))
        drawn, blocked = self._check_safety(drawn)
        if asked.output_type == "pil":
            return to_pil(drawn), blocked
        return (drawn if asked.output_type == "pt" else VaeImageProcessor.pt_to_numpy(drawn)), blocked

    def encode_prompt(
        self,
        prompt: str | Sequence[str] | None,
        device: torch.device | None = None,
        num_images_per_prompt: int = 1,
        do_classifier_free_guidance: bool = True,
        negative_prompt: str | Sequence[str] | None = None,
        *,
        clip_skip: int | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """Encode texts as diffusers' method does: (prompt, negative), each (pictures tokens width)."""
        prompts, negatives = texts("prompt", prompt), texts("negative_prompt", negative_prompt)
        if prompts is None:
            raise ValueError("prompt is None: give a text, or a list of texts")
        if negatives is None or isinstance(negative_prompt, str):
            negatives = (negatives or ("",)) * len(prompts)
        found, _ = condition(
            self.tokenizer,
            self.text_encoder,
            prompts=self._learned(prompts),
            negatives=self._learned(negatives) if do_classifier_free_guidance else None,
            needs_null=False,
            per_row=num_images_per_prompt,
            clip_skip=clip_skip,
            device=device or self._execution_device,
            dtype=self.text_encoder.dtype,
        )
        return found.prompt, found.negative

    def _check_safety(self, drawn: Tensor) -> tuple[Tensor, list[bool] | None]:
        """Let a loaded safety checker black out pictures, and say so; without one nothing is checked."""
        if self.safety_checker is None:
            return drawn, None
        clip_input = self.feature_extractor(to_pil(drawn), return_tensors="pt").pixel_values
        clip_input = clip_input.to(device=self._execution_device, dtype=self.safety_checker.dtype)
        checked, flags = self.safety_checker(images=drawn.clone(), clip_input=clip_input)
        blocked = [bool(flag) for flag in flags]
        if any(blocked):
            numbers = ", ".join(str(i) for i, one in enumerate(blocked) if one)
            warnings.warn(f"the safety checker blocked and blacked out picture {numbers}", stacklevel=4)
        return checked, blocked

    def _learned(self, prompts: Sequence[str]) -> list[str]:
        """Write out textual inversions that hold several tokens."""
        return [self.maybe_convert_prompt(prompt, self.tokenizer) for prompt in prompts]  # pyright: ignore

    @contextmanager
    def _lora_in_text_encoder(self, cross_attention_kwargs: dict[str, Any] | None) -> Iterator[None]:
        """Give the text encoder's LoRA layers the scale that the UNet's get through its arguments."""
        scale = (cross_attention_kwargs or {}).get("scale")
        if scale is None or self.text_encoder is None:
            yield
            return
        scale_lora_layers(self.text_encoder, scale)
        try:
            yield
        finally:
            unscale_lora_layers(self.text_encoder, scale)

    def _facts(self) -> ModelFacts:
        return ModelFacts(
            factor=self.vae_scale_factor,
            sample_size=self.unet.config.sample_size,
            latent_channels=self.vae.config.latent_channels,
            unet_channels=self.unet.config.in_channels,
            states_width=self.unet.config.cross_attention_dim,
            scheduler=type(self.scheduler).__name__,
            callback_tensors=self._callback_tensor_inputs,
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
