"""Center-wise local image selection: bank → k-means → neighbours → positives."""

from clim_jax.selection.center_wise import CenterWisePositives, center_wise_positives

__all__ = ["CenterWisePositives", "center_wise_positives"]
