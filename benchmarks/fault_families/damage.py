"""What lies in a run's folder is damaged, each file in each way; then the run goes on.

It may refuse in one sentence, or come to the very end of the run that nothing happened
to. Where something is gone that nothing brings back, it must say so.
"""

import contextlib
import io
import pathlib
import shutil
from collections.abc import Iterator

from etils import epath

from benchmarks.fault_families import session
from benchmarks.fault_families.family import Family
from benchmarks.fault_families.harm import HARMS, Harm
from clim_jax import launch
from clim_jax.command_line.parse import parse
from clim_jax.experiment.error import ConfigError

_EPOCHS, _PER_EPOCH = 3, 11


def damage(family: Family) -> None:
  """Reports a trial for each kind of damage."""
  whole = family.scratch / "whole"
  usual = _run(whole)
  stopped = family.scratch / "stopped"  # at step 22, as a crash leaves a run
  shutil.copytree(whole, stopped)
  shutil.rmtree(stopped / "checkpoints" / str(_EPOCHS * _PER_EPOCH))
  (stopped / "evaluation.json").unlink()
  for harm in HARMS[:: family.sized(1, 8)]:
    workdir = family.scratch / "harmed"
    shutil.copytree(stopped, workdir)
    harm.do(workdir)
    kept = _checkpoints(workdir)
    _judge(family, harm, workdir, whole, kept, usual)
    shutil.rmtree(workdir)


def _judge(
  family: Family,
  harm: Harm,
  workdir: pathlib.Path,
  whole: pathlib.Path,
  kept: set[str],
  usual: str,
) -> None:
  """Lets the run go on and reports how."""
  try:
    text = _run(workdir)
  except (ConfigError, OSError, FloatingPointError) as error:  # told as a sentence
    told = str(error)
    gone = kept - _checkpoints(workdir)
    lost = f"refused, and checkpoints {sorted(gone)} are gone" if gone else ""
    if harm.harmless:
      lost = "refused, and the run did not need it"
    family.report(harm.name, lost, refused=told[:300])
    return
  except Exception as error:
    family.report(harm.name, f"{type(error).__name__}: {str(error)[:300]}")
    return
  lines = set(text.splitlines()) - set(usual.splitlines())
  told = [line for line in lines if line.startswith(("warning", "changed"))]
  lost = "" if told or harm.harmless else "went on without a word"
  if not harm.harmless and harm.loses_lines:
    differ = _same_end(workdir, whole)
  else:
    differ = session.differences(workdir, whole)
  family.report(harm.name, lost or differ, said=[line[:300] for line in told][:3])


def _same_end(workdir: pathlib.Path, whole: pathlib.Path) -> str:
  """What differs, lines and events aside."""
  found = session.differences(workdir, whole)
  return "; ".join(
    part for part in found.split("; ") if not part.startswith(("lines", "events"))
  )


def _checkpoints(workdir: pathlib.Path) -> set[str]:
  return {path.name for path in (workdir / "checkpoints").glob("*")}


def _run(workdir: pathlib.Path) -> str:
  """A session of the run in this process; returns what it said."""
  command = parse(session.arguments(workdir, epochs=_EPOCHS, checkpoint__keep=10))
  with _said() as said:
    launch.run(command.config, command.mode, epath.Path(workdir))
  return said.getvalue()


@contextlib.contextmanager
def _said() -> Iterator[io.StringIO]:
  out = io.StringIO()
  with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
    yield out
