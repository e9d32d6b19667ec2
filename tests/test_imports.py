"""Imports go downwards only, read from the source."""

import ast
import pathlib

ROOT = pathlib.Path(__file__).parent.parent
# Each room may import itself and those after it: what is said to a person stands on
# what a run does, that on the paper's method, and that on arrays and devices.
FLOORS = [
  "command_line api",
  "launch",
  "plan",
  "report",
  "pretrain",
  "evaluate sets",
  "experiment",
  "configs",
  "probes",
  "data",
  "method",
  "selection",
  "weights",
  "augment",
  "models",
  "sharding rng memory devices whole",
]
FLOOR_OF = {room: -i for i, rooms in enumerate(FLOORS) for room in rooms.split()}
_OF_ENCODED_IMAGES = ("tensorflow", "tensorflow_datasets", "array_record", "clu")
LOWEST_WITH_CONFIG = "configs"
FILES = sorted(
  path for top in ("clim_jax", "configs") for path in (ROOT / top).rglob("*.py")
)


def room(module: str) -> str:
  """The part of a dotted module that stands right below clim_jax."""
  return module.split(".")[1]


def imports(path: pathlib.Path) -> set[str]:
  found = set()
  for node in ast.walk(ast.parse(path.read_text())):
    if isinstance(node, ast.Import):
      found |= {alias.name for alias in node.names}
    elif isinstance(node, ast.ImportFrom) and node.module:
      found |= {f"{node.module}.{alias.name}" for alias in node.names}
  return found


def module_name(path: pathlib.Path) -> str:
  """As it is imported: configs/ stands beside the package and is a part of it."""
  name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
  return name if name.startswith("clim_jax") else f"clim_jax.{name}"


MODULES = {
  module_name(path): imports(path)
  for path in FILES
  if path != ROOT / "clim_jax" / "__init__.py"
}


def test_every_room_stands_on_a_floor():
  assert {room(module) for module in MODULES} == set(FLOOR_OF)


def test_imports_go_down_only():
  upwards = [
    f"{module} imports {name}"
    for module, names in MODULES.items()
    for name in names
    if name.startswith("clim_jax.") and FLOOR_OF[room(name)] > FLOOR_OF[room(module)]
  ]
  assert not upwards


def test_rooms_of_one_floor_do_not_import_each_other():
  sideways = [
    f"{module} imports {name}"
    for module, names in MODULES.items()
    for name in names
    if name.startswith("clim_jax.")
    and FLOOR_OF[room(name)] == FLOOR_OF[room(module)]
    and room(name) != room(module)
  ]
  assert not sideways


def test_only_the_upper_floors_see_a_config():
  sees_config = {
    room(module)
    for module, names in MODULES.items()
    if any(name.startswith("ml_collections") for name in names)
  }
  lowest = FLOOR_OF[LOWEST_WITH_CONFIG]
  assert sees_config
  assert all(FLOOR_OF[name] >= lowest for name in sees_config)


def test_tensorflow_stays_in_what_reads_encoded_images():
  # Elsewhere it is imported within functions that find such images, or not at all.
  needs = {
    module
    for module, names in MODULES.items()
    if any(name.split(".")[0] in _OF_ENCODED_IMAGES for name in names)
  }
  assert needs
  rooms = ("clim_jax.data.", "clim_jax.sets.")
  assert all(module.startswith(rooms) for module in needs)
