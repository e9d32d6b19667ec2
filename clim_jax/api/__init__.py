"""What Python programs call: the modes of the command line, and encoders to use.

A run is a folder. Keys of a config are given by name, sections joined by two
underscores: `epochs=5, moco__temperature=0.1`; `clim --keys` lists them.
"""
