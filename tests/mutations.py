"""Faults put into the package one at a time: a test must fail for each.

python tests/mutations.py            # all, about half an hour on two cores
python tests/mutations.py losses kmeans   # those of files with such a path

Prints a line a fault, "caught" or "ESCAPED", and ends with an error if one escaped.
"""

import multiprocessing
import os
import pathlib
import shutil
import sys
import tempfile
from typing import NamedTuple

import kept_programs
import pytest

ROOT = pathlib.Path(__file__).parent.parent
_COPIED = ("benchmarks", "clim_jax", "configs", "tests", "main.py", "pyproject.toml")


class Mutation(NamedTuple):
  path: str  # below clim_jax
  old: str  # stands there once
  new: str
  tests: str  # of which one should fail: "file.py" or "file.py::test", below tests


_STEP = "method/test_step.py::"
MUTATIONS = (
  # method: the paper
  Mutation(
    "method/losses.py",
    "softplus(log_sum - positive)",
    "softplus(positive - log_sum)",
    "method/test_losses.py::test_info_nce_of_a_case_done_by_hand",
  ),
  Mutation(
    "method/losses.py",
    "precision=lax.Precision.HIGHEST) / temperature",
    "precision=lax.Precision.HIGHEST)",
    "method/test_losses.py::test_info_nce_is_the_formula",
  ),
  Mutation(
    "method/losses.py",
    "(1.0 - mixed_weight) * plain + mixed_weight * mixed",
    "mixed_weight * plain + (1.0 - mixed_weight) * mixed",
    f"{_STEP}test_mixed_only_weight_leaves_the_plain_term_out",
  ),
  Mutation(
    "method/losses.py",
    "(1.0 - ratio) * to_positive",
    "ratio * to_positive",
    "method/test_losses.py::test_the_mixed_loss_is_the_weighted_sum",
  ),
  Mutation(
    "method/mixture.py",
    "side * jnp.sqrt(1.0 - draw_ratio(box_rng, alpha=alpha))",
    "side * (1.0 - draw_ratio(box_rng, alpha=alpha))",
    "method/test_mixture.py::test_mean_cutmix_ratio_is_what_clipping_leaves",
  ),
  Mutation(
    "method/mixture.py",
    "start = jnp.clip(jnp.round(center - extent / 2), 0, side)",
    "start = jnp.clip(jnp.round(center - extent / 2), 0, side - 1)",
    "method/test_mixture.py",
  ),
  Mutation(
    "method/mixture.py",
    "return mixed, 1.0 - jnp.mean(inside.astype(jnp.float32))",
    "return mixed, 1.0 - (extent / side) ** 2",
    "method/test_mixture.py::test_cutmix_ratio_is_the_counted_share_of_the_anchor",
  ),
  Mutation(
    "method/mixture.py",
    "special.betaincinv(alpha, alpha, shares)",
    "special.betaincinv(alpha, 1.0, shares)",
    "method/test_mixture.py",
  ),
  Mutation(
    "method/key_queue.py",
    "(queue.position + keys.shape[0]) % size",
    "(queue.position + keys.shape[0] - 1) % size",
    "method/test_key_queue.py",
  ),
  Mutation(
    "method/state.py",
    "momentum * a + (1.0 - momentum) * n",
    "momentum * n + (1.0 - momentum) * a",
    f"{_STEP}test_key_encoder_is_the_moving_average_before_the_step",
  ),
  Mutation(
    "method/step.py",
    "query_params=optax.apply_updates(state.query_params, updates)",
    "query_params=optax.apply_updates(key_params, updates)",
    f"{_STEP}test_key_encoder_is_the_moving_average_before_the_step",
  ),
  Mutation(
    "method/step.py",
    "gather(keys.reshape(-1, keys.shape[-1]))[role.key_row]",
    "gather(keys.reshape(-1, keys.shape[-1]))[: len(role.key_row)]",
    f"{_STEP}test_plain_step_is_moco_v2_written_out",
  ),
  Mutation(
    "method/objective.py",
    "new_stats = updated if side == 0 else new_stats",
    "new_stats = updated",
    f"{_STEP}test_running_statistics_are_those_of_whole_crops_at_the_largest_side",
  ),
  Mutation(
    "method/optim.py",
    "decay_all or p.ndim > 1",
    "decay_all or p.ndim == 1",
    "method/test_optim.py",
  ),
  Mutation(
    "method/optim.py",
    "optax.cosine_decay_schedule(peak, max(total_steps - warmup_steps, 1))",
    "optax.cosine_decay_schedule(peak, total_steps)",
    "method/test_optim.py::test_the_rate_rises_in_a_line_and_falls_as_half_a_cosine",
  ),
  Mutation(
    "method/optim.py",
    "optax.cosine_decay_schedule(1.0 - momentum, total_steps)",
    "optax.cosine_decay_schedule(momentum, total_steps)",
    "method/test_optim.py::test_the_momentum_stays_or_rises_to_one",
  ),
  # selection: bank, clusters, neighbours, positives
  Mutation(
    "selection/positives.py",
    "all_closeness[neighbours] > closeness[:, None]",
    "all_closeness[neighbours] >= closeness[:, None]",
    "selection/test_positives.py::test_equally_near_neighbours_are_not_nearer",
  ),
  Mutation(
    "selection/positives.py",
    "all_assignment[neighbours] == assignment[:, None]",
    "all_assignment[neighbours] >= assignment[:, None]",
    "selection/test_positives.py::test_a_refresh_selects_what_a_double_loop_over_the_conditions_selects",
  ),
  Mutation(
    "selection/positives.py",
    "np.floor(uniforms * count)",
    "np.floor(uniforms * (count - 1))",
    "selection/test_positives.py::test_draws_are_uniform",
  ),
  Mutation(
    "selection/kmeans.py",
    "unit_norm(sums),",
    "sums,",
    "selection/test_kmeans.py::test_iterations_from_the_seeds_are_those_of_numpy",
  ),
  Mutation(
    "selection/kmeans.py",
    "members = jnp.where(exist, assignment, num_centers)",
    "members = assignment",
    "selection/test_kmeans.py::test_padding_has_no_influence",
  ),
  Mutation(
    "selection/kmeans.py",
    "distance, rows = lax.top_k(-closeness, local)",
    "distance, rows = lax.top_k(closeness, local)",
    "selection/test_kmeans.py::test_empty_clusters_move_onto_the_furthest_images",
  ),
  Mutation(
    "selection/search/best.py",
    "(similarity == least) & (ids < last)",
    "(similarity == least) & (ids > last)",
    "selection/search/test_best.py",
  ),
  Mutation(
    "selection/bank.py",
    "(turn * self._block, 0)",
    "(0, 0)",
    "selection/test_bank.py::test_row_i_is_image_i",
  ),
  Mutation(
    "selection/figures.py",
    "1 / (together.sum(axis=1) + 1)",
    "1 / (together.sum(axis=1) + 2)",
    "selection/test_figures.py",
  ),
  # data: crops and the order of images
  Mutation(
    "data/crops.py",
    "tries_w, tries_h = np.round(np.sqrt(area * ratio))",
    "tries_h, tries_w = np.round(np.sqrt(area * ratio))",
    "data/test_crops.py::test_the_first_try_that_fits_is_taken",
  ),
  Mutation(
    "data/crops.py",
    "area = height * width * (low + (high - low) * uniforms[..., :TRIES])",
    "area = height * width * high * uniforms[..., :TRIES]",
    "data/test_crops.py::test_the_area_is_uniform_over_its_range",
  ),
  Mutation(
    "data/crops.py",
    "top = np.floor(uniforms[..., -2:-1] * (height - crop_h + 1))",
    "top = np.floor(uniforms[..., -2:-1] * (height + 1))",
    "data/test_crops.py::test_boxes_lie_inside_with_area_and_ratio_in_range",
  ),
  Mutation(
    "data/crops.py",
    "box = (height - extent) // 2, (width - extent) // 2, extent, extent",
    "box = 0, 0, extent, extent",
    "data/test_crops.py::test_center_crop_is_the_central_square",
  ),
  Mutation(
    "data/boxes.py",
    "places = tf.where(fits, tf.range(TRIES), TRIES - 1)",
    "places = tf.where(fits, tf.range(TRIES) * 0, TRIES - 1)",
    "data/test_crops.py::test_tensorflow_has_the_same_boxes",
  ),
  Mutation(
    "data/array_crops.py",
    "jnp.maximum(step, 1.0), 0.0)",
    "1.0, 0.0)",
    "data/test_batches.py::test_crops_are_those_of_pil_within_a_level",
  ),
  Mutation(
    "data/array_crops.py",
    "rows.ids[:, cuts[slot].image]",
    "rows.ids[:, 0]",
    "data/test_batches.py::test_batches_are_those_of_tf_data",
  ),
  Mutation(
    "data/index_stream.py",
    'return _rng(seed, "order", epoch).permutation',
    'return _rng(seed, "order", 0).permutation',
    "data/test_index_stream.py",
  ),
  Mutation(
    "data/index_stream.py",
    'draw_rng = _rng(self.seed, "positives", step)',
    'draw_rng = _rng(self.seed, "positives", 0)',
    "data/test_index_stream.py",
  ),
  Mutation(
    "data/labelled.py",
    "labels[with_stand_ins(source, ids)]",
    "labels[ids]",
    "evaluate/test_evaluations.py::test_images_seen_in_place_of_bad_ones_have_their_own_labels",
  ),
  Mutation(
    "data/split.py",
    "stratify=labels if by_class else None",
    "stratify=None",
    "data/test_split.py",
  ),
  # augment
  Mutation(
    "augment/photometric.py",
    "_LUMA = (0.299, 0.587, 0.114)",
    "_LUMA = (0.333, 0.333, 0.334)",
    "augment/test_photometric.py::test_grayscale_equals_pil",
  ),
  Mutation(
    "augment/photometric.py",
    "jnp.where(image >= threshold",
    "jnp.where(image > threshold",
    "augment/test_photometric.py::test_solarize_inverts_the_threshold_itself",
  ),
  Mutation(
    "augment/policy.py",
    "minval=-policy.hue, maxval=policy.hue",
    "minval=0.0, maxval=policy.hue",
    "augment/test_policy.py::test_strengths_are_uniform_around_the_identity",
  ),
  # models
  Mutation(
    "models/norm.py",
    "keep * running_mean.value + (1 - keep) * mean",
    "(1 - keep) * running_mean.value + keep * mean",
    "models/test_norm.py::test_one_group_is_flax_batch_normalisation",
  ),
  Mutation(
    "models/norm.py",
    "slope = -factor * inverse * to_scale / rows",
    "slope = factor * inverse * to_scale / rows",
    "models/test_norm.py::test_gradients_are_those_of_flax",
  ),
  Mutation(
    "models/encoder.py",
    "images = (images - mean[None, None, None]) / std[None, None, None]",
    "images = (images - mean[None, None, None]) * std[None, None, None]",
    "models/test_encoder.py::test_pixels_are_normalised_within",
  ),
  Mutation(
    "models/resnet.py",
    "stride = 2 if stage > 0 and index == 0 else 1",
    "stride = 2 if index == 0 else 1",
    "models/test_resnet.py::test_every_stage_halves_the_map_as_published",
  ),
  Mutation(
    "models/pooling.py",
    "for pixel in reversed(range(_SIDE * _SIDE)):",
    "for pixel in range(_SIDE * _SIDE):",
    "models/test_pooling.py",
  ),
  # probes
  Mutation(
    "probes/knn.py",
    "np.exp(shifted / temperature)",
    "np.exp(shifted * temperature)",
    "probes/test_knn.py::test_matches_brute_force_at_any_block_size",
  ),
  Mutation(
    "probes/heads.py",
    "jnp.sum(head[:-1] ** 2)",
    "jnp.sum(head**2)",
    "probes/test_linear.py::test_lbfgs_agrees_with_scikit_learn",
  ),
  Mutation(
    "probes/heads.py",
    "jnp.sum((scores.argmax(axis=1) == labels) & finite)",
    "jnp.sum(scores.argmax(axis=1) == labels)",
    "probes/test_linear.py::test_a_diverged_head_is_right_nowhere",
  ),
  Mutation(
    "probes/linear_sgd.py",
    "gradients += decay * heads.weights",
    "gradients -= decay * heads.weights",
    "probes/test_linear_sgd.py::test_every_head_follows_its_rate_and_decay",
  ),
  # weights
  Mutation(
    "weights/layout.py",
    "_TO_OIHW, _TO_HWIO = (3, 2, 0, 1), (2, 3, 1, 0)",
    "_TO_OIHW, _TO_HWIO = (3, 2, 1, 0), (3, 2, 1, 0)",
    "weights/test_layout.py::test_a_kernel_is_transposed_to_pytorchs_order",
  ),
  Mutation(
    "weights/layout.py",
    "np.array(kernel.T, order",
    "np.array(kernel, order",
    "weights/test_layout.py::test_the_projection_there_and_back_is_bit_exact",
  ),
  # experiment
  Mutation(
    "experiment/experiment.py",
    "peak=config.learning_rate * self.config.batch_size / 256",
    "peak=config.learning_rate",
    "experiment/test_experiment.py::test_the_rate_is_scaled_with_the_batch_and_warmed_up_in_epochs",
  ),
  Mutation(
    "experiment/experiment.py",
    "decay_all=config.decay_all",
    "decay_all=True",
    "experiment/test_experiment.py::test_the_optimizer_has_the_values_of_the_config",
  ),
  Mutation(
    "experiment/experiment.py",
    "self.config.moco.momentum_schedule,",
    '"constant",',
    "experiment/test_experiment.py::test_the_key_momentum_is_that_of_the_config",
  ),
  Mutation(
    "experiment/configuration.py",
    "if saved.get(key) != given.get(key)",
    "if key not in saved",
    "experiment/test_configuration.py::test_what_may_not_change_is_refused_with_both_values",
  ),
  Mutation(
    "experiment/cores.py",
    "_WIDEST = 256",
    "_WIDEST = 4096",
    "experiment/test_cores.py::test_large_networks_have_one_device",
  ),
  Mutation(
    "experiment/checkpoints.py",
    'state[f"{role}_params"], "batch_stats"',
    'state["query_params"], "batch_stats"',
    "experiment/test_checkpoints.py",
  ),
  # evaluate, pretrain
  Mutation(
    "pretrain/gallery.py",
    "record.kept[drawn, :columns",
    "record.kept[: len(drawn), :columns",
    "pretrain/test_gallery.py",
  ),
  Mutation(
    "evaluate/embedding_atlas.py",
    "unit = normalise(features.copy())",
    "unit = features",
    "evaluate/test_embedding_atlas.py",
  ),
  Mutation(
    "evaluate/embed.py",
    "mesh, source, good, files, evaluation_crop",
    "mesh, source, good[::-1], files, evaluation_crop",
    "test_exchange.py::test_an_embedding_for_embedding_atlas_has_a_map_and_thumbnails_besides",
  ),
  Mutation(
    "evaluate/embed.py",
    "features, projections = np.split(rows[good], [width], axis=1)",
    "features, projections = np.split(rows[good[::-1]], [width], axis=1)",
    "test_exchange.py::test_embedding_gives_features_projections_and_names",
  ),
  Mutation(
    "evaluate/features.py",
    "np.minimum(ids, source.num_images - 1)",
    "np.minimum(ids[::-1], source.num_images - 1)",
    "test_exchange.py::test_embedding_gives_features_projections_and_names",
  ),
  Mutation(
    "pretrain/logs.py",
    'record["step"] <= resume_step',
    'record["step"] < resume_step',
    "pretrain/test_runs.py::test_a_run_that_died_goes_on_as_one_that_did_not",
  ),
  Mutation(
    "pretrain/destinations/sender.py",
    "after = last_step if session.run_id else 0",
    "after = 0",
    "pretrain/destinations/test_sender.py",
  ),
  Mutation(
    "pretrain/destinations/sender.py",
    "if first_step else {}",
    "if True else {}",
    "pretrain/destinations/test_sender.py",
  ),
  Mutation(
    "experiment/experiment.py",
    "since_warmup % config.refresh_epochs == 0",
    "since_warmup % config.refresh_epochs <= 1",
    "pretrain/test_runs.py::test_a_run_that_died_goes_on_as_one_that_did_not",
  ),
  # the ground floor
  Mutation(
    "sharding.py",
    'lax.pcast(leaf, AXIS, to="varying")',
    "leaf",
    f"{_STEP}test_eight_devices_step_as_one_does",
  ),
  Mutation(
    "rng.py",
    "jax.random.fold_in(rng, row)",
    "jax.random.fold_in(rng, 0 * row)",
    "test_rng.py",
  ),
  # report: what a person looks at
  Mutation(
    "report/card.py",
    "return key not in _UNSAID and",
    "return",
    "report/test_card.py::test_where_a_persons_files_lie_is_not_published",
  ),
  Mutation(
    "report/card.py",
    'for name in ("step", "encoder")',
    'for name in ("step",)',
    "report/test_card.py::test_figures_of_other_weights_are_left_out",
  ),
  Mutation(
    "report/seen.py",
    "(drawn, len(plan.crops) + 1)",
    "(drawn, len(plan.crops))",
    "report/test_seen.py::test_the_mixed_images_are_those_of_the_step",
  ),
  Mutation(
    "report/seen.py",
    'augment(rngs("positive0"), positives, policy)',
    'augment(rngs("query0"), positives, policy)',
    "report/test_seen.py::test_the_mixed_images_are_those_of_the_step",
  ),
  Mutation(
    "report/likeness.py",
    "cosines[rows[:, None] == trained[None]] = -2.0",
    "cosines[rows[:, None] == trained[None]] = 2.0",
    "report/test_likeness.py::test_neighbours_are_the_nearest_other_training_images",
  ),
  Mutation(
    "report/gallery.py",
    'nearer = "nearer to" if theirs > own else "no nearer to"',
    'nearer = "nearer to" if theirs < own else "no nearer to"',
    "report/test_gallery.py::test_reasons_are_those_of_the_rule",
  ),
  Mutation(
    "report/curves.py",
    "refresh != before",
    "True",
    "report/test_curves.py::test_a_figure_of_a_selection_counts_once",
  ),
  Mutation(
    "report/plot.py",
    "box[3] - (box[3] - box[1]) * (value - low)",
    "box[1] + (box[3] - box[1]) * (value - low)",
    "report/test_plot.py::test_values_lie_where_the_axes_say",
  ),
)


