"""Extensions of the image files that are read, as docs/data.md lists them."""

EXTENSIONS = (
  *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".dib", ".gif"),
  *(".tif", ".tiff", ".jp2", ".ppm", ".pgm", ".pbm", ".pnm", ".tga"),
)
