"""What pyproject.toml cannot say: configs/ is installed as clim_jax.configs."""

from setuptools import find_namespace_packages, find_packages, setup

folders = find_namespace_packages(include=["configs*"], exclude=["*__pycache__*"])
setup(
  packages=[
    *find_packages(include=["clim_jax*"]),
    *(f"clim_jax.{folder}" for folder in folders),
  ],
  package_dir={"clim_jax.configs": "configs"},
)