# Every process begins with the libraries imported, and none with this package's code.
_PROCESSES = multiprocessing.get_context("forkserver")
_LIBRARIES = ["flax.linen", "optax", "orbax.checkpoint", "tensorflow"]
_LIBRARIES += ["jax.experimental.pallas", "sklearn.model_selection", "ml_collections"]
_ENVIRONMENT = {
  "JAX_PLATFORMS": "cpu",
  "JAX_COMPILATION_CACHE_DIR": kept_programs.folder(),
  "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
  "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
  "TF_CPP_MIN_LOG_LEVEL": "3",
}


def main() -> None:
  os.environ.update(_ENVIRONMENT | dict(os.environ))
  _PROCESSES.set_forkserver_preload(_LIBRARIES)
  words = sys.argv[1:]
  chosen = [m for m in MUTATIONS if not words or any(word in m.path for word in words)]
  with tempfile.TemporaryDirectory() as folder:
    copy = pathlib.Path(folder)
    for name in _COPIED:
      copy_of = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
      copy_of(ROOT / name, copy / name)
    tests = sorted({mutation.tests for mutation in chosen})
    assert _exit_code(copy, *tests) == 0, "tests fail before anything is changed"
    escaped = [mutation for mutation in chosen if not _is_caught(mutation, copy)]
  print(f"{len(chosen) - len(escaped)} of {len(chosen)} caught")
  sys.exit(bool(escaped))


def _is_caught(mutation: Mutation, copy: pathlib.Path) -> bool:
  path = copy / "clim_jax" / mutation.path
  source = path.read_text()
  assert source.count(mutation.old) == 1, f"stands not once: {mutation}"
  path.write_text(source.replace(mutation.old, mutation.new))
  caught = _exit_code(copy, mutation.tests) == 1
  path.write_text(source)
  print("caught " if caught else "ESCAPED", mutation.path, mutation.new, flush=True)
  return caught


def _exit_code(copy: pathlib.Path, *tests: str) -> int:
  """Of pytest, in a process of its own: 0 if all passed, 1 if one failed."""
  process = _PROCESSES.Process(target=_run, args=(copy / "tests", tests))
  process.start()
  process.join()
  return process.exitcode


def _run(folder: pathlib.Path, tests: tuple[str, ...]) -> None:
  os.chdir(folder)
  sys.dont_write_bytecode = True
  os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
  sys.exit(pytest.main(["-x", "-n", "0", "--tb=no", *tests]))


if __name__ == "__main__":
  main()
