"""Ways to damage the folder of a run that stopped after step 22 of 33."""

import gzip
import json
import pathlib
import shutil
from collections.abc import Callable
from typing import Any, NamedTuple

_NEWEST = "checkpoints/22"


class Harm(NamedTuple):
  name: str
  do: Callable[[pathlib.Path], Any]  # to a workdir
  harmless: bool = False  # the run needs it not: it must go on, and need not speak
  loses_lines: bool = False  # of the log: these are gone


def _files(path: pathlib.Path, pattern: str) -> list[pathlib.Path]:
  """Those of a pattern, itself if it is a file; there must be some."""
  found = [path] if path.is_file() else [f for f in path.rglob(pattern) if f.is_file()]
  if not found:
    raise FileNotFoundError(f"{path}: no {pattern}")
  return found


def _halve(place: str, pattern: str = "*") -> Callable[[pathlib.Path], None]:
  def harm(workdir: pathlib.Path) -> None:
    for file in _files(workdir / place, pattern):
      file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])

  return harm


def _empty(place: str, pattern: str = "*") -> Callable[[pathlib.Path], None]:
  def harm(workdir: pathlib.Path) -> None:
    for file in _files(workdir / place, pattern):
      file.write_bytes(b"")

  return harm


def _garble(place: str, pattern: str = "*") -> Callable[[pathlib.Path], None]:
  """Every hundredth byte is another."""

  def harm(workdir: pathlib.Path) -> None:
    for file in _files(workdir / place, pattern):
      data = bytearray(file.read_bytes())
      for at in range(len(data) // 200, len(data), 100):
        data[at] ^= 0xFF
      file.write_bytes(data)

  return harm


def _remove(place: str, pattern: str = "") -> Callable[[pathlib.Path], None]:
  def harm(workdir: pathlib.Path) -> None:
    paths = sorted((workdir / place).rglob(pattern)) if pattern else [workdir / place]
    for path in paths:
      shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)

  return harm


def _write(place: str, data: bytes) -> Callable[[pathlib.Path], None]:
  def harm(workdir: pathlib.Path) -> None:
    path = workdir / place
    if path.is_dir():
      shutil.rmtree(path)
    path.write_bytes(data)

  return harm


def _append(place: str, data: bytes) -> Callable[[pathlib.Path], None]:
  def harm(workdir: pathlib.Path) -> None:
    with (workdir / place).open("ab") as file:
      file.write(data)

  return harm


def _folder(place: str) -> Callable[[pathlib.Path], None]:
  """An empty folder in place of whatever is there."""

  def harm(workdir: pathlib.Path) -> None:
    _remove(place)(workdir)
    (workdir / place).mkdir()

  return harm


def _config(key: str, value: Any) -> Callable[[pathlib.Path], None]:
  """Another value in config.json; None removes the key."""

  def harm(workdir: pathlib.Path) -> None:
    path = workdir / "config.json"
    config = json.loads(path.read_text())
    *sections, name = key.split(".")
    section = config
    for part in sections:
      section = section[part]
    section[name] = value
    path.write_text(json.dumps(config))

  return harm


def _both(*harms: Callable[[pathlib.Path], None]) -> Callable[[pathlib.Path], None]:
  def harm(workdir: pathlib.Path) -> None:
    for each in harms:
      each(workdir)

  return harm


def _rename(place: str, other: str) -> Callable[[pathlib.Path], None]:
  return lambda workdir: (workdir / place).rename(workdir / other)


def _other_images(workdir: pathlib.Path) -> None:
  (workdir / "images.txt.gz").write_bytes(gzip.compress(b"a.jpg\nb.jpg\n"))


