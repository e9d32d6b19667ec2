"""Runs that do not learn are told from those that do, by recorded curves."""

import json
import math

import numpy as np
import pytest
from small_run import ROOT

from clim_jax.experiment import configuration
from clim_jax.pretrain.learning import Learning, chance_loss, findings_of, symptoms

RUN = {"epochs": 40, "batch_size": 64, "queue_size": 1024, "temperature": 0.1}
STEPS = 1000


def records(loss, accuracy, *, spread=0.8, until=STEPS, warmup=100):
  """Curves through (share of the run, value) points, logged every 20 steps."""
  out = []
  for step in range(20, until + 1, 20):
    share = step / STEPS
    rate = min(step / warmup, 0.5 * (1 + math.cos(math.pi * share)))
    out.append(
      {
        "step": step,
        "epoch": 40 * share,
        "learning_rate": 0.12 * rate,
        "loss": 9.0,  # a mixed part that is high says nothing
        "plain_loss": float(np.interp(share, *zip(*loss, strict=True))),
        "contrast_accuracy": float(np.interp(share, *zip(*accuracy, strict=True))),
        "embedding_spread": spread,
      }
    )
  return out


# 40 epochs of 1,649 photographs with rate 0.12 and temperature 0.1: the features ended
# below raw pixels.
PHOTOGRAPHS = [(0.02, 6.2), (0.1, 5.1), (0.3, 5.9), (1.0, 6.6)], [(0.1, 0.6), (1, 0.03)]
LEARNS = [(0.02, 6.2), (0.1, 4.7), (1.0, 3.9)], [(0.1, 0.2), (1, 0.4)]
# Rate 0.03 and temperature 0.2 on the same photographs ended above chance.
NOTHING = [(0.02, 6.9), (1.0, 6.942)], [(0, 0.004), (1, 0.004)]


def test_a_loss_that_rises_while_the_rate_falls_is_told_before_the_end():
  assert not symptoms(records(*PHOTOGRAPHS, until=200), **RUN)
  assert set(symptoms(records(*PHOTOGRAPHS, until=400), **RUN)) == {
    "rising",
    "few_steps",
  }
  found = symptoms(records(*PHOTOGRAPHS), **RUN)
  assert set(found) == {"rising", "near_chance", "few_steps"}
  assert "fell to 5.1" in found["rising"]
  assert "optimizer.learning_rate" in found["rising"]
  assert "1000 steps" in found["few_steps"]


def test_a_loss_that_rises_with_the_rate_may_fall_with_it_again():
  curve = records(*PHOTOGRAPHS, until=400, warmup=2000)
  assert not symptoms(curve, **RUN)


def test_a_run_that_learns_is_left_in_peace_at_every_step():
  curve = records(*LEARNS)
  assert not any(symptoms(curve[:n], **RUN) for n in range(len(curve) + 1))


def test_a_loss_above_chance_is_told_with_what_guessing_would_reach():
  found = symptoms(records(*NOTHING), **RUN | {"temperature": 0.2})
  assert set(found) == {"near_chance", "few_steps"}
  assert "6.94 (chance 6.93)" in found["near_chance"]
  assert "0.4% of images are told from the 1024" in found["near_chance"]
  assert "guessing 0.1%" in found["near_chance"]


def test_a_high_temperature_alone_is_no_symptom():
  # Cosines of 1 and 0 at a temperature of 1 give a loss no more than 1 below chance.
  loss = chance_loss(1024) - 0.2
  curve = records([(0, loss), (1, loss)], [(0, 0.5), (1, 0.5)])
  assert not symptoms(curve, **RUN | {"temperature": 1.0})


def test_collapsed_embeddings_are_told():
  assert set(symptoms(records(*LEARNS, spread=0.05), **RUN)) >= {"collapsed"}


def test_while_the_queue_fills_a_rising_loss_is_as_it_must_be():
  fills = [(0.0, 0.1), (0.06, 6.0), (1.0, 4.0)], LEARNS[1]
  assert not symptoms(records(*fills), **RUN)
  late = symptoms(records(*fills), **RUN | {"queue_size": 16})
  assert "rising" in late  # a queue of a few steps is filled by then


@pytest.fixture
def config():
  config = configuration.load(str(ROOT / "configs" / "digits.py"))
  return config


def test_each_finding_is_told_once_also_after_resuming(config):
  curve, told = records(*PHOTOGRAPHS), []
  watch = Learning(config, [])
  for record in curve[:30]:
    told += watch.add(record)
  assert ["risen" in text for text in told] == [True, False]
  resumed = Learning(config, curve[:30])
  later = [text for record in curve[30:] for text in resumed.add(record)]
  assert ["hardly anything" in text for text in later] == [True]


def test_findings_are_read_from_the_log_of_a_run(config, tmp_path):
  assert findings_of(tmp_path, config) == []
  lines = [json.dumps(record) + "\n" for record in records(*PHOTOGRAPHS)]
  (tmp_path / "metrics.jsonl").write_text("".join(lines))
  assert len(findings_of(tmp_path, config)) == 3
