"""Bytes and parameters against counts by hand."""

import types

import jax
import pytest
from small_run import small

from clim_jax import sharding
from clim_jax.experiment.experiment import Experiment
from clim_jax.plan import programs
from clim_jax.plan.memory import count_parameters, memory_of, tree_bytes

IMAGES, BLOCK = 40, 9  # numbers of a 3×3 kernel


def experiment(**changes):
  config = small("base", "none.npz", **changes)
  source = types.SimpleNamespace(num_images=IMAGES)
  return Experiment(config, sharding.make_mesh(), source, None)


def by_hand(width, hidden, dim):
  """Of the small ResNet: a stem, and a block at each of three widths."""
  stem = BLOCK * 3 * width + 2 * width  # a norm has a scale and a shift
  first = 2 * (BLOCK * width * width + 2 * width)
  blocks = first
  for inner in (width, 2 * width):
    outer = 2 * inner
    blocks += BLOCK * inner * outer + BLOCK * outer * outer + inner * outer
    blocks += 3 * 2 * outer
  features = 4 * width
  return stem + blocks + (features + 1) * hidden + (hidden + 1) * dim


def statistics(width):
  """Numbers of running means and variances."""
  return 2 * (width + 2 * width + 3 * 2 * width + 3 * 4 * width)


def compiled(x, y):
  """Two arguments, a product of both to be kept for a while, and a result like `x`."""
  return jax.jit(lambda a, b: (a @ b) @ a).lower(x, y).compile()


def matrix(rows, columns):
  return jax.ShapeDtypeStruct((rows, columns), "float32")


@pytest.mark.parametrize(("width", "hidden", "dim"), [(2, 8, 4), (8, 16, 128)])
def test_parameters_are_those_counted_by_hand(width, hidden, dim):
  planned = experiment(
    model__width=width, model__hidden_dim=hidden, model__embedding_dim=dim
  )
  state = programs.abstract_state(planned)
  assert count_parameters(state) == by_hand(width, hidden, dim)


def test_the_state_is_two_encoders_the_optimizer_and_the_queue():
  planned = experiment()
  state = jax.device_get(planned.init_state())
  program = compiled(matrix(2, 2), matrix(2, 2))
  memory = memory_of(planned, programs.abstract_state(planned), [program], [])
  parameters = by_hand(2, 8, 4)
  assert memory.encoders == 4 * 2 * (parameters + statistics(2))
  assert memory.optimizer == 4 * parameters + 4  # momentum, and its counter
  assert memory.queue == 4 * 32 * 4 + 4
  # All but the counter of steps.
  assert memory.state == sum(leaf.nbytes for leaf in jax.tree.leaves(state)) - 4
  assert tree_bytes(state) == memory.state + 4


def test_the_bank_is_images_times_features_times_four_bytes():
  planned = experiment()
  shapes = programs.abstract_state(planned)
  program = compiled(matrix(2, 2), matrix(2, 2))
  memory = memory_of(planned, shapes, [program], [program])
  assert memory.bank * planned.mesh.devices.size == IMAGES * 4 * 2 * 4
  assert memory_of(planned, shapes, [program], []).bank == 0


def test_the_peak_is_that_of_the_larger_program():
  planned = experiment()
  shapes, least = programs.abstract_state(planned), compiled(matrix(2, 2), matrix(2, 2))
  large = compiled(matrix(512, 1024), matrix(1024, 512))
  argument, temporary = 4 * 512 * 1024, 4 * 512 * 512
  by_step = memory_of(planned, shapes, [least, large], [])
  by_selection = memory_of(planned, shapes, [least], [large])
  assert by_step.activations == pytest.approx(temporary, rel=1e-2)
  assert by_step.peak == pytest.approx(3 * argument + temporary, rel=1e-2)
  # The state stays while there is a selection.
  assert by_selection.peak == by_step.peak + tree_bytes(shapes)


def test_the_programs_of_a_rule_are_those_that_it_needs():
  counts = {
    rule: len(programs.lower_selection(experiment(selection__rule=rule)))
    for rule in ("none", "knn", "cluster", "center_wise")
  }
  assert counts == {"none": 0, "knn": 1, "cluster": 1, "center_wise": 2}