HARMS = [
  Harm("checkpoint: empty folder", _folder(_NEWEST)),
  Harm("checkpoint: all files halved", _halve(_NEWEST)),
  Harm("checkpoint: all files empty", _empty(_NEWEST)),
  Harm("checkpoint: all files garbled", _garble(_NEWEST)),
  Harm("checkpoint: arrays halved", _halve(f"{_NEWEST}/state", "d/*")),
  Harm("checkpoint: arrays garbled", _garble(f"{_NEWEST}/state", "d/*")),
  Harm("checkpoint: arrays missing", _remove(f"{_NEWEST}/state", "d")),
  Harm("checkpoint: manifest halved", _halve(f"{_NEWEST}/state", "manifest.ocdbt")),
  Harm("checkpoint: manifest missing", _remove(f"{_NEWEST}/state", "manifest.ocdbt")),
  Harm("checkpoint: tree halved", _halve(f"{_NEWEST}/state/_METADATA")),
  Harm("checkpoint: tree missing", _remove(f"{_NEWEST}/state/_METADATA")),
  Harm("checkpoint: state missing", _remove(f"{_NEWEST}/state")),
  Harm("checkpoint: positives missing", _remove(f"{_NEWEST}/positives")),
  Harm("checkpoint: positives halved", _halve(f"{_NEWEST}/positives")),
  Harm("checkpoint: positives garbled", _garble(f"{_NEWEST}/positives", "d/*")),
  Harm("checkpoint: metadata missing", _remove(f"{_NEWEST}/_CHECKPOINT_METADATA")),
  Harm("checkpoint: metadata halved", _halve(f"{_NEWEST}/_CHECKPOINT_METADATA")),
  Harm(
    "checkpoint: metadata of no object",
    _write(f"{_NEWEST}/_CHECKPOINT_METADATA", b"[]"),
  ),
  Harm("checkpoint: a file in its place", _write(_NEWEST, b"text")),
  Harm(
    "checkpoint: halved, and a file called damaged",
    _both(_halve(_NEWEST), _write("damaged", b"")),
  ),
  Harm(
    "checkpoints: a save that died",
    _rename(_NEWEST, f"{_NEWEST}.orbax-checkpoint-tmp"),
    harmless=True,
  ),
  Harm("checkpoints: a file", _write("checkpoints/notes.txt", b"a"), harmless=True),
  Harm("checkpoints: a folder", _folder("checkpoints/old"), harmless=True),
  Harm("checkpoints: none is good", _both(_folder(_NEWEST), _folder("checkpoints/11"))),
  Harm("checkpoints: folder missing", _remove("checkpoints")),
  Harm("checkpoints: a file in their place", _write("checkpoints", b"")),
  Harm("config.json: halved", _halve("config.json")),
  Harm("config.json: empty", _empty("config.json")),
  Harm("config.json: garbled", _garble("config.json")),
  Harm("config.json: no object", _write("config.json", b"[1]")),
  Harm("config.json: missing", _remove("config.json")),
  Harm("config.json: another value", _config("moco.temperature", 0.5)),
  Harm("config.json: a value of another kind", _config("epochs", "three")),
  Harm("config.json: a section that is a number", _config("moco", 3)),
  Harm("config.json: an unknown key", _config("moco.unknown", 3)),
  Harm("config.json: a folder in its place", _folder("config.json")),
  Harm("metrics.jsonl: half a line more", _append("metrics.jsonl", b'{"step": 2')),
  Harm("metrics.jsonl: garbled", _garble("metrics.jsonl"), loses_lines=True),
  Harm("metrics.jsonl: empty", _empty("metrics.jsonl"), loses_lines=True),
  Harm("metrics.jsonl: missing", _remove("metrics.jsonl"), loses_lines=True),
  Harm("metrics.jsonl: no text", _append("metrics.jsonl", b"\xff\xfe\0\n")),
  Harm("metrics.jsonl: a line of no object", _append("metrics.jsonl", b"3\n")),
  Harm("metrics.jsonl: a folder in its place", _folder("metrics.jsonl")),
  Harm("history.jsonl: halved", _halve("history.jsonl"), harmless=True),
  Harm("history.jsonl: missing", _remove("history.jsonl"), harmless=True),
  Harm("history.jsonl: no text", _append("history.jsonl", b"\xff\n"), harmless=True),
  Harm("images.txt.gz: halved", _halve("images.txt.gz")),
  Harm("images.txt.gz: empty", _empty("images.txt.gz")),
  Harm("images.txt.gz: no gzip", _write("images.txt.gz", b"text")),
  Harm("images.txt.gz: missing", _remove("images.txt.gz"), harmless=True),
  Harm("images.txt.gz: of other images", _other_images),
  Harm("evaluation.json: half a file", _write("evaluation.json", b"{"), harmless=True),
  Harm(".lock: a folder in its place", _folder(".lock")),
]
