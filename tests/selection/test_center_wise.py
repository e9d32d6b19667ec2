import numpy as np
import pytest
from sklearn.neighbors import NearestNeighbors

from clim_jax.selection import center_wise_positives

SIZES = {"num_neighbours": 7, "num_centers": 5}


def _embeddings(rows=90, dim=6):
  return np.random.default_rng(0).normal(size=(rows, dim)).astype(np.float32) * 3


def test_ids_are_the_nearest_by_cosine_and_the_mask_keeps_some():
  x = _embeddings()
  ids, mask, statistics = center_wise_positives(x, **SIZES)
  search = NearestNeighbors(n_neighbors=8, metric="cosine", algorithm="brute").fit(x)
  np.testing.assert_array_equal(ids, search.kneighbors(x)[1][:, 1:])
  assert ids.dtype == np.int32
  assert mask.dtype == bool
  assert mask.shape == ids.shape == (90, 7)
  assert statistics["mean_positives"] == pytest.approx(mask.sum(axis=1).mean())


def test_no_two_images_are_positives_of_each_other():
  # Nearer to the center than the other cannot hold both ways.
  ids, mask, _ = center_wise_positives(_embeddings(), **SIZES)
  pairs = {(i, j) for i in range(90) for j in ids[i][mask[i]]}
  assert pairs
  assert all((j, i) not in pairs for i, j in pairs)


def test_the_scale_and_the_float_type_of_embeddings_do_not_matter():
  x = _embeddings()
  one, other = (
    center_wise_positives(e, **SIZES) for e in (x, x.astype(np.float64) * 1e30)
  )
  np.testing.assert_array_equal(one.ids, other.ids)
  np.testing.assert_array_equal(one.mask, other.mask)


def test_probing_reports_its_recall():
  _, _, statistics = center_wise_positives(_embeddings(), **SIZES, probes=5)
  assert statistics["neighbours_recall"] == 1
  assert statistics["positives_recall"] == statistics["positives_exact"] == 1


def test_labels_are_only_looked_at():
  labels = np.arange(90) % 2
  plain = center_wise_positives(_embeddings(), **SIZES)
  labelled = center_wise_positives(_embeddings(), **SIZES, labels=labels)
  np.testing.assert_array_equal(plain.mask, labelled.mask)
  same = labels[labelled.ids] == labels[:, None]
  assert labelled.statistics["knn_precision"] == pytest.approx(same.mean())


@pytest.mark.parametrize("copies", [90, 45])
def test_copies_are_neighbours_in_the_order_of_their_ids_but_not_positives(copies):
  x = np.repeat(_embeddings(90 // copies), copies, axis=0)
  ids, mask, _ = center_wise_positives(x, **SIZES)
  for row in range(90):
    first = row // copies * copies
    others = [i for i in range(first, first + copies) if i != row]
    np.testing.assert_array_equal(ids[row], others[:7])
  assert not mask.any()


def _with(row, value):
  x = _embeddings()
  x[row] = value
  return x


@pytest.mark.parametrize(
  ("embeddings", "change", "message"),
  [
    (_with(17, np.nan), {}, "1 of 90 embeddings are not finite, first row 17"),
    (_with([4, 60], np.inf), {}, "2 of 90 embeddings are not finite, first row 4"),
    (_with(33, 0), {}, "1 of 90 embeddings are zero, first row 33"),
    (_embeddings().astype(int), {}, "floats of shape"),
    (_embeddings()[0], {}, r"floats of shape .* not float32 of shape \(6,\)"),
    (_embeddings(), {"num_centers": 91}, "num_centers 91 .* at most the 90"),
    (_embeddings(), {"num_centers": 0}, "num_centers 0 must be at least 1"),
    (_embeddings(), {"num_neighbours": 90}, "num_neighbours 90 .* less than the 90"),
    (_embeddings()[:1], {"num_centers": 1}, "num_neighbours 7 .* less than the 1 "),
    (_embeddings()[:0], {}, "less than the 0"),
    (_embeddings(), {"rule": "cluster"}, "rule 'cluster' must be one of knn,"),
    (_embeddings(), {"rule": "knn", "probes": 2}, "probes 2 .* rule 'knn'"),
    (_embeddings(), {"probes": -1}, "probes -1 must not be negative"),
  ],
)
def test_what_cannot_be_selected_from_is_refused_by_name(embeddings, change, message):
  with pytest.raises(ValueError, match=message):
    center_wise_positives(embeddings, **SIZES | change)


def test_as_many_centers_as_images_and_one_neighbour_work():
  ids, mask, _ = center_wise_positives(_embeddings(), num_neighbours=1, num_centers=90)
  assert ids.shape == (90, 1)
  assert not mask.any()  # nobody shares a cluster
