"""Where k-means starts: rows of a sample, spread out by their distances."""

import jax
import jax.numpy as jnp
from jax import lax

from clim_jax.sharding import AXIS, row_offset

_SAMPLE = 8  # rows of the sample for every center,
_SAMPLE_LIMITS = 2**12, 2**17  # within these
_ROUNDS = 128  # at least, as far as there are as many centers
_EACH = 64  # seeds of a round, at most
_TRIALS = 5  # candidates for every seed


def gather_rows(bank: jax.Array, rows: jax.Array) -> jax.Array:
  """Global rows [K] of the sharded bank, on every replica, [K, D]."""
  local = rows - row_offset(bank.shape[0])
  here = (local >= 0) & (local < bank.shape[0])
  found = bank[jnp.clip(local, 0, bank.shape[0] - 1)]
  return lax.psum(jnp.where(here[:, None], found, 0.0), AXIS)


def seed_centers(
  rng: jax.Array, bank: jax.Array, *, num_images: int, num_centers: int
) -> jax.Array:
  """Distinct rows of the bank, far from one another; mapped over the axis "data".

  k-means++ draws one seed at a time, in proportion to the squared distance from the
  seeds before it, and takes the best of a few draws. Here a round takes the best few
  of many, as k-means‖ draws many, without replacement and from a sample of the rows.
  Every replica computes the same from the same sample.

  Args:
    rng: PRNG key, the same on every replica.
    bank: this replica's rows, unit-norm, [N_pad / devices, D] float32.
    num_images: N; global rows from N on are padding.
    num_centers: C ≤ N.

  Returns:
    Unit-norm centers, replicated, [C, D] float32.

  References: Arthur & Vassilvitskii 2007, "k-means++"; Bahmani et al. 2012,
  "Scalable k-means++".
  """
  # Split twice: the seeds stay those of every figure measured so far.
  sample_rng, draw_rng = jax.random.split(jax.random.split(rng)[0])
  least, most = _SAMPLE_LIMITS
  wanted = max(num_centers, least, min(_SAMPLE * num_centers, most))
  size = min(num_images, wanted)
  sample = gather_rows(bank, _stratified(sample_rng, num_images, size))
  each = min(-(-num_centers // _ROUNDS), _EACH)
  rounds = -(-num_centers // each)

  def draw(number: jax.Array, carry: tuple) -> tuple:
    seeds, closeness = carry
    distance = jnp.maximum(2 - 2 * closeness, 0)  # 0 for a seed and its copies
    noise = jax.random.gumbel(jax.random.fold_in(draw_rng, number), (size,))
    # The largest of log-weight + Gumbel noise are a draw without replacement. Rows
    # at distance 0 come last, seeds already taken after them.
    score = jnp.where(distance > 1e-6, jnp.log(distance) + noise, noise - 1e6)
    score = jnp.where(closeness == jnp.inf, -jnp.inf, score)
    _, drawn = lax.top_k(score, min(_TRIALS * each, size))
    similarity = jnp.dot(sample, sample[drawn].T, precision=lax.Precision.HIGHEST)
    after = jnp.maximum(jnp.minimum(closeness, 1.0)[:, None], similarity)
    _, best = lax.top_k(after.sum(axis=0), each)
    closeness = jnp.maximum(closeness, similarity[:, best].max(axis=1))
    closeness = closeness.at[drawn[best]].set(jnp.inf)
    return lax.dynamic_update_slice(seeds, drawn[best], (number * each,)), closeness

  first = (jnp.zeros(rounds * each, jnp.int32), jnp.full(size, -1.0))
  seeds, _ = lax.fori_loop(0, rounds, draw, first)
  return sample[seeds[:num_centers]]


def _stratified(rng: jax.Array, num_images: int, size: int) -> jax.Array:
  """A random id of each of `size` equal runs of ids, in no more memory, [size] int32.

  A permutation of all ids would be uniform too, but each device would sort them all.
  """
  width, wider = divmod(num_images, size)  # the first runs are longer by one
  run = jnp.arange(size)
  begin = run * width + jnp.minimum(run, wider)
  return begin + jax.random.randint(rng, (size,), 0, width + (run < wider))
