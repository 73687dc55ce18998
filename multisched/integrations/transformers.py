"""An average of a model that a Hugging Face `Trainer` trains: it is what is evaluated, and stands in the checkpoints.

`transformers.Trainer(model, arguments, callbacks=[AverageCallback(ms.ema(0.999))], ...)` is all there is to it.

The Trainer has no event before an evaluation, but tells its optimizer, for optimizers that hold averages themselves:
`optimizer.eval()` before it, `optimizer.train()` before a step of training. The callback gives its optimizer these.
"""

import importlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any

from multisched.averages.mean import Mean
from multisched.errors import CheckpointError, NotARule, SwapError, shown
from multisched.integrations.evaluation import Evaluation, average_for
from multisched.trees import load, save
from multisched.trees.attach import innermost
from multisched.trees.saved_rule import ResumeRule, checked_resume_rule, resumed


def __getattr__(name: str) -> Any:
    """`AverageCallback`, which is made when it is first asked for, since transformers is imported for it."""
    if name == "AverageCallback":
        return _callback_class()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


@cache
def _callback_class() -> Any:
    transformers: Any = importlib.import_module("transformers")

    class AverageCallback(transformers.TrainerCallback):  # type: ignore[misc]  # the base is imported late
        """Averages the model of a `transformers.Trainer`: a `ms.Average`, updated by the steps of its optimizer.

            average.update() after each optimizer step, with the parameters as that step left them

        Batches over which gradients are accumulated do not count, nor do steps that the gradient scaler skips.

        From the start of training on, `evaluate` and `predict` run on the average, which is in the model in the
        meantime: metrics and the choice of the best checkpoint are those of the average. Each checkpoint has the
        trained weights where they always are, and the average beside them, in `multisched_average.safetensors`, except
        in a search for hyperparameters. What is saved in the middle of an evaluation is the trained model, too: there
        `model.state_dict()` gives the trained weights. Resuming goes on to the bit. With `load_best_model_at_end` the
        average becomes that of the best model, too. `callback.average.copy_to(model)` gives the model the average.

        Parameters
        ----------
        rule:
            The rule of the average, such as `ms.ema(0.999)`.
        name:
            What the file is called after `multisched_`: two callbacks of one trainer need two names.
        evaluate:
            Whether evaluation and prediction run on this average; of several callbacks of a trainer, on one.
        resume:
            The checkpoint folder that has the average of a run that is resumed; by default the folder of that step in
            `output_dir`. False starts a new average, for a run that had none.
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
            Two callbacks of one trainer are to be evaluated, or the trainer has an evaluation of its own.
        CheckpointError:
            A run is resumed where there is no average; as `CheckpointMismatch` where it is of another rule or model. Or
            the model is divided among processes (FSDP, ZeRO-3): raised by all of them, before training begins, since
            the trainer saves the file of one. `DDP` is served.
        """

        def __init__(
            self,
            rule: Mean,
            *,
            name: str = "average",
            evaluate: bool = True,
            resume: Any = None,
            resume_rule: ResumeRule = "same",
            **options: Any,
        ):
            if not isinstance(rule, Mean):
                raise NotARule(f"AverageCallback takes a rule, such as ms.ema(0.999), got {shown(rule)}.")
            self.rule, self.name, self.evaluate, self.resume, self.options = rule, name, evaluate, resume, options
            self.resume_rule = checked_resume_rule(resume_rule)
            self.average: Any = None
            self._hooks, self._evaluation = ExitStack(), Evaluation()
            self._model: Any = None
            self._told_of_it = False

        # --- training ------------------------------------------------------------------------------------------------
        def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            self._evaluation.end()
            self._hooks.close()
            self.average, self._model = average_for(kwargs["model"], self.rule, self.options), kwargs["model"]
            if state.global_step and self.resume is not False:
                self._load(_folder(args, state) if self.resume is None else Path(self.resume))
            optimizer = innermost(kwargs["optimizer"])
            self._hooks.enter_context(self.average.attach(optimizer))
            if self.evaluate:
                self._hooks.enter_context(_Listener(optimizer, "eval", self._swap_in))
                self._hooks.enter_context(_Listener(optimizer, "train", self._evaluation.end))

        def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            if args.load_best_model_at_end and state.best_model_checkpoint is not None:
                self._load(Path(state.best_model_checkpoint))

        # --- the average in its place --------------------------------------------------------------------------------
        def _swap_in(self) -> None:
            self._evaluation.end()
            self._told_of_it = True
            if self.average.count:
                self._evaluation.begin(self.average, self._saved_as_trained())

        @contextmanager
        def _saved_as_trained(self) -> Iterator[None]:
            """Inside of the block `model.state_dict()`, which is what is saved, gives the trained weights."""

            def trained(module: Any, state: dict[str, Any], prefix: str, metadata: Any) -> None:
                with self._evaluation.paused():
                    state.update(deepcopy(dict(state)))  # what it had shares the memory of the parameters

            hook = self._model._register_state_dict_hook(trained)
            try:
                yield
            finally:
                hook.remove()

        def _swap_out(self) -> None:
            self._evaluation.end()
            told, self._told_of_it = self._told_of_it, False
            if self.evaluate and self.average is not None and not told:
                raise SwapError(
                    "The model was evaluated as it is, since this trainer does not call optimizer.eval() before: "
                    "give the callback evaluate=False, and evaluate in the block of callback.average.swapped()."
                )

        def on_evaluate(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            self._swap_out()

        def on_predict(self, args: Any, state: Any, control: Any, metrics: Any, **kwargs: Any) -> None:
            self._swap_out()

        # --- checkpoints ---------------------------------------------------------------------------------------------
        def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            if args.should_save and not state.is_hyper_param_search:
                with self._evaluation.paused():
                    save(_folder(args, state) / self._file, self.average)

        @property
        def _file(self) -> str:
            return f"multisched_{self.name}.safetensors"

        def _load(self, folder: Path) -> None:
            if not (folder / self._file).is_file():
                raise CheckpointError(
                    f"The run goes on from a checkpoint, but {folder} has no {self._file}. Name the folder that has, "
                    "AverageCallback(rule, resume=folder), or start a new average with resume=False."
                )
            resumed(lambda: load(folder / self._file, self.average, rule=self.resume_rule))
            self.rule = self.average.rule

    AverageCallback.__qualname__ = "AverageCallback"
    AverageCallback.__module__ = __name__
    return AverageCallback


def _folder(args: Any, state: Any) -> Path:
    return Path(args.output_dir) / f"checkpoint-{state.global_step}"


class _Listener:
    """Within its block, calls a function after an optimizer's own method for an event, such as `eval`."""

    def __init__(self, optimizer: Any, event: str, then: Any):
        self._optimizer, self._event, self._then = optimizer, event, then
        self._own = getattr(optimizer, event, None)

    def __call__(self) -> None:
        if self._own is not None:
            self._own()
        self._then()

    def __enter__(self) -> None:
        if isinstance(self._own, _Listener):
            raise SwapError("One average at a time can be in the model: give other callbacks evaluate=False.")
        setattr(self._optimizer, self._event, self)

    def __exit__(self, *_: Any) -> None:
        delattr(self._optimizer, self._event)
