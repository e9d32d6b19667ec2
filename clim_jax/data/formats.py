"""Extensions of the image files that are read, as docs/data.md lists them."""

try:
  from pillow_heif import register_heif_opener
except ImportError:
  _BY_EXTRA: tuple[str, ...] = ()
else:
  register_heif_opener()  # Pillow then reads them; phones write them
  _BY_EXTRA = (".heic", ".heif")

EXTENSIONS = (
  *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".avif", ".bmp", ".dib", ".gif"),
  *(".tif", ".tiff", ".jp2", ".ppm", ".pgm", ".pbm", ".pnm", ".tga", *_BY_EXTRA),
)
# Extensions that would be read if a package were there, and how to have it.
EXTRAS = (
  {} if _BY_EXTRA else dict.fromkeys((".heic", ".heif"), "pip install pillow-heif")
)
