"""Every op against PIL, SciPy or colorsys on real pictures."""

import colorsys
import itertools

import numpy as np
import pytest
from pictures import LEVEL, ROUNDING, floats, pictures, pil
from PIL import Image, ImageEnhance, ImageFilter, ImageOps
from scipy import ndimage

from clim_jax.augment import photometric


@pytest.fixture(scope="module")
def images():
  return pictures()


@pytest.mark.parametrize("factor", [0.0, 0.6, 1.0, 1.4])
@pytest.mark.parametrize(
  ("target", "enhance", "levels"),
  [
    (lambda image: 0.0, ImageEnhance.Brightness, 1.0),
    # PIL also rounds the mean to a level, of which |1 - factor| <= 1 enters.
    (lambda image: photometric.luma(image).mean(), ImageEnhance.Contrast, 1.5),
    # PIL also rounds the luma to a level.
    (photometric.luma, ImageEnhance.Color, 1.5),
  ],
)
def test_blends_equal_pil(images, target, enhance, levels, factor):
  for image in images:
    expected = floats(enhance(pil(image)).enhance(factor))
    # The blend itself is truncated by PIL to a level.
    blended = photometric.blend(image, target(image), factor)
    np.testing.assert_allclose(blended, expected, atol=levels * LEVEL + 1e-6)


def test_grayscale_equals_pil(images):
  for image in images:
    expected = floats(pil(image).convert("L"))[..., None].repeat(3, axis=-1)
    # PIL rounds, in fixed point: half a level and a little.
    np.testing.assert_allclose(
      photometric.to_grayscale(image), expected, atol=0.51 * LEVEL
    )


@pytest.mark.parametrize("turns", [-64, 13, 100])
def test_hue_equals_pil(images, turns):
  for image in images:
    hsv = np.array(pil(image).convert("HSV"))
    hsv[..., 0] += np.uint8(turns % 256)  # wraps around, as the circle does
    expected = floats(Image.fromarray(hsv, "HSV").convert("RGB"))
    error = np.abs(photometric.adjust_hue(image, turns / 256) - expected) / LEVEL
    # PIL truncates hue and saturation to 8 bits: an error of one in hue is 6/256 of
    # the chroma, at most 6 levels, in saturation 1 level; another for the way back.
    assert error.max() <= 8
    assert error.mean() < 1.5


@pytest.mark.parametrize("shift", [-0.5, -0.1, 0.0, 0.07, 0.3, 1.25])
def test_hue_equals_colorsys(images, shift):
  def shifted(red, green, blue):
    hue, saturation, value = colorsys.rgb_to_hsv(red, green, blue)
    return colorsys.hsv_to_rgb((hue + shift) % 1, saturation, value)

  # The corners and edges of the cube hold every tie between channels.
  cube = np.array(list(itertools.product([0, 0.5, 1], repeat=3)), np.float32)
  for pixels in (cube[None], images[0, ::4, ::4]):
    expected = np.apply_along_axis(lambda rgb: shifted(*map(float, rgb)), -1, pixels)
    # A dark pixel's hue is a quotient of small differences, but enters by its chroma.
    np.testing.assert_allclose(
      photometric.adjust_hue(pixels, shift), expected, atol=ROUNDING
    )


@pytest.mark.parametrize("sigma", [0.1, 0.5, 1.3, 2.0])
def test_blur_equals_scipy(images, sigma):
  for image in images:
    expected = ndimage.gaussian_filter(
      image.astype(np.float64), (sigma, sigma, 0), mode="nearest", radius=(6, 6, 0)
    )
    blurred = photometric.gaussian_blur(image, sigma, radius=6)
    np.testing.assert_allclose(blurred, expected, atol=ROUNDING)


def test_blur_is_near_pil(images):
  for image in images:
    expected = floats(pil(image).filter(ImageFilter.GaussianBlur(2.0)))
    error = np.abs(photometric.gaussian_blur(image, 2.0, radius=6) - expected) / LEVEL
    # PIL's is three box filters, each rounded to a level; it repeats the edge before
    # each of them, which is another convention for the pixels near it.
    assert error[6:-6, 6:-6].max() <= 6
    assert error.mean() < 1


def test_blur_reaches_beyond_a_small_image(images):
  image = images[0, :4, :4]
  expected = ndimage.gaussian_filter(
    image.astype(np.float64), (2, 2, 0), mode="nearest", radius=(6, 6, 0)
  )
  blurred = photometric.gaussian_blur(image, 2.0, radius=6)
  np.testing.assert_allclose(blurred, expected, atol=ROUNDING)


def test_solarize_equals_pil(images):
  for image in images:
    expected = floats(ImageOps.solarize(pil(image), threshold=128))
    np.testing.assert_allclose(
      photometric.solarize(image, 0.5), expected, atol=ROUNDING
    )


def test_solarize_inverts_the_threshold_itself():
  image = np.full((2, 2, 3), 0.25, np.float32)
  np.testing.assert_array_equal(photometric.solarize(image, 0.25), 0.75)


def test_flip_equals_numpy(images):
  for image in images:
    np.testing.assert_array_equal(
      photometric.flip_horizontally(image), np.asarray(image)[:, ::-1]
    )
