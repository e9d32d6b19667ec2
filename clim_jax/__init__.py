"""CLIM self-supervised pretraining (arXiv 2011.02697) in JAX and Flax."""
