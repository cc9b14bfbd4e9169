"""The stages of a call as methods: lay out the schedule, encode, choose a start, denoise, decode.

Knows nothing of how a call's arguments were checked, nor in which order the stages run: `pipeline.py` does.
"""

# diffusers exports lazily, which pyright takes for private names.
# pyright: reportPrivateImportUsage=false

import functools
import warnings
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any

import torch
from diffusers.image_processor import VaeImageProcessor
from diffusers.utils.peft_utils import scale_lora_layers, unscale_lora_layers
from torch import Tensor

from ldm_pipeline import schedulers
from ldm_pipeline.arguments import MASK_TENSORS, Asked, ModelFacts
from ldm_pipeline.attention import blocked_attention
from ldm_pipeline.components import LatentDiffusionComponents
from ldm_pipeline.denoise import Join, Predict, StepState, call_back, denoise, predict
from ldm_pipeline.guidance import Guidance, scale_embedding
from ldm_pipeline.guiders import guided_by, layers_changed
from ldm_pipeline.images import blended, paste_back, to_pil
from ldm_pipeline.ip_adapter import ImageConditioning, condition_on_images
from ldm_pipeline.latents import Start, latents_to_picture, prepare_start, steps_left, with_mask_tensors
from ldm_pipeline.prompt_rows import NegativeRow, PromptRow, texts, with_texts
from ldm_pipeline.regions import regional_attention, with_phrases
from ldm_pipeline.step_cache import cached_steps
from ldm_pipeline.text import Branch, TextConditioning, condition
from ldm_pipeline.tokens import spelled_out
from ldm_pipeline.turns import turn

CACHED_DEPTH = 1
"""Layers on the UNet's way up that every step runs, with a step cache: one, as in DeepCache."""


