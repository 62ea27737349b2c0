"""The parts of a FLARE job in which FLARE averages what our sites train.

`SiteTrainer` is the executor of a site: it hands FLARE's weights to the site's process,
which trains them on its data, and gives the difference and the number of examples
back. `WeightsFile` is the server's persistor: a model as a list of arrays in one file.
"""

import json
import os

import numpy as np
import tfl_training
from nvflare.apis.dxo import DXO, DataKind, MetaKey, from_shareable
from nvflare.apis.executor import Executor
from nvflare.apis.fl_constant import ReturnCode
from nvflare.apis.shareable import make_reply
from nvflare.app_common.abstract.model import ModelLearnableKey, make_model_learnable
from nvflare.app_common.abstract.model_persistor import ModelPersistor
from nvflare.app_common.app_constant import AppConstants
from nvflare.app_common.app_event_type import AppEventType


class SiteTrainer(Executor):
    """Trains at a site when FLARE's workflow asks for it.

    Args:
      sockets: the training sockets by site; for `nvflare simulator`, where all sites
        are on one machine. Without it, `local/tfl_relay.json` says where the socket is.
    """

    def __init__(self, sockets=None):
        super().__init__()
        self._sockets = sockets

    def execute(self, task_name, shareable, fl_ctx, abort_signal):
        """Trains the weights of a task `train`."""
        if task_name != AppConstants.TASK_TRAIN:
            return make_reply(ReturnCode.TASK_UNKNOWN)
        weights = from_shareable(shareable).data
        names = sorted(weights)
        # FLARE counts rounds from 0.
        number = int(shareable.get_header(AppConstants.CURRENT_ROUND)) + 1
        before = [np.asarray(weights[name]) for name in names]
        try:
            trained, header = tfl_training.ask(
                self._socket(fl_ctx), "train", before, round=number
            )
        except RuntimeError as error:
            self.log_error(fl_ctx, str(error))
            return make_reply(ReturnCode.EXECUTION_EXCEPTION)
        difference = {name: new - old for name, new, old in zip(names, trained, before)}
        meta = {
            MetaKey.NUM_STEPS_CURRENT_ROUND: header["examples"],
            # Of the model as it came: the selector compares models by it.
            MetaKey.INITIAL_METRICS: header["metrics"],
        }
        return DXO(DataKind.WEIGHT_DIFF, difference, meta).to_shareable()

    def _socket(self, fl_ctx):
        if self._sockets is not None:
            return self._sockets[fl_ctx.get_identity_name()]
        workspace = fl_ctx.get_engine().get_workspace()
        path = workspace.get_file_path_in_site_config("tfl_relay.json")
        with open(path, encoding="utf-8") as file:
            return json.load(file)["training_socket"]


class WeightsFile(ModelPersistor):
    """Reads the first model from the job and writes each later one.

    The job holds `config/weights.npz`; the results hold `models/weights.npz`, and
    `models/best_weights.npz` when the selector has found a best model.
    """

    def load_model(self, fl_ctx):
        """The first model."""
        workspace = fl_ctx.get_workspace()
        folder = workspace.get_app_config_dir(fl_ctx.get_job_id())
        arrays = tfl_training.load(os.path.join(folder, "weights.npz"))
        return make_model_learnable(tfl_training.named(arrays), {})

    def handle_event(self, event_type, fl_ctx):
        """Writes the best model when the selector has found one."""
        super().handle_event(event_type, fl_ctx)
        if event_type == AppEventType.GLOBAL_BEST_MODEL_AVAILABLE:
            best = fl_ctx.get_prop(AppConstants.GLOBAL_MODEL)
            self._write("best_weights.npz", best, fl_ctx)

    def save_model(self, ml, fl_ctx):
        """Writes the model of a round."""
        self._write("weights.npz", ml, fl_ctx)

    def _write(self, name, model, fl_ctx):
        root = fl_ctx.get_workspace().get_result_root(fl_ctx.get_job_id())
        folder = os.path.join(root, "models")
        os.makedirs(folder, exist_ok=True)
        np.savez(os.path.join(folder, name), **model[ModelLearnableKey.WEIGHTS])
