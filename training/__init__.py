"""Trains every part of the pipeline from nothing: recogniser, VAE, CLIP text encoder, latent UNet.

Knows nothing of how a user's request is served; that is `ldm_pipeline`.
"""