class LatentDiffusionStages(LatentDiffusionComponents):
    """Components that can do each stage of a call; a caller may run the stages one by one."""

    def prepare_scheduler(self, asked: Asked) -> tuple[Any, int]:
        """Lay out the schedule on a copy of the scheduler, and give its number of steps."""
        request = asked.request
        schedulers.check_scheduler(
            self.scheduler, flow=self._is_flow_model, seeded=bool(request.seeds), device=asked.device
        )
        scheduler = schedulers.scheduler_for_run(self.scheduler, as_in_inpainting=request.blend == "none")
        schedulers.seed_own_noise(scheduler, asked.generators)
        steps = schedulers.set_steps(
            scheduler,
            request.num_inference_steps,
            timesteps=request.timesteps,
            sigmas=request.sigmas,
            device=asked.device,
        )
        if request.strength is not None:
            steps_left(steps, request.strength)
        return scheduler, steps

    def encode(self, asked: Asked) -> TextConditioning:
        """Encode prompt, negative prompt and, where needed, the empty prompt; warn of what is cut off."""
        request, guided = asked.request, self._is_guided(asked)
        prompts = self._learned(request.prompts) if asked.prompt_embeds is None else asked.prompt_embeds
        negatives: Any = self._learned(request.negative_prompts or ("",) * asked.rows)
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
                device=asked.device,
                dtype=self.unet.dtype,
                long_prompt=request.long_prompt,
                prompt_syntax=request.prompt_syntax,
                exact=request.exact,
            )
        for end in lost:
            warnings.warn(
                f"the prompt is too long, this end of it was cut off: {end!r}; long_prompt='chunk' reads it",
                stacklevel=4,
            )
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
            device=asked.device,
            blend=asked.request.blend,
            made_for_inpainting=asked.made_for_inpainting,
            picture_latents=asked.picture_latents,
            masked_image_latents=asked.masked_image_latents,
        )

    def encode_pictures(self, asked: Asked) -> ImageConditioning | None:
        """Embed what IP-Adapters read; None without an adapter. ValueError where one lacks its picture."""
        return condition_on_images(
            self.unet,
            self.image_encoder,
            self.feature_extractor,
            ip_adapter_image=asked.ip_adapter_image,
            ip_adapter_image_embeds=asked.ip_adapter_image_embeds,
            rows=asked.rows,
            pictures=asked.shape[0],
            guided=self._is_guided(asked),
            device=asked.device,
        )

    def denoise(
        self,
        asked: Asked,
        scheduler: Any,
        start: Start,
        conditioning: TextConditioning,
        pictures: ImageConditioning | None = None,
    ) -> Tensor:
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

        with (
            self.progress_bar(total=len(start.timesteps)) as bar,  # pyright: ignore
            self._fast_attention(self.unet, start.latents),
            self._prediction(asked, start) as (predict_with, join),
        ):
            held = [start]  # a callback may replace what a mask keeps

            def after_step(i: int, timestep: Tensor, state: StepState) -> StepState:
                bar.update()
                if asked.callback is None:
                    return state
                names = [name for name in asked.callback_names if name not in MASK_TENSORS]
                branches = 2 if self._is_guided(asked) else 1
                callback = with_mask_tensors(asked.callback, asked.callback_names, held, branches=branches)
                place = (start.first_step + i) / start.total_steps
                return call_back(self, callback, names, i, timestep, state, place=place)

            return denoise(
                self.unet,
                scheduler,
                StepState(
                    latents=start.latents,
                    conditioning=conditioning,
                    guidance=guidance,
                    pictures=pictures,
                    exact=request.exact,
                    join=join,
                ),
                timesteps=start.timesteps,
                first_step=start.first_step,
                total_steps=start.total_steps,
                step_arguments=schedulers.step_arguments(
                    scheduler, generator=asked.generators, eta=request.eta
                ),
                network_arguments=network_arguments,
                joined=lambda model_input: held[0].joined(model_input),
                put_back=lambda *step: held[0].put_back(*step),
                after_step=after_step,
                interrupted=lambda: self._interrupt,
                predict_with=predict_with,
            )

    def _fast_attention(self, network: Any, latents: Tensor) -> AbstractContextManager[None]:
        """Let a network attend to latents of this size as fast as their device can."""
        rows, columns = latents.shape[-2:]
        return blocked_attention(latents.device, network.dtype, tokens=rows * columns)

    @contextmanager
    def _prediction(self, asked: Asked, start: Start) -> Iterator[tuple[Predict, Join | None]]:
        """Choose how a step predicts and what it reads: plainly, by regions, by a guider, with a cache.

        Holds the UNet meanwhile: alone where modules are altered, with other runs otherwise.
        """
        scaled = (asked.cross_attention_kwargs or {}).get("scale") is not None
        alters = bool(asked.regions) or scaled or bool(layers_changed(asked.guider))
        interval = asked.request.step_cache_interval
        with ExitStack() as stack:
            stack.enter_context(turn(self.unet, alters=alters))
            predict_with: Predict = predict
            join: Join | None = None
            if asked.guider is not None:
                predict_with = guided_by(
                    asked.guider,
                    first_step=start.first_step,
                    total_steps=start.total_steps,
                    flow=self._is_flow_model,
                )
            if asked.regions:
                rows, columns = start.latents.shape[-2:]
                stack.enter_context(regional_attention(self.unet, asked.regions, rows=rows, columns=columns))
                join = functools.partial(with_phrases, phrases=self._phrases(asked))
            if interval > 1:
                cache = cached_steps(self.unet, predict_with, interval=interval, depth=CACHED_DEPTH)
                predict_with = stack.enter_context(cache)
            yield predict_with, join

    def _phrases(self, asked: Asked) -> Branch:
        """Encode the regions' phrases, one row each."""
        with self._lora_in_text_encoder(asked.cross_attention_kwargs):
            found, lost = condition(
                self.tokenizer,
                self.text_encoder,
                prompts=self._learned([region.text for region in asked.regions]),
                negatives=None,
                needs_null=False,
                per_row=1,
                clip_skip=asked.request.clip_skip,
                device=asked.device,
                dtype=self.unet.dtype,
                long_prompt=asked.request.long_prompt,
                prompt_syntax=asked.request.prompt_syntax,
                exact=asked.request.exact,
            )
        for end in lost:
            warnings.warn(f"a region's phrase is too long, this end of it was cut off: {end!r}", stacklevel=2)
        return found.prompts[0]

    def _is_guided(self, asked: Asked) -> bool:
        """Whether a call needs the unconditional branch."""
        return asked.guider is not None or (asked.request.guidance_scale > 1.0 and not self._is_distilled)

    def decode(self, asked: Asked, final: Tensor) -> tuple[Any, list[bool] | None]:
        """Turn latents into pictures, kept pixels restored; also which of them a safety checker blocked."""
        if asked.output_type == "latent":
            return final, None
        request = asked.request
        with self._fast_attention(self.vae, final):
            drawn = latents_to_picture(self.vae, final, exact=request.exact)
        drawn = drawn[..., : request.height, : request.width]
        if asked.picture is not None and asked.mask is not None:
            blend: str = request.blend
            if asked.cutout is not None:
                drawn = paste_back(drawn, asked.picture, asked.cutout.boxes)
                blend = "exact" if blend == "none" else blend  # as in diffusers, which restores the rest too
            drawn = blended(drawn, asked.picture, asked.mask, blend=blend, reach=self.vae_scale_factor)
        drawn, blocked = self._check_safety(drawn, exact=request.exact)
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

    def _check_safety(self, drawn: Tensor, *, exact: bool) -> tuple[Tensor, list[bool] | None]:
        """Let a loaded safety checker black out pictures, and say so; without one nothing is checked."""
        if self.safety_checker is None:
            return drawn, None
        checked, blocked = [], []
        for some in drawn.split(1 if exact else len(drawn)):
            clip_input = self.feature_extractor(to_pil(some), return_tensors="pt").pixel_values
            clip_input = clip_input.to(device=self._execution_device, dtype=self.safety_checker.dtype)
            pictures, flags = self.safety_checker(images=some.clone(), clip_input=clip_input)
            checked.append(torch.as_tensor(pictures))
            blocked += [bool(flag) for flag in flags]
        if any(blocked):
            numbers = ", ".join(str(i) for i, one in enumerate(blocked) if one)
            warnings.warn(f"the safety checker blocked and blacked out picture {numbers}", stacklevel=4)
        return torch.cat(checked), blocked

    def _learned(self, rows: Sequence[PromptRow | NegativeRow]) -> list[Any]:
        """Write out textual inversions that hold several tokens."""
        return [with_texts(row, lambda text: spelled_out(self.tokenizer, text)) for row in rows]

    @contextmanager
    def _lora_in_text_encoder(self, cross_attention_kwargs: dict[str, Any] | None) -> Iterator[None]:
        """Give the text encoder's LoRA layers the scale that the UNet's get through its arguments."""
        scale = (cross_attention_kwargs or {}).get("scale")
        if self.text_encoder is None:
            yield
            return
        if scale is None:
            with turn(self.text_encoder, alters=False):
                yield
            return
        with turn(self.text_encoder, alters=True):
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
            device=self._execution_device,
            callback_tensors=self._callback_tensor_inputs,
        )
