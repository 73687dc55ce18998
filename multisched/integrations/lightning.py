"""An average of a Lightning module, which follows its training, is what is validated, and is in its checkpoints.

from multisched.integrations.lightning import AverageCallback

trainer = lightning.Trainer(callbacks=[AverageCallback(ms.ema(0.999))])
"""

import importlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from copy import deepcopy
from functools import cache
from typing import Any

from multisched.averages.mean import Mean
from multisched.errors import CheckpointMismatch, NotARule, SwapError, shown
from multisched.integrations.evaluation import Evaluation, average_for
from multisched.trees.saved_rule import ResumeRule, checked_resume_rule, resumed


def __getattr__(name: str) -> Any:
    """`AverageCallback`, which is made when it is first asked for, since Lightning is imported for it."""
    if name == "AverageCallback":
        return _callback_class()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


@cache
def _callback_class() -> Any:
    try:
        pytorch: Any = importlib.import_module("lightning.pytorch")
    except ImportError:
        pytorch = importlib.import_module("pytorch_lightning")

    class AverageCallback(pytorch.Callback):  # type: ignore[misc]  # the base is imported late
        """Averages a Lightning module: a `ms.Average`, updated by the steps of its optimizers.

            average.update() after each optimizer step, with the parameters as that step left them

        Batches over which gradients are accumulated do not count, nor do steps that the gradient scaler skips. Of
        several optimizers each step counts.

        Validation, testing and prediction run on the average, which is in the module in the meantime: metrics and the
        choice of the best checkpoint are those of the average. Before the first update it is the module itself.
        `state_dict` in a checkpoint are the trained weights, also in one that is saved in the middle of a validation;
        the average is in it as the state of the callback. Resuming goes on to the bit, and `validate`, `test` and
        `predict` with `ckpt_path=` evaluate the average that the checkpoint has. Training that goes on from a
        checkpoint without it starts it there. After training the module has the trained weights, too:
        `callback.average.copy_to(model)` gives it the average.

        Parameters
        ----------
        rule:
            The rule of the average, such as `ms.ema(0.999)`.
        name:
            What the state is called in checkpoints, besides the class: two callbacks of one trainer need two names.
        evaluate:
            Whether validation, testing and prediction run on this average; of several callbacks of a trainer, on one.
        resume_rule:
            Which rule goes on with the average of a checkpoint: "same" refuses one of another rule, "mine" takes this
            rule, "theirs" that of the checkpoint.
        options:
            Those of `ms.Average`: `dtype=`, `select=`, `rounding=`, `offload=`, ...

        Raises
        ------
        NotARule:
            What is given is no rule for whole models.
        SwapError:
            Two callbacks of one trainer are to be evaluated.
        CheckpointError:
            The strategy divides the model among processes (FSDP, ModelParallelStrategy, ZeRO-3): raised by all of them,
            before training begins, since the trainer saves the state of one. `DDP` and its like are served.
        CheckpointMismatch:
            The average of a checkpoint is of another rule or module, or there is none in one that is to be evaluated.
        """

        def __init__(
            self,
            rule: Mean,
            *,
            name: str = "average",
            evaluate: bool = True,
            resume_rule: ResumeRule = "same",
            **options: Any,
        ):
            if not isinstance(rule, Mean):
                raise NotARule(f"AverageCallback takes a rule, such as ms.ema(0.999), got {shown(rule)}.")
            super().__init__()
            self.rule, self.name, self.evaluate, self.options = rule, name, evaluate, options
            self.resume_rule = checked_resume_rule(resume_rule)
            self.average: Any = None
            self._module: Any = None
            self._loaded: Any = None
            self._hooks, self._evaluation = ExitStack(), Evaluation()
            self._told = False  # whether the checkpoint of this run said anything of the average

        # --- the module ----------------------------------------------------------------------------------------------
        def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
            self._told = False

        def _bind(self, module: Any) -> None:
            """Average this module, which is where it will be trained by now; then what a checkpoint had."""
            if self._module is not module:
                self.average, self._module = average_for(module, self.rule, self.options), module
            if self._loaded is not None:
                state = {"rule": self._loaded["rule"], **self._loaded["average"]}  # of 0.1 the rule is outside
                resumed(lambda: self.average.load_state_dict(state, rule=self.resume_rule))
                self.rule = self.average.rule
                self._loaded = None

        def _leave_behind(self, trainer: Any) -> bool:
            """Forget an average of other weights, if a checkpoint without an average has just replaced them."""
            if trainer.ckpt_path is None or self._told:
                return False
            self.average = self._module = None
            self._told = True
            return True

        def on_train_start(self, trainer: Any, pl_module: Any) -> None:
            self._leave_behind(trainer)
            self._bind(pl_module)
            for optimizer in trainer.optimizers:
                self._hooks.enter_context(self.average.attach(optimizer))

        def on_train_end(self, trainer: Any, pl_module: Any) -> None:
            self._hooks.close()

        def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
            self._evaluation.end()
            self._hooks.close()

        # --- the average in its place --------------------------------------------------------------------------------
        def _swap_in(self, trainer: Any, pl_module: Any) -> None:
            if self._leave_behind(trainer) and self.evaluate and trainer.state.fn != "fit":
                raise CheckpointMismatch(
                    f"{trainer.ckpt_path} has no state of AverageCallback(name={self.name!r}), so that there is no "
                    "average to evaluate. AverageCallback(rule, evaluate=False) evaluates the module itself."
                )
            if self._loaded is not None:
                self._bind(pl_module)
            if self.evaluate and self._module is pl_module and self.average.count:
                mine = [c.name for c in trainer.callbacks if isinstance(c, AverageCallback) and c.evaluate]
                if len(mine) > 1:
                    raise SwapError(
                        f"One average at a time can be in the module: give all of {mine} but one evaluate=False."
                    )
                self._evaluation.begin(self.average, self._saved_as_trained(trainer, pl_module))

        def _swap_out(self, trainer: Any, pl_module: Any) -> None:
            self._evaluation.end()

        @contextmanager
        def _saved_as_trained(self, trainer: Any, module: Any) -> Iterator[None]:
            """Inside of the block a checkpoint of the trainer has the trained weights, not those that the module holds.

            Lightning calls the module's own hook for each checkpoint, also for those of weights only.
            """

            def on_save_checkpoint(checkpoint: dict[str, Any]) -> None:
                with self._evaluation.paused():
                    trained = deepcopy(trainer.strategy.lightning_module_state_dict())
                saved = checkpoint["state_dict"]
                saved.update((name, trained[name]) for name in list(saved) if name in trained)
                type(module).on_save_checkpoint(module, checkpoint)

            module.on_save_checkpoint = on_save_checkpoint
            try:
                yield
            finally:
                del module.on_save_checkpoint

        on_validation_start = on_test_start = on_predict_start = _swap_in
        on_validation_end = on_test_end = on_predict_end = _swap_out

        # --- checkpoints ---------------------------------------------------------------------------------------------
        @property
        def state_key(self) -> str:
            return f"{self.__class__.__qualname__}[{self.name}]"

        def state_dict(self) -> dict[str, Any]:
            if self._loaded is not None:
                return dict(self._loaded)
            if self.average is None:
                return {"rule": repr(self.rule)}
            with self._evaluation.paused():
                return {"rule": repr(self.rule), "average": self.average.state_dict()}

        def load_state_dict(self, state_dict: dict[str, Any]) -> None:
            self._told = True
            self._loaded = state_dict if "average" in state_dict else None

    AverageCallback.__qualname__ = "AverageCallback"
    AverageCallback.__module__ = __name__
    return AverageCallback
