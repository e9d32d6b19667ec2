"""Pretrains, evaluates, embeds, exports; `python main.py --help` says how."""

from clim_jax.command_line import main

if __name__ == "__main__":
  main()
