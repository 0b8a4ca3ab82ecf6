"""Every step of the pipelines as a function of folders: what the components call, and anyone without kfp may.

Each takes the configuration as a plain dict and the folders of earlier steps, and returns a finished step that is
reused where nothing it depends on has changed. Imports are inside, so that a reused step costs no heavy import.
Here are the steps of training; `refresh`, `tuning`, `backfill` and `shards` hold those of the other pipelines.
"""

from lorefuse.steps.choice import choose
from lorefuse.steps.common import Config, Folder, dump_config
from lorefuse.steps.data import ingest, split
from lorefuse.steps.feature_store import features, materialize, training_set
from lorefuse.steps.knowledge import embed, item_vectors
from lorefuse.steps.leaks import membership
from lorefuse.steps.learning import evaluate, lists, report, tune
from lorefuse.steps.prepare import prepare
from lorefuse.steps.release import bundle, deploy, register, report_failure

__all__ = [
    "Config",
    "Folder",
    "bundle",
    "choose",
    "deploy",
    "dump_config",
    "embed",
    "evaluate",
    "features",
    "ingest",
    "item_vectors",
    "lists",
    "materialize",
    "membership",
    "prepare",
    "register",
    "report",
    "report_failure",
    "split",
    "training_set",
    "tune",
]
