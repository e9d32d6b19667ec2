"""Center-wise local image selection: bank → k-means → neighbours → positives."""
