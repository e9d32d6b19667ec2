"""Augmentations for tests: none, and every op in strong doses."""

from clim_jax.augment.policy import Policy

NOTHING = Policy(
  jitter_probability=0.0,
  brightness=0.0,
  contrast=0.0,
  saturation=0.0,
  hue=0.0,
  grayscale_probability=0.0,
  blur_probability=0.0,
  blur_sigma=(0.0, 0.0),
  solarize_probability=0.0,
  solarize_threshold=0.5,
  flip_probability=0.0,
)
EVERYTHING = Policy(
  jitter_probability=0.8,
  brightness=2.0,
  contrast=2.0,
  saturation=2.0,
  hue=0.5,
  grayscale_probability=0.2,
  blur_probability=0.5,
  blur_sigma=(0.1, 2.0),
  solarize_probability=0.2,
  solarize_threshold=0.5,
  flip_probability=0.5,
)
